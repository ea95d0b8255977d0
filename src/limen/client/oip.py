"""Bodies and answers of the Open Inference Protocol over REST, with all tensors as raw bytes after a short JSON head.

Source: Open Inference Protocol (REST), Triton's binary tensor data extension.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from limen.client.transport import FALLBACK, Question, Reply
from limen.contracts.errors import Internal, InvalidArgument
from limen.contracts.inference import Parameter
from limen.contracts.oip.wire import decode_raw, element_of, encode_raw
from limen.contracts.tensors import Array, element_type_of

LENGTH_HEADER = "inference-header-content-length"


class _Output(msgspec.Struct):
    name: str
    datatype: str
    shape: tuple[int, ...]
    data: list[Any] | None = None
    parameters: dict[str, Any] = {}


class _Answer(msgspec.Struct):
    outputs: tuple[_Output, ...]
    model_name: str = ""
    model_version: str = ""
    parameters: dict[str, Parameter] = {}


def encode_question(question: Question) -> tuple[bytes, int]:
    """Return a request body and the length of its JSON part."""
    blobs: list[bytes] = []
    inputs = []
    for name, array in (question.tensors or {}).items():
        blobs.append(encode_raw(array))
        head = {"name": name, "datatype": wire_of(array), "shape": array.shape}
        inputs.append({**head, "parameters": {"binary_data_size": len(blobs[-1])}})
    body: dict[str, Any] = {"inputs": inputs, "parameters": {**question.parameters, "binary_data_output": True}}
    if question.outputs:
        body["outputs"] = [{"name": name} for name in question.outputs]
    text = msgspec.json.encode(body)
    return b"".join((text, *blobs)), len(text)


def decode_answer(body: bytes, json_length: str | None, request_id: str) -> Reply:
    """Return the answer in a body.

    Args:
        body: the body.
        json_length: what the header says about its JSON part; None when all of it is JSON.
        request_id: what the server calls the request.

    Raises:
        Internal: it is not an answer of the protocol.
    """
    try:
        at = len(body) if json_length is None else int(json_length)
        said = msgspec.json.decode(body[:at], type=_Answer)
        tensors: dict[str, Array] = {}
        for output in said.outputs:
            size = output.parameters.get("binary_data_size")
            if size is None:
                tensors[output.name] = _from_json(output)
                continue
            tensors[output.name] = decode_raw(
                element_of(output.datatype, output.name), output.shape, memoryview(body)[at : at + size], output.name
            )
            at += size
    except (msgspec.MsgspecError, UnicodeDecodeError, InvalidArgument, ValueError, TypeError) as exc:
        raise Internal("the answer is not an Open Inference Protocol answer") from exc
    return Reply(
        model=said.model_name,
        version=said.model_version,
        request_id=request_id,
        is_fallback=FALLBACK in said.parameters,
        tensors=tensors,
    )


def wire_of(array: Array) -> str:
    """Return the datatype of an array that is one of ours."""
    element = element_type_of(array.dtype)
    if element is None:
        raise Internal
    return element.wire


def _from_json(output: _Output) -> Array:
    element = element_of(output.datatype, output.name)
    values = output.data if output.data is not None else []
    array: Array = np.array([np.nan if v is None and element.size else v for v in values], element.dtype)
    return array.reshape(output.shape)
