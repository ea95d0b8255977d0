"""Tensors as raw bytes, as OIP's binary extension and gRPC's raw contents carry them.

Little-endian, row-major; BOOL is one byte 0 or 1; each BYTES element is a 4-byte little-endian length and its bytes.
Sizes are checked with integer arithmetic before anything is allocated.
Source: Open Inference Protocol (gRPC, "Tensor Data"), Triton's binary tensor data extension.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from limen.contracts.errors import InvalidArgument, Reason
from limen.contracts.names import shown
from limen.contracts.tensors import BY_WIRE, MAX_TEXTS, Array, ElementType, Kind, too_many_texts

MAX_DIMENSIONS: Final = 32
MAX_ELEMENTS: Final = 1 << 31
MAX_BYTES_ELEMENT: Final = 8 << 20
"""Largest single BYTES element, in bytes."""
_LENGTH = struct.Struct("<I")


def element_of(datatype: str, path: str) -> ElementType:
    """Return the element type of an OIP datatype or raise `InvalidArgument`."""
    found = BY_WIRE.get(datatype)
    if found is None:
        raise InvalidArgument.at(path, f"must be one of {', '.join(BY_WIRE)}", Reason.DTYPE)
    return found


def element_count(shape: Sequence[int], path: str) -> int:
    """Return the number of elements of a shape whose dimensions are plain non-negative integers.

    Raises:
        InvalidArgument: a negative dimension, more than 32 of them, or more than 2^31 elements.
    """
    if len(shape) > MAX_DIMENSIONS:
        raise InvalidArgument.at(path, f"at most {MAX_DIMENSIONS} dimensions are allowed", Reason.SHAPE_OVERFLOW)
    count = 1
    for dimension in shape:
        if dimension < 0:
            raise InvalidArgument.at(path, "dimensions must be 0 or greater", Reason.SHAPE_MISMATCH)
        if dimension > MAX_ELEMENTS:
            raise InvalidArgument.at(path, "the tensor is too large", Reason.SHAPE_OVERFLOW)
        count *= dimension
    # A zero dimension must not hide an absurd one, so the largest partial product counts as well.
    if count > MAX_ELEMENTS or (count == 0 and _product_without_zeros(shape) > MAX_ELEMENTS):
        raise InvalidArgument.at(path, "the tensor is too large", Reason.SHAPE_OVERFLOW)
    return count


def _product_without_zeros(shape: Sequence[int]) -> int:
    product = 1
    for dimension in shape:
        product *= dimension or 1
    return product


def decode_raw(element: ElementType, shape: Sequence[int], data: bytes | memoryview, path: str) -> Array:
    """Return the tensor that `data` holds; numeric tensors share memory with `data` and are read-only.

    Args:
        element: the element type the request names.
        shape: the shape the request names, already plain integers.
        data: exactly the bytes of this tensor.
        path: where the tensor is in the request, for the error text.

    Raises:
        InvalidArgument: too few or too many bytes, a bad BOOL byte, an element that runs past the end.
    """
    count = element_count(shape, f"{path}.shape")
    if element.size == 0:
        return _decode_bytes(count, shape, data, path)
    expected = count * element.size
    if len(data) != expected:
        text = f"{expected} bytes are needed for this shape and datatype, {len(data)} were sent"
        raise InvalidArgument.at(path, text, Reason.DATA_SIZE)
    if element.kind is Kind.BOOL:
        raw = np.frombuffer(data, np.uint8)
        if count and raw.max() > 1:
            raise InvalidArgument.at(path, "BOOL bytes must be 0 or 1", Reason.VALUE)
        return raw.view(np.bool_).reshape(shape)
    return np.frombuffer(data, element.dtype).reshape(shape)


def _decode_bytes(count: int, shape: Sequence[int], data: bytes | memoryview, path: str) -> Array:
    if count * 4 > len(data):
        raise InvalidArgument.at(path, f"{count} length-prefixed elements are needed", Reason.DATA_SIZE)
    if count > MAX_TEXTS:
        raise too_many_texts()
    values = np.empty(count, object)
    end = len(data)
    offset = 0
    for i in range(count):
        if offset + 4 > end:
            raise InvalidArgument.at(path, f"element {i} has no length", Reason.DATA_SIZE)
        (length,) = _LENGTH.unpack_from(data, offset)
        offset += 4
        if length > end - offset:
            raise InvalidArgument.at(path, f"element {i} runs past the end of the data", Reason.DATA_SIZE)
        if length > MAX_BYTES_ELEMENT:
            raise _element_too_large(f"{path}[{i}]")
        values[i] = bytes(data[offset : offset + length])
        offset += length
    if offset != end:
        raise InvalidArgument.at(path, f"{end - offset} bytes are left over", Reason.DATA_SIZE)
    return values.reshape(shape)


def check_element_sizes(tensors: Mapping[str, Array]) -> None:
    """Raise `InvalidArgument` for a text or bytes element over the limit that raw tensors have too."""
    for name, array in tensors.items():
        if array.dtype.kind == "O":
            for i, value in enumerate(array.flat):
                if value is not None and _size(value) > MAX_BYTES_ELEMENT:
                    raise _element_too_large(f"{shown(name)}[{i}]")


def _size(value: str | bytes) -> int:
    # A character has up to four bytes; most values are too short to need counting.
    return len(value.encode()) if isinstance(value, str) and len(value) * 4 > MAX_BYTES_ELEMENT else len(value)


def _element_too_large(path: str) -> InvalidArgument:
    return InvalidArgument.at(path, f"may have at most {MAX_BYTES_ELEMENT} bytes", Reason.ELEMENT_TOO_LARGE)


def encode_raw(array: Array) -> bytes:
    """Return the tensor's bytes; object arrays (str or bytes elements) become BYTES."""
    if array.dtype.kind != "O":
        return array.tobytes()
    parts: list[bytes] = []
    for value in array.ravel():
        item = value.encode() if isinstance(value, str) else bytes(value or b"")
        parts.append(_LENGTH.pack(len(item)))
        parts.append(item)
    return b"".join(parts)
