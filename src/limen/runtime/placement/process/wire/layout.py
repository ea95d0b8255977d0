"""Tensors as frame bodies: a `Layout` describes names and types once, so that frames hold only the bytes.

A body is one block a tensor, each filled up to a multiple of 8; the tensors of several requests lie one after the other in each
block, so that the replica sees one array for the whole run. A block of numbers is their bytes, little-endian and row-major. A block
of text or bytes is its length (u64), a word for each element (u32: length << 2 | kind; 0 None, 1 text, 2 bytes) and their bytes. With
the flag SHARED the body begins with a place for each tensor (u64): where its bytes lie in the arena, or INLINE.

Not here: headers (`frames`) and who may write where (`arena`). Called by both sides.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np

from limen.contracts.errors import InvalidOutput, ModelFailed
from limen.contracts.inference import Parameter
from limen.contracts.tensors import BY_NAME, Array, element_type_of
from limen.runtime.placement.process.wire.arena import SHARED_MIN, Arena, Region
from limen.runtime.placement.process.wire.frames import SHARED, BrokenFrame

Parts = list[Any]
"""Buffers that make a body when they are joined."""
Key = tuple[Any, ...]

INLINE: Final = (1 << 64) - 1
MAX_TEXT: Final = 1 << 30
_SIZE: Final = struct.Struct("<Q")
_PAD: Final = [bytes(n) for n in range(8)]
_NONE, _TEXT, _BINARY = 0, 1, 2


class _Tensor(NamedTuple):
    """One tensor of a layout."""

    name: str
    type: str
    inner: tuple[int, ...]
    dtype: np.dtype[Any]
    row_bytes: int
    """Bytes of one row; 0 for text and bytes, whose rows differ."""
    is_text: bool
    has_buffer: bool
    """Whether its arrays can be joined as they are: bfloat16 has no buffer of its own."""


class _Told(msgspec.Struct, array_like=True):
    """A layout as it travels."""

    tensors: list[tuple[str, str, list[int]]]
    parameters: list[tuple[str, str, str]]
    is_batched: bool


_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(_Told).decode


class Layout:
    """Names, types and inner shapes of tensors, and the parameters of their requests. Immutable."""

    __slots__ = ("is_batched", "is_plain", "largest_row", "parameters", "row_bytes", "tensors")

    def __init__(self, tensors: Sequence[_Tensor], parameters: Mapping[str, Parameter], *, is_batched: bool) -> None:
        self.tensors: Final = tuple(tensors)
        self.parameters: Final = parameters
        self.is_batched: Final = is_batched
        """Whether the first axis is the frame's rows; else it belongs to the inner shapes (parts of streams may differ)."""
        self.is_plain: Final = all(tensor.has_buffer for tensor in tensors)
        self.row_bytes: Final = tuple(tensor.row_bytes for tensor in tensors)
        self.largest_row: Final = max(self.row_bytes, default=0)

    def encode(self) -> bytes:
        """Return the layout as JSON."""
        tensors = [(t.name, t.type, list(t.inner)) for t in self.tensors]
        parameters = [(name, *_told(value)) for name, value in self.parameters.items()]
        return _encode(_Told(tensors, parameters, self.is_batched))

    def pack(self, groups: Sequence[Mapping[str, Array]], rows: int, arena: Arena | None) -> Body:
        """Return the tensors of requests that agree in this layout as one body.

        Large tensors go to `arena` while it has room. What is returned shares memory with the arrays.

        Raises:
            ModelFailed: the arrays are not what the layout says.
            InvalidOutput: an element that is neither text nor bytes nor None.
        """
        if self.is_plain and self.largest_row * rows < SHARED_MIN:
            parts: Parts = []
            size = 0
            for tensor in self.tensors:
                name = tensor.name
                parts += [group[name] for group in groups]
                bytes_ = tensor.row_bytes * rows
                size += bytes_
                if bytes_ & 7:
                    parts.append(_PAD[-bytes_ & 7])
                    size += -bytes_ & 7
            return Body(0, size, parts, ())
        return self._pack_all(groups, rows, arena)

    def _pack_all(self, groups: Sequence[Mapping[str, Array]], rows: int, arena: Arena | None) -> Body:
        parts: Parts = []
        places: list[int] = []
        regions: list[Region] = []
        size = 0
        for tensor in self.tensors:
            arrays = [group[tensor.name] for group in groups]
            place = INLINE
            if tensor.is_text:
                data = _text(arrays, tensor.name)
                parts += data
                size += sum(map(len, data))
            elif (bytes_ := tensor.row_bytes * rows) >= SHARED_MIN and (region := arena and arena.ring.take(bytes_)):
                _copy(arrays, tensor, rows, arena, region.start)
                regions.append(region)
                place = region.start
            else:
                parts += [
                    np.ascontiguousarray(array, tensor.dtype).view(np.uint8) if array.size else b"" for array in arrays
                ]
                size += bytes_
            if size & 7:
                parts.append(_PAD[-size & 7])
                size += -size & 7
            places.append(place)
        if not regions:
            return Body(0, size, parts, ())
        head = struct.pack(f"<{len(places)}Q", *places)
        return Body(SHARED, size + len(head), [head, *parts], tuple(regions))

    def unpack(self, data: bytes, start: int, end: int, rows: int, flags: int, arena: Arena | None) -> dict[str, Array]:
        """Return the tensors of a body; numbers share memory with it or with the arena, and are read-only in `bytes`.

        Raises:
            BrokenFrame: the body is not what the layout says.
        """
        try:
            if flags & SHARED or not self.is_plain:
                return self._unpack_all(data, start, end, rows, flags, arena)
            found: dict[str, Array] = {}
            for name, _, inner, dtype, row_bytes, _, _ in self.tensors:
                bytes_ = row_bytes * rows
                if bytes_ > end - start:
                    raise BrokenFrame("a tensor that runs past its frame")
                found[name] = np.ndarray((rows, *inner) if self.is_batched else inner, dtype, data, start)
                start += bytes_ + 7 & ~7
        except (TypeError, ValueError, OverflowError, struct.error) as exc:
            raise BrokenFrame("a body that does not fit its layout") from exc
        if start != end:
            raise BrokenFrame("a body of another length")
        return found

    def _unpack_all(
        self, data: bytes, start: int, end: int, rows: int, flags: int, arena: Arena | None
    ) -> dict[str, Array]:
        places: Sequence[int] = ()
        if flags & SHARED:
            count = len(self.tensors)
            if arena is None or 8 * count > end - start:
                raise BrokenFrame("a body without its places")
            places = struct.unpack_from(f"<{count}Q", data, start)
            start += 8 * count
        found: dict[str, Array] = {}
        for i, tensor in enumerate(self.tensors):
            shape = (rows, *tensor.inner) if self.is_batched else tensor.inner
            place = places[i] if places else INLINE
            if tensor.is_text:
                found[tensor.name], start = _texts(data, start, end, shape)
                continue
            if place != INLINE and arena is not None:
                found[tensor.name] = np.ndarray(shape, tensor.dtype, arena.map, place)
                continue
            bytes_ = tensor.row_bytes * rows
            if bytes_ > end - start:
                raise BrokenFrame("a tensor that runs past its frame")
            found[tensor.name] = np.ndarray(shape, tensor.dtype, data, start)
            start += bytes_ + 7 & ~7
        if start != end:
            raise BrokenFrame("a body of another length")
        return found


class Body(NamedTuple):
    """A body that is ready to be sent."""

    flags: int
    size: int
    parts: Parts
    regions: tuple[Region, ...]
    """The pieces of the arena it uses."""


def join(head: bytes, counts: bytes, body: Body) -> bytes:
    """Return a frame: the header, which must say the length, the row counts and the body.

    Raises:
        ModelFailed: the arrays are not as large as the layout says.
    """
    try:
        found = b"".join([head, counts, *body.parts])
    except (BufferError, ValueError, TypeError):
        # An array that is not in one piece.
        found = b"".join([head, counts, *(p.tobytes() if isinstance(p, np.ndarray) else p for p in body.parts)])
    if len(found) != len(head) + len(counts) + body.size:
        raise ModelFailed("the tensors of a batch do not agree")
    return found


def key_of(tensors: Mapping[str, Array], parameters: Mapping[str, Parameter], *, is_batched: bool = True) -> Key:
    """Return what two sets of tensors share when they share a layout."""
    if not is_batched:
        return (None, *[(name, array.dtype, array.shape) for name, array in tensors.items()])
    key: Key = tuple([(name, array.dtype, array.shape[1:]) for name, array in tensors.items()])
    # True, 1 and 1.0 are equal and are not the same.
    return (key, tuple([(name, *_told(value)) for name, value in parameters.items()])) if parameters else key


def layout_of(tensors: Mapping[str, Array], parameters: Mapping[str, Parameter], *, is_batched: bool = True) -> Layout:
    """Return the layout of tensors.

    Raises:
        ModelFailed: an element type that no contract knows.
    """
    found = []
    for name, array in tensors.items():
        element = element_type_of(array.dtype)
        if element is None or (is_batched and array.ndim == 0):
            raise ModelFailed(f"the tensor {name} has a type or shape that no contract knows")
        # Text by default: each element says what it is.
        type_ = element.name if element.size else "string"
        tensor = _tensor(name, type_, array.shape[1:] if is_batched else array.shape)
        # Another byte order has the same name and other bytes.
        found.append(tensor if array.dtype == element.dtype else tensor._replace(has_buffer=False))
    return Layout(found, dict(parameters), is_batched=is_batched)


def decode_layout(text: bytes | memoryview) -> Layout:
    """Return the layout that travelled.

    Raises:
        BrokenFrame: it is none.
    """
    try:
        told = _decode(text)
        tensors = [_tensor(name, type_, tuple(inner)) for name, type_, inner in told.tensors]
        parameters = {name: _PARAMETERS[kind](value) for name, kind, value in told.parameters}
    except (msgspec.MsgspecError, KeyError, ValueError, OverflowError) as exc:
        raise BrokenFrame("a layout that cannot be read") from exc
    return Layout(tensors, parameters, is_batched=told.is_batched)


def _tensor(name: str, type_: str, inner: tuple[int, ...]) -> _Tensor:
    element = BY_NAME[type_]
    if any(size < 0 for size in inner) or len(inner) > 64:
        raise ValueError(name)
    row_bytes = element.size * math.prod(inner)
    has_buffer = element.size > 0 and type_ != "bfloat16"
    return _Tensor(name, type_, inner, element.dtype, row_bytes, element.size == 0, has_buffer)


_PARAMETERS: Final[Mapping[str, Any]] = {
    "b": lambda text: text == "1",
    "i": int,
    "f": float.fromhex,
    "s": lambda text: text.encode("ascii").decode("unicode_escape") if "\\" in text else text,
}


def _told(value: Parameter) -> tuple[str, str]:
    """Return the kind and the exact text of a parameter."""
    if isinstance(value, bool):
        return "b", "1" if value else "0"
    if isinstance(value, int):
        return "i", str(value)
    if isinstance(value, float):
        return "f", value.hex()
    return "s", value.encode("unicode_escape").decode() if not value.isascii() or "\\" in value else value


def _copy(arrays: Sequence[Array], tensor: _Tensor, rows: int, arena: Arena | None, place: int) -> None:
    """Write arrays one after the other into the arena."""
    target: Array = np.ndarray((rows, *tensor.inner), tensor.dtype, arena.map if arena else None, place)
    start = 0
    for array in arrays:
        stop = start + len(array)
        target[start:stop] = array
        start = stop
    if start != rows:
        raise ModelFailed("the tensors of a batch do not agree")


def _text(arrays: Iterable[Array], name: str) -> list[bytes]:
    words: list[int] = []
    items: list[bytes] = []
    for array in arrays:
        for value in array.ravel().tolist():
            if isinstance(value, str):
                item, kind = value.encode("utf-8", "surrogatepass"), _TEXT
            elif isinstance(value, bytes):
                item, kind = value, _BINARY
            elif value is None:
                item, kind = b"", _NONE
            else:
                raise InvalidOutput(f"the elements of {name} must be text, bytes or None")
            if len(item) >= MAX_TEXT:
                raise ModelFailed("an element is too large for one message")
            words.append(len(item) << 2 | kind)
            items.append(item)
    data = b"".join(items)
    head = np.array(words, "<u4").tobytes()
    return [_SIZE.pack(len(head) + len(data)), head, data]


def _texts(data: bytes, start: int, end: int, shape: Sequence[int]) -> tuple[Array, int]:
    count = math.prod(shape)
    if end - start < 8:
        raise BrokenFrame("a tensor without its length")
    size = _SIZE.unpack_from(data, start)[0]
    start += 8
    if size > end - start or 4 * count > size:
        raise BrokenFrame("a tensor that runs past its frame")
    words = np.ndarray((count,), "<u4", data, start).tolist()
    at = start + 4 * count
    stop = start + size
    values: list[str | bytes | None] = []
    for word in words:
        after = at + (word >> 2)
        if after > stop:
            raise BrokenFrame("an element that runs past its tensor")
        kind = word & 3
        item = data[at:after]
        values.append(str(item, "utf-8", "surrogatepass") if kind == _TEXT else item if kind == _BINARY else None)
        at = after
    if at != stop:
        raise BrokenFrame("a tensor of another length")
    array: Array = np.empty(count, object)
    array[:] = values
    return array.reshape(shape), (stop + 7) & ~7
