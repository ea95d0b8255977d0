"""Errors of the management API: one exhaustive table from `ErrorCode` to status, and RFC 9457 bodies."""

from __future__ import annotations

import logging
import math
from http import HTTPStatus
from typing import Any, Final

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException

from limen.contracts.errors import ErrorCode, Internal, InvalidArgument, LimenError, Reason, Violation
from limen.contracts.management import PROBLEM_TYPE, Problem

LOG = logging.getLogger("limen.admin")
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
_OTHER: Final = {
    404: ("NOT_FOUND", "no such path"),
    405: ("METHOD_NOT_ALLOWED", "this path does not support that method"),
    408: ("TIMEOUT", "the request took too long to arrive"),
    413: ("BODY_TOO_LARGE", "the body is over the limit"),
    415: ("UNSUPPORTED_TYPE", "this content type is not supported here"),
}
"""What Litestar refuses, in the words of the other APIs."""
_BY_REASON: Final = {Reason.KEY_REUSED: 422, Reason.STORAGE_FULL: 507}
"""Reasons that have a status of their own."""


def on_error(request: Request[Any, Any, Any], exc: Exception, *, tells_places: bool = False) -> Response[bytes]:
    """Return the answer that tells the caller about an error, and nothing about the server's inside.

    Args:
        request: what was asked.
        exc: what came of it.
        tells_places: whether the caller is the person at this machine, who may know where on it something went wrong.
    """
    if isinstance(exc, ValidationException):
        exc = _invalid(exc)
    if isinstance(exc, HTTPException):
        rest = ("BAD_REQUEST" if exc.status_code < 500 else "INTERNAL", HTTPStatus(exc.status_code).phrase)
        code, text = _OTHER.get(exc.status_code, rest)
        return _response(request, exc.status_code, code, text, (), exc.headers or {})
    if not isinstance(exc, LimenError):
        LOG.error("unexpected failure in the management API", exc_info=exc)
        exc = Internal()
    headers = {}
    if exc.retry_after_s is not None:
        headers["retry-after"] = str(max(1, math.ceil(exc.retry_after_s)))
    return _response(request, status_of(exc), exc.reason.value, _told(exc, tells_places), exc.violations, headers)


def _told(exc: LimenError, tells_places: bool) -> str:
    return f"{exc.message} ({exc.place})" if tells_places and exc.place else exc.message


def status_of(error: LimenError) -> int:
    """Return the HTTP status of an error."""
    return _BY_REASON.get(error.reason, STATUS[error.code])


def _invalid(exc: ValidationException) -> LimenError:
    cause = exc.__cause__
    if isinstance(cause, LimenError):
        return cause
    extra = exc.extra if isinstance(exc.extra, list) else []
    names = [str(e.get("key", "")) for e in extra if isinstance(e, dict)]
    return InvalidArgument.of(
        [Violation(name or "request", "is not valid here") for name in names or [""]], Reason.INVALID_PARAMETER
    )


def _response(
    request: Request[Any, Any, Any],
    status: int,
    code: str,
    detail: str,
    errors: tuple[Violation, ...],
    headers: dict[str, str],
) -> Response[bytes]:
    try:
        title = HTTPStatus(status).phrase
    except ValueError:
        title = "Client Closed Request"
    problem = Problem(
        title=title,
        status=status,
        detail=detail,
        code=code,
        request_id=str(request.scope.get("state", {}).get("request_id", "")),
        errors=errors,
    )
    kept = {name.lower(): value for name, value in headers.items() if name.lower() in {"allow", "retry-after"}}
    return Response(msgspec.json.encode(problem), status_code=status, media_type=PROBLEM_TYPE, headers=kept)
