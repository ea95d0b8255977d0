"""OIP tensors in JSON and binary bodies: `InferenceRequest` in, `InferenceResponse` out.

Source: Open Inference Protocol (REST) and Triton's binary tensor data extension. Small bodies go through msgspec's typed
decoder, large numeric ones through simdjson; both refuse what the protocol does not allow. When either refuses, the exact walk
of `gateway.http.oip.tensor_errors` says why.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from functools import lru_cache
from itertools import chain
from math import prod
from typing import Any, Final, cast

import msgspec
import numpy as np

from limen.contracts.errors import InvalidArgument, Reason
from limen.contracts.inference import InferenceRequest, Parameter, RequestedOutput
from limen.contracts.names import parse_request_id
from limen.contracts.oip.content_types import MAY_BE_NULL, from_base64, is_base64_content
from limen.contracts.oip.outline import MAX_OUTLINES, Outline
from limen.contracts.oip.parameters import NONE, Options, read_parameters
from limen.contracts.oip.wire import (
    MAX_DIMENSIONS,
    check_element_sizes,
    decode_raw,
    element_count,
    element_of,
)
from limen.contracts.strict import json as strict_json
from limen.contracts.strict.pieces import LARGE_TEXT, Text
from limen.contracts.tensors import BY_WIRE, Array, ElementType, Kind, TensorBudget, is_whole
from limen.gateway.engine.errors import id_in
from limen.gateway.http.oip import tensor_errors
from limen.gateway.http.oip.bodies import JsonBody, JsonInput, Optional, Parameters
from limen.gateway.http.oip.large_tensors import LargeBody
from limen.gateway.http.oip.numbers import scan
from limen.gateway.http.oip.outlines import JsonOutlines
from limen.gateway.http.oip.requested import no_shared_memory, requested_output

LARGE_BODY: Final = 6144
"""Bytes from which simdjson beats msgspec on a numeric body (measured by `benchmarks/`; about 900 numbers)."""
MAX_INPUTS: Final = 1024
MAX_OUTLINE: Final = 2048
"""Bytes up to which the JSON part of a binary body is remembered."""

UNSET: Final = msgspec.UNSET
_NUMBERS = frozenset({float, int})
_TYPES: Final = {
    Kind.BOOL: frozenset({bool}),
    Kind.INT: frozenset({int}),
    Kind.FLOAT: _NUMBERS,
    Kind.TEXT: frozenset({str}),
    Kind.BINARY: frozenset({str}),
}
_NULL: Final = type(None)
_PACKING: Final = {
    wire: (code, BY_WIRE[wire].dtype)
    for wire, code in zip(
        ("INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64", "FP32", "FP64"),
        "bhiqBHIQfd",
        strict=True,
    )
}
"""Codes of the struct module."""
MAX_PACKED: Final = 4096
"""Values up to which packing is used; larger tensors come through simdjson."""


_decode = msgspec.json.Decoder(JsonBody).decode
_NO_BLOBS: Final = memoryview(b"")
_json_outlines: Final = JsonOutlines()
_outlines: Final[dict[bytes, tuple[Outline, Options]]] = {}
"""JSON parts read before, byte for byte."""


def decode_infer(body: Text, header_length: int | None) -> tuple[InferenceRequest, Options]:
    """Return the request of an infer body, and what it asks of the gateway; model name and version are the caller's to set.

    Args:
        body: the decoded body.
        header_length: bytes of the JSON part when the body is binary, None when it is all JSON.

    Raises:
        InvalidArgument: with the path of every mistake that was looked for and none of the values.
    """
    if len(body) > LARGE_TEXT:
        size = len(body) if header_length is None else header_length
        return _decode_large(body if size == len(body) else body[:size], memoryview(body)[size:])
    body = bytes(body)
    text, blobs = body, _NO_BLOBS
    if header_length is None:
        known = _json_outlines.recall(body)
        if known is not None:
            return known
    else:
        text = body[:header_length]
        remembered = _outlines.get(text)
        if remembered is not None and len(body) == header_length + remembered[0].size:
            return remembered[0].read(body, header_length), remembered[1]
        blobs = memoryview(body)[header_length:]
    if len(text) >= LARGE_BODY:
        numeric = _decode_numbers(text) if header_length is None else None
        if numeric is not None:
            return numeric
    parsed = _parse(text)
    request, options = _request(parsed, blobs, may_pack=b"true" not in text and b"false" not in text)
    if header_length is None:
        packing = _PACKING.get(parsed.inputs[0].datatype)
        # Only numbers that were packed: a flat list without null, true or false.
        if packing is not None and request.is_finite:
            _json_outlines.remember(text, request, options, packing[0], _decode)
    elif header_length <= MAX_OUTLINE:
        _remember(text, request, options, len(blobs))
    return request, options


def _parse(text: bytes) -> JsonBody:
    """Return the JSON part as it stands."""
    try:
        parsed = _decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise tensor_errors.explain(text) from exc
    colons = text.count(b":")
    # The plainest body has four members a tensor and nothing else; only others are counted exactly.
    if colons != 1 + 4 * len(parsed.inputs) and colons != _members(parsed) and strict_json.has_duplicate_keys(text):
        raise InvalidArgument("an object repeats a key", reason=Reason.DUPLICATE_KEY)
    return parsed


def _decode_large(text: Text, blobs: memoryview) -> tuple[InferenceRequest, Options]:
    """Return the request of a large body; not for the event loop."""
    large = LargeBody(text)
    try:
        request, options = _request(_parse(large.beside), blobs, may_pack=False, large=large)
        check_element_sizes(request.inputs)
    except InvalidArgument as exc:
        exc.request_id = id_in(large.beside)
        raise
    return request, options


def _remember(text: bytes, request: InferenceRequest, options: Options, size: int) -> None:
    """Keep the JSON part of a request whose inputs were all binary: the next one differs in its numbers only."""
    outline = Outline.of(request, size)
    if outline is not None:
        if len(_outlines) >= MAX_OUTLINES:
            _outlines.clear()
        _outlines[text] = outline, options


def _members(body: JsonBody) -> int:
    """Return how many members the JSON text must have; more colons than this mean a repeated key or colons in text."""
    count = 1 + (body.id is not UNSET) + (body.model_name is not UNSET) + _parameter_members(body.parameters)
    for tensor in body.inputs:
        count += (3 if tensor.data is UNSET else 4) + _parameter_members(tensor.parameters)
    if body.outputs is not UNSET:
        count += 1 + sum(1 + _parameter_members(output.parameters) for output in body.outputs or ())
    return count


def _parameter_members(parameters: Parameters | Optional) -> int:
    """Return the members that parameters add to a body: their key and their own."""
    return 0 if parameters is UNSET else 1 + len(parameters or ())


def _given(parameters: Parameters | Optional, path: str) -> Mapping[str, Parameter]:
    """Return the parameters without those that MLServer's client writes whether it has them or not."""
    if not parameters:
        return NONE
    if None not in parameters.values():
        return cast("Mapping[str, Parameter]", parameters)
    given = {key: value for key, value in parameters.items() if value is not None or key not in MAY_BE_NULL}
    if None in given.values():
        text = "must hold text, numbers, true and false only"
        raise InvalidArgument.at(path, text, Reason.INVALID_PARAMETER)
    return cast("Mapping[str, Parameter]", given)


def _request(
    body: JsonBody, blobs: memoryview, *, may_pack: bool, large: LargeBody | None = None
) -> tuple[InferenceRequest, Options]:
    tensors = body.inputs
    if len(tensors) > MAX_INPUTS:
        raise InvalidArgument(f"at most {MAX_INPUTS} inputs are allowed", reason=Reason.INPUT_SET)
    inputs: dict[str, Array] = {}
    offset = 0
    budget = TensorBudget()
    is_finite = True  # JSON cannot carry NaN, and packing refuses what would overflow
    for i, tensor in enumerate(tensors):
        data = tensor.data
        array: Array | None = None
        if large is not None and i in large.places:
            array = _large_tensor(tensor, large, i, budget)
            is_finite = False
        elif data is UNSET or tensor.parameters:
            array, offset = _binary_or_json(tensor, blobs, offset, f"inputs[{i}]")
            is_finite = False
        else:
            array = _packed(tensor, data) if may_pack else None
            if array is None:
                is_finite = False
                array = json_tensor(tensor.datatype, tensor.shape, data, f"inputs[{i}]")
        if tensor.name in inputs:
            raise InvalidArgument.at(f"inputs[{i}].name", "is repeated", Reason.INPUT_SET)
        if large is not None and i not in large.places:
            budget.spend(array)
        inputs[tensor.name] = array
    if offset != len(blobs):
        text = f"{len(blobs) - offset} bytes are left over after the binary inputs"
        raise InvalidArgument(text, reason=Reason.DATA_SIZE)
    return _envelope(body, inputs, is_finite=is_finite)


def _envelope(body: JsonBody, inputs: dict[str, Array], *, is_finite: bool) -> tuple[InferenceRequest, Options]:
    """Return the request with everything that surrounds the input tensors, and what it asks of the gateway."""
    if not inputs:
        raise InvalidArgument.at("inputs", "at least one input is needed", Reason.INPUT_SET)
    # An empty one is none, as over gRPC: Triton's C++ client always sends one.
    request_id = parse_request_id(body.id) if body.id else ""
    outputs: tuple[RequestedOutput, ...] = ()
    if body.outputs:
        outputs = tuple(
            requested_output(o.name, _given(o.parameters, f"outputs[{i}].parameters"), f"outputs[{i}]")
            for i, o in enumerate(body.outputs)
        )
    parameters, options = read_parameters(_given(body.parameters, "parameters"), may_be_binary=True)
    # KServe's client names the model in the body too.
    request = InferenceRequest(body.model_name or "", inputs, "", request_id, parameters, outputs, is_finite=is_finite)
    return request, options


def _binary_or_json(tensor: JsonInput, blobs: memoryview, offset: int, path: str) -> tuple[Array, int]:
    parameters = _given(tensor.parameters, f"{path}.parameters")
    size = parameters.get("binary_data_size")
    is_base64 = False
    for key, value in parameters.items():
        if key.startswith("shared_memory"):
            raise no_shared_memory(path)
        if key == "content_type":
            is_base64 = is_base64_content(value, path)
        elif key != "binary_data_size":
            raise InvalidArgument.at(f"{path}.parameters", "has an unknown parameter", Reason.INVALID_PARAMETER)
    data = tensor.data
    if (size is None) == (data is UNSET):
        raise InvalidArgument.at(path, "needs exactly one of data and parameters.binary_data_size", Reason.DATA_SIZE)
    if data is not UNSET:
        array = json_tensor(tensor.datatype, tensor.shape, data, path)
        return from_base64(array, f"{path}.data") if is_base64 else array, offset
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise InvalidArgument.at(
            f"{path}.parameters.binary_data_size", "must be a whole number from 0", Reason.DATA_SIZE
        )
    if size > len(blobs) - offset:
        text = f"{size - (len(blobs) - offset)} bytes are missing from the body"
        raise InvalidArgument.at(path, text, Reason.DATA_SIZE)
    element = element_of(tensor.datatype, f"{path}.datatype")
    array = decode_raw(element, tensor.shape, blobs[offset : offset + size], path)
    return from_base64(array, path) if is_base64 else array, offset + size


def _large_tensor(tensor: JsonInput, large: LargeBody, number: int, budget: TensorBudget) -> Array:
    """Return a tensor whose data is read in pieces; what is said about the data counts as for small data."""
    path = f"inputs[{number}]"
    _binary_or_json(msgspec.structs.replace(tensor, data=[], shape=[0]), _NO_BLOBS, 0, path)
    array = large.data(number, tensor.datatype, tensor.shape, json_tensor, budget)
    content = _given(tensor.parameters, path).get("content_type", "")
    return from_base64(array, f"{path}.data") if content and is_base64_content(content, path) else array


def json_tensor(datatype: str, shape: list[int], data: list[Any], path: str) -> Array:
    """Return the tensor of JSON values, flat or nested row-major.

    Raises:
        InvalidArgument: DTYPE, SHAPE_MISMATCH, SHAPE_OVERFLOW or NUMBER_RANGE.
    """
    element = element_of(datatype, f"{path}.datatype")
    count = element_count(shape, f"{path}.shape")
    kinds = set(map(type, data))
    if list in kinds or len(data) != count:
        data = _flatten(data, shape, path)
        kinds = set(map(type, data))
    if float in kinds and element.kind is Kind.INT and all(type(v) is not float or is_whole(v) for v in data):
        # JSON has one kind of number: 36.0 is the whole number 36.
        data = [int(v) if type(v) is float else v for v in data]
        kinds = kinds - {float} | {int}
    allowed = _TYPES[element.kind]
    if not kinds <= allowed and not (kinds - allowed == {_NULL} and (element.kind is Kind.FLOAT or not element.size)):
        raise tensor_errors.wrong_element(data, allowed, element, f"{path}.data")
    return _array(element, data, path).reshape(shape)


def _packed(tensor: JsonInput, data: list[Any]) -> Array | None:
    """Return the tensor of a flat list of numbers, or None when it is anything else.

    Packing checks type and range of every value and is three times as fast as NumPy on a list. It takes true and false for
    numbers, so the caller makes sure that the text holds neither.
    """
    known = _PACKING.get(tensor.datatype)
    count = len(data)
    if known is None or count > MAX_PACKED or len(tensor.shape) > MAX_DIMENSIONS or count != prod(tensor.shape):
        return None
    try:
        return np.ndarray(tensor.shape, known[1], _packer(known[0], count)(*data))
    except (struct.error, OverflowError, ValueError):
        return None


@lru_cache(maxsize=1024)
def _packer(code: str, count: int) -> Callable[..., bytes]:
    return struct.Struct(f"<{count}{code}").pack


def _array(element: ElementType, data: list[Any], path: str) -> Array:
    if element.size == 2 and element.kind is Kind.FLOAT:
        text = f"{element.wire} cannot be given as JSON numbers; send the tensor in binary form"
        raise InvalidArgument.at(f"{path}.datatype", text, Reason.DTYPE)
    try:
        with np.errstate(over="raise"):
            return np.array(data, dtype=element.dtype)
    except (OverflowError, FloatingPointError) as exc:
        text = f"has a number that does not fit {element.wire}"
        raise InvalidArgument.at(f"{path}.data", text, Reason.NUMBER_RANGE) from exc


def _flatten(data: list[Any], shape: list[int], path: str) -> list[Any]:
    """Return the values of nested data after checking that its nesting is exactly that of the shape."""
    where = f"{path}.data"
    if list not in set(map(type, data)):
        raise InvalidArgument.at(where, f"must have {prod(shape)} values, got {len(data)}", Reason.SHAPE_MISMATCH)
    level, expected = data, 1
    for depth, dimension in enumerate(shape):
        expected *= dimension
        kinds = set(map(type, level))
        if len(level) != expected or (depth < len(shape) - 1) != (kinds == {list}):
            raise InvalidArgument.at(where, "has nesting that does not match the shape", Reason.SHAPE_MISMATCH)
        if depth < len(shape) - 1:
            if len(set(map(len, level))) > 1:
                raise InvalidArgument.at(where, "is ragged", Reason.SHAPE_MISMATCH)
            level = list(chain.from_iterable(level))
    return level


def _decode_numbers(text: bytes) -> tuple[InferenceRequest, Options] | None:
    """Return the request of a numeric JSON body, or None to have it read (and judged) the exact way."""
    try:
        outline, arrays, lists = scan(text)
        body = msgspec.convert(outline, JsonBody)
    except (ValueError, TypeError, KeyError, RuntimeError, ArithmeticError, msgspec.ValidationError):
        return None
    count = len(body.inputs)
    # The outline is without data. More colons than members: a repeated key, which simdjson drops.
    if len(arrays) != count or _has_more(text, b":", _members(body) + count):
        return None
    # More brackets than lists: data nested deeper than its shape, which simdjson flattens all the same.
    if _has_more(text, b"[", 1 + count + lists + bool(body.outputs)):
        return None
    return _envelope(body, arrays, is_finite=True)


def _has_more(text: bytes, mark: bytes, number: int) -> bool:
    """Return whether a byte occurs more than `number` times; for a few in a large text this is ten times as fast as counting."""
    at = -1
    for _ in range(number + 1):
        at = text.find(mark, at + 1)
        if at < 0:
            return False
    return True
