"""The engine's request and answer types: an answer is immediate, deferred or streamed."""

from __future__ import annotations

import mmap
import sys
from collections.abc import AsyncGenerator, Callable, Coroutine
from http import HTTPStatus
from typing import Any, Final, Protocol, TypeAlias, cast

from limen.contracts.strict.pieces import LARGE_TEXT, Text

JSON = b"application/json"
STATUS_LINES: Final = {s.value: f"HTTP/1.1 {s.value} {s.phrase}\r\n".encode() for s in HTTPStatus} | {
    499: b"HTTP/1.1 499 Client Closed Request\r\n"
}


class Head:
    """The head of a request. Header names are lower case; a repeated header's values are joined by a comma.

    What the application makes of the headers stands here too: clients send the same head again and again, so it is read once
    (`gateway.engine.heads`). Read-only after `HttpApplication.admit`.
    """

    __slots__ = (
        "answer_coding",
        "coding",
        "given_id",
        "headers",
        "is_http_1_0",
        "is_retry",
        "json_length",
        "keep_alive",
        "media_type",
        "method",
        "route",
        "target",
        "timeout",
        "varies",
    )

    def __init__(self, method: bytes, target: bytes, headers: dict[bytes, bytes], *, keep_alive: bool) -> None:
        """Take what the parser found."""
        self.method = method
        self.target = target
        self.headers = headers
        self.keep_alive = keep_alive
        self.is_http_1_0 = False
        """Whether the caller does not know chunks."""
        self.is_retry = headers.get(b"x-retry-attempt", b"0") not in (b"", b"0")
        """Whether the caller says that it has asked before: what it wants is the first thing an overloaded server refuses."""
        self.route: Any = None
        """The `Route` of the target, or the error that resolving it ended in."""
        self.given_id = ""
        """The caller's own request id, if it is a safe one."""
        self.media_type: bytes | None = headers.get(b"content-type")
        self.coding: bytes | None = headers.get(b"content-encoding")
        self.timeout: bytes | None = headers.get(b"x-request-timeout-ms")
        self.json_length = _length(headers.get(b"inference-header-content-length"))
        """Bytes of the body's JSON part when others follow it; more than any body has when the header does not say a number."""
        self.varies = b"accept-encoding" in headers
        """Whether the caller says which encodings it takes."""
        self.answer_coding = b""
        """The encoding to answer in; nothing for identity."""


def _length(text: bytes | None) -> int | None:
    if text is None:
        return None
    return int(text) if text.isdigit() and len(text) <= 12 else sys.maxsize


class Packed(Protocol):
    """A body in a content encoding."""

    def rest(self) -> Text:
        """Return the whole body."""
        ...


class Request:
    """One whole HTTP request."""

    __slots__ = ("began", "body", "head", "held", "id", "packed", "pieces")

    def __init__(self, head: Head, body: bytes = b"") -> None:
        """Take a head and its body."""
        self.head = head
        self.body = body
        self.began = 0.0
        """When it was there, by `perf_counter`."""
        self.id = ""
        self.held = 0
        """Bytes that count against what the gateway holds."""
        self.pieces: list[bytes] = []
        """A large body as it came, in the place of `body`."""
        self.packed: Packed | None = None
        """A body that is large when it is unpacked, in the place of both."""

    @property
    def is_large(self) -> bool:
        """Whether the body is to be read beside the event loop."""
        return bool(self.pieces) or len(self.body) > LARGE_TEXT or self.packed is not None

    def take_body(self) -> Text:
        """Return the whole body and keep nothing of it; not for the event loop when it is large.

        Raises:
            Refused: it is too large when it is unpacked.
            InvalidArgument: it cannot be unpacked.
        """
        body, pieces, packed = self.body, self.pieces, self.packed
        self.body, self.pieces, self.packed = b"", [], None
        if packed is not None:
            return packed.rest()
        return assembled(pieces) if pieces else body


def assembled(pieces: list[bytes]) -> Text:
    """Return pieces as one, and let go of each when it is copied: joining large ones at once would take long and twice the memory."""
    at = sum(map(len, pieces))
    if at <= LARGE_TEXT:
        return b"".join(pieces)
    # Not a bytearray, which is filled with zeros first, in one go.
    whole = mmap.mmap(-1, at)
    while pieces:
        piece = pieces.pop()
        whole[at - len(piece) : at] = piece
        at -= len(piece)
    return cast("Text", whole)


class Response:
    """What goes back: a status, a body and its type, and further header lines ready to send."""

    __slots__ = ("body", "content_type", "head", "status", "version")

    def __init__(self, body: bytes, content_type: bytes = JSON, status: int = 200, head: bytes = b"") -> None:
        """Take `head` as complete header lines, each ending in CR LF."""
        self.body = body
        self.content_type = content_type
        self.status = status
        self.head = head
        self.version = ""
        """Which version of a model computed it, for the log."""


class Pending:
    """A response that comes later, from the same event loop and without a task.

    Whoever makes one calls `deliver` exactly once: with the response, or with the exception that stands in its place. The
    connection sets `deliver`; what is delivered before that is kept for it.
    """

    __slots__ = ("cancel", "deliver", "early")

    def __init__(self, cancel: Callable[[], object] | None = None) -> None:
        """Take what to call when the caller leaves before the answer; it may be set later, and is then not called again."""
        self.cancel = cancel
        self.deliver: Callable[[Response | Exception], None] = self._keep
        self.early: Response | Exception | None = None
        """What was delivered before somebody was there to take it."""

    def _keep(self, outcome: Response | Exception) -> None:
        self.early = outcome


class Streaming:
    """An answer that goes out piece by piece, each as soon as it is there.

    An exception before the first piece becomes an ordinary error answer. A later one cannot change the status: `error_piece`
    says it inside the body, which then ends well; without `error_piece` the body is cut off, so that nobody takes it for whole.
    """

    __slots__ = ("content_type", "error_piece", "head", "pieces", "status")

    def __init__(
        self,
        pieces: AsyncGenerator[bytes, None],
        content_type: bytes,
        status: int = 200,
        head: bytes = b"",
        error_piece: Callable[[Response], bytes] | None = None,
    ) -> None:
        """Take the pieces, which are closed when the caller leaves or a stopping server cannot wait any longer.

        Args:
            pieces: the body; empty pieces are not sent.
            content_type: the type of the whole body.
            status: the status when the first piece comes.
            head: complete header lines, each ending in CR LF.
            error_piece: turns the error answer that cannot be given any more into a last piece.
        """
        self.pieces = pieces
        self.content_type = content_type
        self.status = status
        self.head = head
        self.error_piece = error_piece


Answer: TypeAlias = Response | Pending | Streaming | Coroutine[Any, Any, Response]
"""A response, or what is to become one: most requests are answered without a task."""
Handler: TypeAlias = Callable[[Request], Answer]
