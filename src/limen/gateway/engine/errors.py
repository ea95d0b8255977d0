"""Errors over HTTP: one exhaustive table from `ErrorCode` to status, and one JSON body for all.

    {"error": "…", "code": "SHAPE_MISMATCH", "request_id": "…", "details": [{"path": "…", "reason": "…"}]}

`Refused` is for what only HTTP knows: framing, methods, sizes and encodings.
"""

from __future__ import annotations

import math
from typing import Final

import msgspec

from limen.contracts.errors import ErrorCode, LimenError, Reason, Violation
from limen.contracts.names import REQUEST_ID
from limen.gateway.engine.message import JSON, Response

STATUS: Final = {
    ErrorCode.INVALID_ARGUMENT: 400,
    ErrorCode.UNAUTHENTICATED: 401,
    ErrorCode.PERMISSION_DENIED: 403,
    ErrorCode.NOT_FOUND: 404,
    ErrorCode.ALREADY_EXISTS: 409,
    ErrorCode.ABORTED: 412,
    ErrorCode.FAILED_PRECONDITION: 409,
    ErrorCode.RESOURCE_EXHAUSTED: 429,
    ErrorCode.CANCELLED: 499,
    ErrorCode.INTERNAL: 500,
    ErrorCode.UNIMPLEMENTED: 501,
    ErrorCode.UNAVAILABLE: 503,
    ErrorCode.DEADLINE_EXCEEDED: 504,
}

_BY_REASON: Final = {
    # The one limit on what is inside a body; all others are known before a tensor is read.
    Reason.ELEMENT_TOO_LARGE: 413,
    # No room in the server, while 429 is about the caller's own quota.
    Reason.OVERLOADED: 503,
}


def not_http() -> Refused:
    """Return the refusal of bytes that are not a request."""
    return Refused(400, "BAD_REQUEST", "not a valid HTTP request")


def too_large(limit: int) -> Refused:
    """Return the refusal of a body over the limit."""
    return Refused(413, "BODY_TOO_LARGE", f"the body may have at most {limit} bytes")


def no_room() -> Refused:
    """Return the refusal of a body that the gateway has no memory for just now."""
    text = "the server is processing too many large requests; try again later"
    return Refused(503, "OVERLOADED", text, head=b"retry-after: 1\r\n")


def status_of(error: LimenError | Refused) -> int:
    """Return the HTTP status of an error."""
    if isinstance(error, Refused):
        return error.status
    return _BY_REASON.get(error.reason) or STATUS[error.code]


class Refused(Exception):
    """A request that HTTP itself does not let through."""

    def __init__(self, status: int, code: str, text: str, *, head: bytes = b"") -> None:
        """Say the status, the catalogue code and the text; `head` adds header lines."""
        super().__init__(text)
        self.status = status
        self.code = code
        self.text = text
        self.head = head


class ErrorBody(msgspec.Struct):
    """The body of every error."""

    error: str
    code: str
    request_id: str
    details: tuple[Violation, ...] = ()


class _WithId(msgspec.Struct):
    id: str = ""


_decode_id = msgspec.json.Decoder(_WithId).decode


def id_in(text: bytes) -> str:
    """Return the caller's id in a JSON body that is refused for something else; empty when there is none to be read."""
    try:
        found = _decode_id(text).id
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ""
    return found if REQUEST_ID.fullmatch(found) else ""


def error_response(error: LimenError | Refused, request_id: str) -> Response:
    """Return the answer that tells the caller about an error, and nothing about the server's inside."""
    if isinstance(error, Refused):
        body = ErrorBody(error.text, error.code, request_id)
        return Response(msgspec.json.encode(body), JSON, error.status, error.head)
    head = b""
    if error.retry_after_s is not None:
        head = b"retry-after: %d\r\n" % max(1, math.ceil(error.retry_after_s))
    body = ErrorBody(error.message, error.reason.value, request_id, error.violations)
    return Response(msgspec.json.encode(body), JSON, status_of(error), head)
