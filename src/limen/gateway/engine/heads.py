"""A cache of request heads that were already parsed and admitted.

A client that keeps its connection sends the same head again and again. The parser and the application have judged that head
once; the same bytes get the same judgement, so only the body is new and nothing is parsed. The whole head is the key: a head
that differs in one byte is parsed. Used by `gateway.engine.connection` only.
"""

from __future__ import annotations

from typing import Final

from limen.gateway.engine.message import Head, Request
from limen.gateway.engine.routes import Route

MAX_HEAD: Final = 2048
"""Bytes up to which a head is remembered; ordinary clients stay far below."""
MAX_HEADS: Final = 1024


class KnownHeads:
    """The memory of one server."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        """Start with nothing known."""
        self._known: dict[bytes, tuple[Head, int]] = {}

    def recall(self, data: bytes) -> Request | None:
        """Return the request when `data` is exactly a known head and the body it announces; None otherwise."""
        end = data.find(b"\r\n\r\n", 0, MAX_HEAD) + 4
        found = self._known.get(data[:end])
        if found is None or len(data) != end + found[1]:
            return None
        return Request(found[0], data[end:])

    def remember(self, raw: bytes, head: Head) -> None:
        """Keep the head of a request that was admitted, if it may ever be taken without parsing."""
        length = head.headers.get(b"content-length")
        if not head.keep_alive or length is None or b"expect" in head.headers or type(head.route) is not Route:
            return
        # The bytes must be all of this head: not blank lines before it, nor the end of something else.
        if not raw.startswith(b"%s %s HTTP/1.1\r\n" % (head.method, head.target)):
            return
        if len(self._known) >= MAX_HEADS:
            self._known.clear()
        self._known[raw] = (head, int(length))


def head_of(data: bytes) -> bytes:
    """Return the head that is whole at the beginning of `data`, or nothing."""
    end = data.find(b"\r\n\r\n", 0, MAX_HEAD)
    return data[: end + 4] if end > 0 else b""
