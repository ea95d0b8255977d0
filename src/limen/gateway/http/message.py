"""A request as the engine hands it over, and the response it takes back."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any, Final, TypeAlias

JSON = b"application/json"
STATUS_LINES: Final = {s.value: f"HTTP/1.1 {s.value} {s.phrase}\r\n".encode() for s in HTTPStatus} | {
    499: b"HTTP/1.1 499 Client Closed Request\r\n"
}


class Head:
    """The head of a request. Header names are lower case; a repeated header's values are joined by a comma.

    What the application makes of the headers stands here too: clients send the same head again and again, so it is read once
    (`gateway.http.heads`). Read-only after `HttpApplication.admit`.
    """

    __slots__ = (
        "answer_coding",
        "coding",
        "given_id",
        "headers",
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
        self.route: Any = None
        """The `Route` of the target, or the error that resolving it ended in."""
        self.given_id = ""
        """The caller's own request id, if it is a safe one."""
        self.media_type: bytes | None = headers.get(b"content-type")
        self.coding: bytes | None = headers.get(b"content-encoding")
        self.timeout: bytes | None = headers.get(b"x-request-timeout-ms")
        self.json_length: bytes | None = headers.get(b"inference-header-content-length")
        self.varies = b"accept-encoding" in headers
        """Whether the caller says which encodings it takes."""
        self.answer_coding = b""
        """The encoding to answer in; nothing for identity."""


class Request:
    """One whole HTTP request."""

    __slots__ = ("body", "head", "id")

    def __init__(self, head: Head, body: bytes = b"") -> None:
        """Take a head and its body."""
        self.head = head
        self.body = body
        self.id = ""


class Response:
    """What goes back: a status, a body and its type, and further header lines ready to send."""

    __slots__ = ("body", "content_type", "head", "status")

    def __init__(self, body: bytes, content_type: bytes = JSON, status: int = 200, head: bytes = b"") -> None:
        """Take `head` as complete header lines, each ending in CR LF."""
        self.body = body
        self.content_type = content_type
        self.status = status
        self.head = head


Answer: TypeAlias = Response | Coroutine[Any, Any, Response]
"""A response, or the promise of one when it has to be waited for: most requests are answered without a task."""
Handler: TypeAlias = Callable[[Request], Answer]
