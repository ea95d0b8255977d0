"""Content encodings in both directions: gzip and deflate, bounded while inflating."""

from __future__ import annotations

import zlib
from typing import Final

from limen.contracts.errors import InvalidArgument, Reason
from limen.gateway.http.errors import Refused, too_large

_ACCEPT: Final = b"accept-encoding: gzip, deflate\r\n"
_PIECE: Final = 1 << 20
_GZIP: Final = 16 + zlib.MAX_WBITS
LEVEL: Final = 1
"""Compression level of answers: numbers hardly compress better at higher ones, and those cost several times more."""


def inflate(body: bytes, encoding: bytes, limit: int) -> bytes:
    """Return the body without its content encoding.

    Args:
        body: the body as it came.
        encoding: the value of Content-Encoding.
        limit: largest decoded size, in bytes; inflating stops there.

    Raises:
        Refused: 415 for an unknown or chained encoding, 413 over the limit.
        InvalidArgument: the body is not in the encoding it claims.
    """
    name = encoding.strip().lower()
    if name in (b"", b"identity"):
        return body
    if name not in (b"gzip", b"x-gzip", b"deflate"):
        raise Refused(
            415, "UNSUPPORTED_ENCODING", "the content encoding must be gzip, deflate or identity", head=_ACCEPT
        )
    # Deflate means the zlib format (RFC 9110); some clients send the raw stream.
    deflated = zlib.MAX_WBITS if _is_zlib(body) else -zlib.MAX_WBITS
    wbits = deflated if name == b"deflate" else _GZIP
    try:
        return _inflate(body, wbits, limit)
    except zlib.error as exc:
        raise InvalidArgument("the body is not in the encoding it claims", reason=Reason.BAD_MESSAGE) from exc


def _inflate(body: bytes, wbits: int, limit: int) -> bytes:
    stream = zlib.decompressobj(wbits)
    pieces: list[bytes] = []
    total = 0
    rest = body
    while not stream.eof:
        piece = stream.decompress(rest, min(_PIECE, limit + 1 - total))
        total += len(piece)
        if total > limit:
            raise too_large(limit)
        pieces.append(piece)
        rest = stream.unconsumed_tail
        if not piece and not rest and not stream.eof:
            raise zlib.error("truncated")
    if stream.unused_data:
        raise zlib.error("trailing data")
    return b"".join(pieces)


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
