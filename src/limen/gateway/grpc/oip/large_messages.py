"""Measures large infer messages before parsing: a parser creates objects for every field at once and blocks the event loop.

Two bytes of a message can be a whole input, a text or a number of eight bytes. Called by `gateway.grpc.oip.service` and
`gateway.grpc.oip.streaming`; lets others have the loop every few thousand fields.
"""

from __future__ import annotations

import asyncio
from typing import Final

import numpy as np

from limen.contracts.errors import InvalidArgument, Reason
from limen.contracts.tensors import MAX_TENSOR_BYTES, MAX_TEXTS

LARGE_MESSAGE: Final = 128 << 10
"""Bytes from which a message is counted first."""
MAX_FIELDS: Final = MAX_TEXTS + 8192
"""Fields of one message: its texts, and as many others as a thousand inputs have."""
_TURN: Final = 4096
_PIECE: Final = 1 << 20
_INNER: Final = 5
"""The number of `inputs` in a request and of `contents` in an input."""
_LEVELS: Final = 3
_PACKED: Final = frozenset({2, 3, 4, 5})
"""Integers of contents: up to eight bytes in memory for each byte of the message."""


async def count_fields(data: bytes) -> None:
    """Refuse a message with more in it than a request may have; one that is malformed is left for the parser to refuse.

    Raises:
        InvalidArgument: there are too many fields, or numbers.
    """
    at = count = 0
    ends = [len(data)]
    while ends:
        if at >= ends[-1]:
            ends.pop()
            continue
        tag, at = _varint(data, at)
        count += 1
        if count > MAX_FIELDS:
            raise InvalidArgument(f"a message may have at most {MAX_FIELDS} fields", reason=Reason.TOO_MANY_PARTS)
        if count % _TURN == 0:
            await asyncio.sleep(0)
        kind, number = tag & 7, tag >> 3
        if kind == 0:
            _, at = _varint(data, at)
        elif kind == 2:
            size, at = _varint(data, at)
            if number == _INNER and len(ends) < _LEVELS:
                ends.append(min(at + size, ends[-1]))
                continue
            if len(ends) == _LEVELS and number in _PACKED:
                await _count_numbers(data, at, min(at + size, ends[-1]))
            at += size
        elif kind in {1, 5}:
            at += 8 if kind == 1 else 4
        else:
            return


async def _count_numbers(data: bytes, start: int, end: int) -> None:
    """Refuse packed numbers that would take too much memory; each ends with a byte below 128."""
    found = 0
    for at in range(start, end, _PIECE):
        piece = np.frombuffer(data, np.uint8, min(_PIECE, end - at), at)
        found += int(np.count_nonzero(piece < 128))
        if found * 8 > MAX_TENSOR_BYTES:
            text = f"the tensors of a request may take at most {MAX_TENSOR_BYTES} bytes; send them as raw contents"
            raise InvalidArgument(text, reason=Reason.TOO_MANY_PARTS)
        await asyncio.sleep(0)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Return a number and where it ends; whatever is no number ends the message."""
    value = shift = 0
    while at < len(data) and shift < 64:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7
    return 0, len(data)
