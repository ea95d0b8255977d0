"""What a worker and its replica process say to each other: length-prefixed msgpack of these messages, and nothing executable.

A frame is four bytes of length (little-endian) and one message. Tensors of numbers travel as their bytes and are read without a
copy; text and bytes elements travel as a list. Both sides are Limen of the same version, started together.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec
import numpy as np

from limen.contracts import errors
from limen.contracts.errors import LimenError, ModelFailed, Reason
from limen.contracts.tensors import BY_NAME, Array, element_type_of

MAX_FRAME: Final = 1 << 31
_LENGTH = struct.Struct("<I")


class Block(msgspec.Struct, array_like=True, gc=False):
    """One tensor."""

    name: str
    type: str
    shape: tuple[int, ...]
    data: memoryview | list[Any]
    """The bytes of numbers; the elements (`str`, `bytes` or None) of text and bytes."""


class Start(msgspec.Struct, array_like=True, tag="start"):
    """Worker to replica, once: load this package."""

    root: str
    version: str
    trust_code: bool


class Ready(msgspec.Struct, array_like=True, tag="ready"):
    """Replica to worker, once: the model is loaded."""

    can_stream: bool


class Call(msgspec.Struct, array_like=True, tag="call", gc=False):
    """Worker to replica: answer this."""

    id: int
    rows: int
    inputs: list[Block]
    parameters: dict[str, str | bool | int | float]
    deadline_at: float
    """On the monotonic clock that all processes of a machine share; infinity when there is none."""
    is_stream: bool = False


class Cancel(msgspec.Struct, array_like=True, tag="cancel", gc=False):
    """Worker to replica: nobody waits for this any more."""

    id: int


class Answer(msgspec.Struct, array_like=True, tag="answer", gc=False):
    """Replica to worker: the answer, or one part of it."""

    id: int
    outputs: list[Block]
    is_last: bool = True


class Failure(msgspec.Struct, array_like=True, tag="failure", gc=False):
    """Replica to worker: why there is no answer; the text is from the catalogue. Id 0 is the loading itself."""

    id: int
    kind: str
    reason: str
    message: str


ToReplica = Start | Call | Cancel
ToWorker = Ready | Answer | Failure
_encode = msgspec.msgpack.Encoder().encode
decode_to_replica = msgspec.msgpack.Decoder(ToReplica).decode
decode_to_worker = msgspec.msgpack.Decoder(ToWorker).decode
_KINDS: Final = {
    name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, LimenError)
}


def frame(message: ToReplica | ToWorker) -> bytes:
    """Return a message as it travels."""
    body = _encode(message)
    if len(body) >= MAX_FRAME:
        raise ModelFailed("the tensors are too large for one message")
    return _LENGTH.pack(len(body)) + body


class Frames:
    """Cuts a stream of bytes into message bodies."""

    def __init__(self) -> None:
        """Start with an empty buffer."""
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the bodies that are whole now. Each is a copy of its own, so tensors may go on pointing into it."""
        self._buffer += data
        start = 0
        while len(self._buffer) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer, start)
            end = start + _LENGTH.size + length
            if end > len(self._buffer):
                break
            yield bytes(self._buffer[start + _LENGTH.size : end])
            start = end
        del self._buffer[:start]


def blocks(tensors: Mapping[str, Array]) -> list[Block]:
    """Return tensors as they travel."""
    return [_block(name, array) for name, array in tensors.items()]


def _block(name: str, array: Array) -> Block:
    if array.dtype.kind == "O":
        is_binary = any(isinstance(v, bytes) for v in array.flat)
        return Block(name, "bytes" if is_binary else "string", array.shape, list(array.flat))
    element = element_type_of(array.dtype)
    if element is None:
        raise ModelFailed(f"the tensor {name} has an element type that no contract knows")
    # Little-endian and row-major, whatever it was; bfloat16 has no buffer of its own.
    data = np.ascontiguousarray(array, element.dtype).view(np.uint8) if array.size else np.empty(0, np.uint8)
    return Block(name, element.name, array.shape, data.reshape(-1).data)


def tensors(found: list[Block]) -> dict[str, Array]:
    """Return the tensors of a message; numbers share memory with it and are read-only."""
    return {block.name: _array(block) for block in found}


def _array(block: Block) -> Array:
    if isinstance(block.data, list):
        array: Array = np.empty(len(block.data), object)
        array[:] = block.data
    else:
        array = np.frombuffer(block.data, BY_NAME[block.type].dtype)
    return array.reshape(block.shape)


def failure(call_id: int, exc: LimenError) -> Failure:
    """Return an error as it travels: its class, its reason and its catalogue text."""
    return Failure(call_id, type(exc).__name__, exc.reason.value, exc.message)


def error_of(found: Failure) -> LimenError:
    """Return the error that a failure tells of."""
    kind: Any = _KINDS.get(found.kind, ModelFailed)
    error: LimenError = kind(found.message, reason=Reason(found.reason))
    return error
