"""Frames between gateways and replicas: fixed binary fields over a Unix socket.

    hello (gateway, with the descriptors of two arenas) · welcome (replica, with the descriptor of its status page) · frames

A frame is a header of 32 bytes and a body; its length counts both and is a multiple of 8, so that tensors in it are aligned. All
numbers are little-endian. Both sides are Limen of the same version, started together; lengths are checked all the same, and
`BrokenFrame` ends the connection. Not here: what the bodies of tensors look like (`layout`).

    LAYOUT   both        names, types, inner shapes and parameters (JSON), under a number; a number may be given anew
    BATCH    to replica  one run: `count` requests, their rows (u32 each, unless count is 1), their tensors one after the other
    STREAM   to replica  one request with many answers
    CANCEL   to replica  nobody waits for this call any more
    CREDIT   to replica  `count` more parts of a stream may be sent
    ANSWER   to gateway  outputs of the requests from `first` on, `count` of them
    FAILURE  to gateway  why these requests have no answer (JSON)
    PART     to gateway  one answer of a stream
    END      to gateway  the stream is over
    RELEASE  to gateway  the shared memory of this call's inputs is free again

Every call ends with answers or failures for each of its requests, or with END.
"""

from __future__ import annotations

import socket
import struct
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from limen.contracts import errors
from limen.contracts.errors import LimenError, ModelFailed, Reason, Violation

HEADER: Final = struct.Struct("<IBBHIIIId")
"""length, kind, flags, layout, call, first, count, rows, and a time: the deadline on the monotonic clock that all processes of a
machine share, or the seconds a run took."""
SIZE: Final = HEADER.size
MAX_FRAME: Final = 1 << 31
HELLO: Final = struct.Struct("<8sQQ164s")
"""magic, bytes of the arena for inputs, bytes of the arena for outputs (0 without them), what should have been loaded (`identity`)."""
WELCOME: Final = struct.Struct("<8sIII164s")
"""magic, connection number, process id, what the model is like (`CAN_STREAM`, `MIXES_ROWS`), what was loaded (`identity`)."""
CAN_STREAM: Final = 1
MIXES_ROWS: Final = 2
WANTS_CONTEXT: Final = 4
MAGIC: Final = b"limen\0\0\3"

LAYOUT: Final = 1
BATCH: Final = 2
STREAM: Final = 3
CANCEL: Final = 4
CREDIT: Final = 5
ANSWER: Final = 6
FAILURE: Final = 7
PART: Final = 8
END: Final = 9
RELEASE: Final = 10

SHARED: Final = 1
"""Flag: the body begins with the place of each tensor, in the arena or in the body."""
TRIAL: Final = 4
"""Flag of a call: its rows were made up to find out about the model, and what it makes of them is no news."""
LAST_WORDS: Final = 2
"""Flag of a failure: the model ran out of memory on this request and the replica ends."""

_LENGTH: Final = struct.Struct("<I")
_CHUNK: Final = 1 << 16
_LARGE_CHUNK: Final = 1 << 20


def identity(version: str, digest: str) -> bytes:
    """Return what tells one loaded version from every other, as the hello and the welcome carry it.

    The digest names the package, and with it the model; an endpoint may have another name than its model.
    """
    return f"version {version}, {digest}".encode()[:164].ljust(164, b"\0")


class BrokenFrame(Exception):
    """The peer sent what no peer of this version sends."""


class Cutter:
    """Cuts a stream of bytes into frames.

    Frames begin where a piece begins or at a multiple of 8 after it, so tensors are aligned without being copied.
    """

    __slots__ = ("_need", "_pieces", "_size")

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0
        self._need = 0

    @property
    def wanted(self) -> int:
        """How many bytes to read next: a large frame is read in large pieces."""
        return _CHUNK if not self._pieces else max(_CHUNK, min(self._need - self._size, _LARGE_CHUNK))

    def feed(self, data: bytes) -> Sequence[tuple[bytes, int, int]]:
        """Return the frames that are whole now, each as a buffer, its start and its end.

        Raises:
            BrokenFrame: a length that no frame has.
        """
        if self._pieces:
            self._pieces.append(data)
            self._size += len(data)
            if self._size < self._need:
                return ()
            data = b"".join(self._pieces)
            self._pieces.clear()
        found = []
        size = len(data)
        start = 0
        self._need = SIZE
        while size - start >= SIZE:
            length: int = _LENGTH.unpack_from(data, start)[0]
            if length < SIZE or length & 7 or length > MAX_FRAME:
                raise BrokenFrame("a frame with an impossible length")
            if length > size - start:
                self._need = length
                break
            found.append((data, start, start + length))
            start += length
        if start < size:
            self._pieces.append(data[start:])
            self._size = size - start
        return found


class Outbox:
    """What a socket that does not block has not taken yet."""

    __slots__ = ("_parts", "size")

    def __init__(self) -> None:
        self._parts: deque[memoryview] = deque()
        self.size = 0
        """Bytes that wait."""

    def send(self, connection: socket.socket, data: bytes = b"") -> bool:
        """Send what waits, then `data`, as far as the socket takes it; return whether nothing waits now.

        Raises:
            OSError: the peer has gone.
        """
        parts = self._parts
        if data:
            if not parts:
                try:
                    sent = connection.send(data)
                except BlockingIOError:
                    sent = 0
                if sent == len(data):
                    return True
                parts.append(memoryview(data)[sent:])
                self.size = len(data) - sent
                return False
            parts.append(memoryview(data))
            self.size += len(data)
        while parts:
            try:
                sent = connection.send(parts[0])
            except BlockingIOError:
                return False
            self.size -= sent
            if sent < len(parts[0]):
                parts[0] = parts[0][sent:]
            else:
                parts.popleft()
        return True


def frame(kind: int, call: int = 0, *, layout: int = 0, count: int = 0) -> bytes:
    """Return a frame without a body."""
    return HEADER.pack(SIZE, kind, 0, layout, call, 0, count, 0, 0.0)


def text_frame(kind: int, text: bytes, *, call: int = 0, flags: int = 0, layout: int = 0, first: int = 0) -> bytes:
    """Return a frame whose body is JSON, for one request; spaces fill it up."""
    length = SIZE + (len(text) + 7 & ~7)
    return HEADER.pack(length, kind, flags, layout, call, first, 1, 0, 0.0) + text.ljust(length - SIZE)


class _Error(msgspec.Struct, array_like=True):
    kind: str
    reason: str
    message: str
    retry_after_s: float | None
    violations: list[tuple[str, str]]
    incident: str = ""


_KINDS: Final = {
    name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, LimenError)
}
_encode_error: Final = msgspec.json.Encoder().encode
_decode_error: Final = msgspec.json.Decoder(_Error).decode


def encode_error(exc: LimenError) -> bytes:
    """Return an error as it travels: its class, its reason and its catalogue text."""
    violations = [(v.path, v.reason) for v in exc.violations]
    try:
        return _encode_error(
            _Error(type(exc).__name__, exc.reason.value, exc.message, exc.retry_after_s, violations, exc.incident)
        )
    except UnicodeEncodeError:
        return encode_error(ModelFailed())


def decode_error(text: bytes | memoryview) -> LimenError:
    """Return the error that travelled.

    Raises:
        BrokenFrame: it is none.
    """
    try:
        found = _decode_error(text)
        reason = Reason(found.reason)
    except (msgspec.MsgspecError, ValueError) as exc:
        raise BrokenFrame("a failure that cannot be read") from exc
    kind: Any = _KINDS.get(found.kind, ModelFailed)
    violations = [Violation(path, why) for path, why in found.violations]
    error: LimenError = kind(found.message, reason=reason, violations=violations, retry_after_s=found.retry_after_s)
    error.incident = found.incident
    return error
