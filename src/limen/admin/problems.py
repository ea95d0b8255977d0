"""How errors look on the management API: one exhaustive table from `ErrorCode` to status, and RFC 9457 bodies."""

from __future__ import annotations

import logging
import math
import re
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
_OTHER: Final = {404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED", 413: "BODY_TOO_LARGE", 415: "UNSUPPORTED_MEDIA_TYPE"}
_AT = re.compile(r" - at `\$\.?([^`]*)`$")
READ_ONLY: Final = frozenset({
    "aliases", "backend", "contract", "created_at", "created_by", "digest", "id", "is_retired", "major", "model", "needs_trust",
    "parent", "revision", "roles", "signer", "size", "status", "tenant", "updated_at", "updated_by",
})  # fmt: skip
"""What only the server sets, by whatever name a caller may try (B76)."""


def on_error(request: Request[Any, Any, Any], exc: Exception) -> Response[bytes]:
    """Return the answer that tells the caller about an error, and nothing about the server's inside."""
    if isinstance(exc, ValidationException):
        exc = _invalid(exc)
    if isinstance(exc, HTTPException):
        code = _OTHER.get(exc.status_code, "BAD_REQUEST" if exc.status_code < 500 else "INTERNAL")
        return _response(request, exc.status_code, code, HTTPStatus(exc.status_code).phrase, (), exc.headers or {})
    if not isinstance(exc, LimenError):
        LOG.error("unexpected failure in the management API", exc_info=exc)
        exc = Internal()
    headers = {}
    if exc.retry_after_s is not None:
        headers["retry-after"] = str(max(1, math.ceil(exc.retry_after_s)))
    return _response(request, status_of(exc), exc.reason.value, exc.message, exc.violations, headers)


def status_of(error: LimenError) -> int:
    """Return the HTTP status of an error."""
    if error.reason is Reason.IDEMPOTENCY and error.code is ErrorCode.INVALID_ARGUMENT:
        return 422 if "another request" in error.message else 400
    return STATUS[error.code]


def invalid_body(exc: msgspec.MsgspecError) -> InvalidArgument:
    """Return what is wrong with a body, by msgspec's word, which names types and keys and no values."""
    text = str(exc)
    found = _AT.search(text)
    path, text = (found[1], text[: found.start()]) if found else ("", text)
    unknown = re.match(r"Object contains unknown field `(.*)`", text)
    if unknown:
        key = unknown[1] if re.fullmatch(r"[A-Za-z0-9_.-]{1,63}", unknown[1], re.ASCII) else "?"
        where = f"{path}.{key}" if path else key
        if key in READ_ONLY:
            return InvalidArgument.at(where, "is set by the server only", Reason.READ_ONLY)
        return InvalidArgument.at(where, "is not known here", Reason.UNKNOWN_FIELD)
    return InvalidArgument.at(path or "body", text[:1].lower() + text[1:], Reason.INVALID_FIELD)


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
    kept = {name: value for name, value in headers.items() if name.lower() in {"allow", "retry-after"}}
    return Response(msgspec.json.encode(problem), status_code=status, media_type=PROBLEM_TYPE, headers=kept)
