"""Errors over gRPC: status code, text and machine-readable details.

The only place of this gateway that turns an exception into something a caller sees. Catalogue texts pass; the text of any
other exception stays here.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from itertools import count
from typing import Final, NoReturn

import grpc
import msgspec
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from limen.contracts.errors import ErrorCode, Internal, LimenError
from limen.contracts.names import REQUEST_ID

Context = grpc.aio.ServicerContext[bytes, bytes]
Unary = Callable[[bytes, Context], Awaitable[bytes]]
"""A handler of one message, serialised on both sides."""

STATUS: Final[Mapping[ErrorCode, grpc.StatusCode]] = {
    ErrorCode.INVALID_ARGUMENT: grpc.StatusCode.INVALID_ARGUMENT,
    ErrorCode.UNAUTHENTICATED: grpc.StatusCode.UNAUTHENTICATED,
    ErrorCode.PERMISSION_DENIED: grpc.StatusCode.PERMISSION_DENIED,
    ErrorCode.NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    ErrorCode.ALREADY_EXISTS: grpc.StatusCode.ALREADY_EXISTS,
    ErrorCode.ABORTED: grpc.StatusCode.ABORTED,
    ErrorCode.FAILED_PRECONDITION: grpc.StatusCode.FAILED_PRECONDITION,
    ErrorCode.RESOURCE_EXHAUSTED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    ErrorCode.CANCELLED: grpc.StatusCode.CANCELLED,
    ErrorCode.DEADLINE_EXCEEDED: grpc.StatusCode.DEADLINE_EXCEEDED,
    ErrorCode.UNIMPLEMENTED: grpc.StatusCode.UNIMPLEMENTED,
    ErrorCode.UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    ErrorCode.INTERNAL: grpc.StatusCode.INTERNAL,
}
"""Every code of Limen on this protocol."""

REQUEST_ID_KEY: Final = "x-request-id"
DETAILS_KEY: Final = "grpc-status-details-bin"
DOMAIN: Final = "limen"
"""Where `ErrorInfo.reason` values come from: the catalogue `contracts.errors.Reason`."""
MAX_TEXT: Final = 512
MAX_VIOLATIONS: Final = 8
MAX_VIOLATION_TEXT: Final = 160
"""Clients refuse trailers over 8 KiB by default, which would hide the error behind another one."""

_log = logging.getLogger(__name__)


class Failure(msgspec.Struct, frozen=True):
    """One error, ready for the wire."""

    code: grpc.StatusCode
    text: str
    metadata: tuple[tuple[str, str | bytes], ...]


def request_id_of(context: Context) -> str:
    """Return the caller's `x-request-id` when it is one that may be echoed, else an empty string."""
    for key, value in context.invocation_metadata() or ():
        if key == REQUEST_ID_KEY and isinstance(value, str) and REQUEST_ID.fullmatch(value):
            return value
    return ""


_ID_PREFIX: Final = os.urandom(6).hex()
_ids = count(1)


def next_id() -> str:
    """Return a new request id, unique over processes and restarts, for a caller who gave none."""
    return f"{_ID_PREFIX}-{next(_ids):x}"


def tell_id(context: Context, request_id: str) -> None:
    """Have the caller told the id of a request that is answered, where errors have it as well."""
    context.set_trailing_metadata(((REQUEST_ID_KEY, request_id),))


def as_limen_error(error: Exception, request_id: str) -> LimenError:
    """Return `error` itself when it is ours; log any other and return `Internal` that names only the request."""
    if isinstance(error, LimenError):
        return error
    _log.error("unexpected error, request_id=%s", request_id, exc_info=error)
    return Internal(f"internal error, request id {request_id}")


def failure(error: Exception, request_id: str = "") -> Failure:
    """Return status, text and trailing metadata for `error`; the request id is made up when there is none."""
    request_id = request_id if REQUEST_ID.fullmatch(request_id) else next_id()
    known = as_limen_error(error, request_id)
    code = STATUS[known.code]
    text = str(known)[:MAX_TEXT]
    details = status_pb2.Status(
        code=code.value[0], message=text, details=[_packed(d) for d in _details(known, request_id)]
    )
    return Failure(code, text, ((REQUEST_ID_KEY, request_id), (DETAILS_KEY, details.SerializeToString())))


async def refuse(context: Context, error: Exception, request_id: str = "") -> NoReturn:
    """End the call with the status of `error`. The only way a handler of this gateway fails.

    Args:
        context: the call.
        error: anything that was raised while answering it.
        request_id: what to call the request when the caller sent no `x-request-id`; an invalid one is not echoed.
    """
    failed = failure(error, request_id_of(context) or request_id)
    await context.abort(failed.code, failed.text, failed.metadata)


def guarded(method: Unary) -> Unary:
    """Return `method` as a handler whose failures all become a status."""

    async def handle(data: bytes, context: Context) -> bytes:
        try:
            return await method(data, context)
        except Exception as error:  # noqa: BLE001 - refuse logs what is not ours
            await refuse(context, error)

    return handle


def _details(error: LimenError, request_id: str) -> list[Message]:
    details: list[Message] = [
        error_details_pb2.ErrorInfo(reason=error.reason.value, domain=DOMAIN),
        error_details_pb2.RequestInfo(request_id=request_id),
    ]
    if error.violations:
        bad = error_details_pb2.BadRequest()
        for violation in error.violations[:MAX_VIOLATIONS]:
            path, reason = violation.path[:MAX_VIOLATION_TEXT], violation.reason[:MAX_VIOLATION_TEXT]
            bad.field_violations.add(field=path, description=reason)
        details.append(bad)
    if error.retry_after_s is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromNanoseconds(round(error.retry_after_s * 1e9))
        details.append(retry)
    return details


def _packed(detail: Message) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(detail)
    return packed
