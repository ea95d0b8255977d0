"""OIP answers in JSON and binary: `InferenceResponse` to body and headers.

Everything that does not change from one answer to the next is prepared once per model, version and output.
"""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import Any

import msgspec
import numpy as np
import orjson

from limen.contracts.errors import InvalidArgument, Reason
from limen.contracts.inference import InferenceResponse, RequestedOutput
from limen.contracts.oip.wire import encode_raw
from limen.contracts.tensors import WIRE_OF, Array
from limen.gateway.engine.message import Response

_NUMPY = orjson.OPT_SERIALIZE_NUMPY
_OCTETS = b"application/octet-stream"
_NOTHING: dict[str, bool | None] = {}


def encode_json(response: InferenceResponse) -> bytes:
    """Return the JSON body of an answer whose tensors all travel as JSON."""
    outputs = response.outputs
    if len(outputs) == 1 and not response.id and not response.parameters:
        ((name, array),) = outputs.items()
        start = _start(response.model_name, response.model_version, name, array.dtype, array.shape)
        if start is not None:
            flat = array if array.ndim == 1 else array.ravel()
            if not flat.flags.c_contiguous:
                flat = np.ascontiguousarray(flat)
            return b"%s%s}]}" % (start, orjson.dumps(flat, option=_NUMPY))
    parts = [_head(response.model_name, response.model_version)]
    if response.id:
        parts.append(b'"id":"%s",' % response.id.encode())
    if response.parameters:
        parts.append(b'"parameters":%s,' % msgspec.json.encode(response.parameters))
    parts.append(b'"outputs":[')
    comma = b""
    for name, array in response.outputs.items():
        parts.append(comma)
        parts.append(_open(name, WIRE_OF[array.dtype]))
        parts.append(_shape(array))
        parts.append(b',"data":')
        parts.append(_data(array, name))
        parts.append(b"}")
        comma = b","
    parts.append(b"]}")
    return b"".join(parts)


@lru_cache(maxsize=4096)
def _start(model: str, version: str, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes | None:
    """Return an answer of one tensor up to its values; None when these are not plain numbers."""
    if dtype.kind not in "iufb" or (dtype.kind == "f" and dtype.itemsize == 2):
        return None
    return b'%s"outputs":[%s%s,"data":' % (_head(model, version), _open(name, WIRE_OF[dtype]), orjson.dumps(shape))


def encode_mixed(response: InferenceResponse, requested: tuple[RequestedOutput, ...], *, binary: bool) -> Response:
    """Return an answer some of whose tensors may travel as raw bytes after the JSON.

    Args:
        response: the answer.
        requested: what the caller asked of single outputs.
        binary: what holds for outputs of which nothing was asked.
    """
    asked = {o.name: o.binary for o in requested} if requested else _NOTHING
    if binary and not asked and not response.id and not response.parameters:
        return _all_binary(response)
    blobs: list[bytes] = []
    outputs = []
    for name, array in response.outputs.items():
        choice = asked.get(name)
        if binary if choice is None else choice:
            blob = encode_raw(array)
            blobs.append(blob)
            tail = b',"parameters":{"binary_data_size":%d}}' % len(blob)
        else:
            tail = b',"data":' + _data(array, name) + b"}"
        outputs.append(_open(name, WIRE_OF[array.dtype]) + _shape(array) + tail)
    said = b'"id":"%s",' % response.id.encode() if response.id else b""
    if response.parameters:
        said += b'"parameters":%s,' % msgspec.json.encode(response.parameters)
    head = _head(response.model_name, response.model_version)
    text = head + said + b'"outputs":[' + b",".join(outputs) + b"]}"
    if not any(blobs):
        return Response(text)
    length = b"inference-header-content-length: %d\r\n" % len(text)
    return Response(b"".join((text, *blobs)), _OCTETS, head=length)


def _all_binary(response: InferenceResponse) -> Response:
    """Return an answer in which everything is binary; its JSON part is the same for every answer of these shapes."""
    outputs = response.outputs
    if len(outputs) == 1:
        ((name, array),) = outputs.items()
        if array.dtype.kind != "O":
            text, head = _binary_text_of_one(
                response.model_name, response.model_version, name, array.dtype, array.shape
            )
            if head:
                return Response(b"%s%s" % (text, array.tobytes()), _OCTETS, 200, head)
    blobs = [encode_raw(array) for array in outputs.values()]
    parts = tuple(
        (name, WIRE_OF[array.dtype], array.shape, len(blob))
        for (name, array), blob in zip(response.outputs.items(), blobs, strict=True)
    )
    text, head = _binary_text(response.model_name, response.model_version, parts)
    return Response(b"".join((text, *blobs)), _OCTETS, head=head) if head else Response(text)


@lru_cache(maxsize=4096)
def _binary_text_of_one(
    model: str, version: str, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]
) -> tuple[bytes, bytes]:
    return _binary_text(model, version, ((name, WIRE_OF[dtype], shape, prod(shape) * dtype.itemsize),))


@lru_cache(maxsize=4096)
def _binary_text(
    model: str, version: str, parts: tuple[tuple[str, str, tuple[int, ...], int], ...]
) -> tuple[bytes, bytes]:
    """Return the JSON part of an all-binary answer, and the header that gives its length if bytes follow."""
    outputs = [
        b'%s%s,"parameters":{"binary_data_size":%d}}' % (_open(name, wire), orjson.dumps(shape), size)
        for name, wire, shape, size in parts
    ]
    text = _head(model, version) + b'"outputs":[' + b",".join(outputs) + b"]}"
    has_bytes = any(size for *_, size in parts)
    return text, b"inference-header-content-length: %d\r\n" % len(text) if has_bytes else b""


@lru_cache(maxsize=1024)
def _head(model: str, version: str) -> bytes:
    return b'{"model_name":%s,"model_version":%s,' % (msgspec.json.encode(model), msgspec.json.encode(version))


@lru_cache(maxsize=8192)
def _open(name: str, wire: str) -> bytes:
    return b'{"name":%s,"datatype":"%s","shape":' % (msgspec.json.encode(name), wire.encode())


def _shape(array: Array) -> bytes:
    shape = array.shape
    return b"[%d]" % shape if len(shape) == 1 else orjson.dumps(shape)


def _data(array: Array, name: str) -> bytes:
    """Return the values as a flat JSON list; NaN (allowed only where a value may be missing) is null."""
    kind = array.dtype.kind
    if kind == "O":
        return _texts(array, name)
    if array.dtype.itemsize == 2 and kind not in "iu":
        text = "cannot be written as JSON numbers; request binary data"
        raise InvalidArgument.at(f"outputs.{name}", text, Reason.DTYPE)
    flat = array if array.ndim == 1 else array.ravel()
    return orjson.dumps(flat if flat.flags.c_contiguous else np.ascontiguousarray(flat), option=_NUMPY)


def _texts(array: Array, name: str) -> bytes:
    try:
        return orjson.dumps([v.decode() if isinstance(v, bytes) else v for v in array.ravel()])
    except UnicodeDecodeError as exc:
        text = "contains bytes that are not UTF-8; request binary data"
        raise InvalidArgument.at(f"outputs.{name}", text, Reason.DTYPE) from exc
