"""Content encodings in both directions: gzip and deflate, bounded while inflating."""

from __future__ import annotations

import zlib
from collections import deque
from typing import Any, Final

from limen.contracts.errors import InvalidArgument, Reason
from limen.contracts.strict.pieces import Text
from limen.gateway.engine.errors import Refused, too_large
from limen.gateway.engine.message import assembled

_ACCEPT: Final = b"accept-encoding: gzip, deflate\r\n"
_PIECE: Final = 128 << 10
_GZIP: Final = 16 + zlib.MAX_WBITS
LEVEL: Final = 1
"""Compression level of answers: numbers hardly compress better at higher ones, and those cost several times more."""


class Inflation:
    """A body that comes out of its content encoding piece by piece, up to a limit."""

    def __init__(self, body: list[bytes], encoding: bytes, limit: int) -> None:
        """Prepare; nothing is unpacked yet.

        Args:
            body: the body as it came, in pieces; they are taken out as they are unpacked.
            encoding: the value of Content-Encoding.
            limit: largest decoded size, in bytes; inflating stops there.

        Raises:
            Refused: 415 for an unknown or chained encoding.
        """
        name = encoding.strip().lower()
        self._limit = limit
        self._packed = deque(body)
        self._rest = self._packed.popleft()
        self._pieces: list[bytes] = []
        self._size = 0
        self._stream: Any = None
        if name in (b"", b"identity"):
            return
        if name not in (b"gzip", b"x-gzip", b"deflate"):
            raise Refused(
                415, "UNSUPPORTED_ENCODING", "the content encoding must be gzip, deflate or identity", head=_ACCEPT
            )
        # Deflate means the zlib format (RFC 9110); some clients send the raw stream.
        deflated = zlib.MAX_WBITS if _is_zlib(self._rest) else -zlib.MAX_WBITS
        self._stream = zlib.decompressobj(deflated if name == b"deflate" else _GZIP)

    def read(self, most: int) -> Text | None:
        """Return the whole body if it has at most about `most` bytes, None when there is more; then `rest` returns it.

        Raises:
            Refused: 413 over the limit.
            InvalidArgument: the body does not match its content encoding.
        """
        if self._stream is None:
            return assembled([self._rest, *self._packed])
        try:
            while not self._stream.eof:
                if self._size > most:
                    return None
                self._step()
            if self._stream.unused_data or self._packed:
                raise zlib.error("trailing data")
        except zlib.error as exc:
            raise InvalidArgument("the body does not match its content encoding", reason=Reason.BAD_MESSAGE) from exc
        return assembled(self._pieces)

    def rest(self) -> Text:
        """Return the whole body, or raise as `read` does."""
        return self.read(self._limit) or b""

    def _step(self) -> None:
        piece = self._stream.decompress(self._rest, min(_PIECE, self._limit + 1 - self._size))
        self._size += len(piece)
        if self._size > self._limit:
            raise too_large(self._limit)
        self._pieces.append(piece)
        self._rest = self._stream.unconsumed_tail
        if not self._rest and self._packed and not self._stream.eof:
            self._rest = self._packed.popleft()
            return
        if not piece and not self._rest and not self._stream.eof:
            raise zlib.error("truncated")


def _is_zlib(body: bytes) -> bool:
    return len(body) >= 2 and body[0] & 0x0F == 8 and (body[0] << 8 | body[1]) % 31 == 0


def choose(accept: bytes) -> bytes:
    """Return the encoding to answer in: gzip, deflate, or nothing for identity.

    The caller's weights decide; gzip wins a tie (RFC 9110, 12.5.3).
    """
    best, best_weight = b"", 0.0
    for item in accept.lower().split(b","):
        name, _, parameters = item.partition(b";")
        name = name.strip()
        weight = _weight(parameters)
        if (
            name in (b"gzip", b"deflate", b"*")
            and weight > 0
            and (weight > best_weight or (name == b"gzip" and weight == best_weight))
        ):
            best, best_weight = (b"gzip" if name == b"*" else name), weight
    return best


def _weight(parameters: bytes) -> float:
    key, _, value = parameters.strip().partition(b"=")
    if key.strip() != b"q":
        return 1.0
    try:
        return float(value)
    except ValueError:
        return 0.0


def deflate(body: bytes, encoding: bytes) -> bytes:
    """Return the body in gzip or deflate (zlib) encoding."""
    stream = zlib.compressobj(LEVEL, zlib.DEFLATED, _GZIP if encoding == b"gzip" else zlib.MAX_WBITS)
    return stream.compress(body) + stream.flush()
