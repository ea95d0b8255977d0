"""Converts error answers back to exceptions: the same classes of `limen.contracts.errors` on every transport.

The reverse of the gateways' tables. `tests/unit/client/test_problems.py` sends every class and reason through the real gateways'
encoders and back. What no table knows, such as an answer of a proxy, becomes the branch that its status belongs to.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from limen.contracts import errors
from limen.contracts.errors import CallerError, LimenError, PlatformError, Reason, Violation

_BY_STATUS: Final[Mapping[int, tuple[type[LimenError], ...]]] = {
    400: (errors.InvalidArgument, errors.Refused),
    401: (errors.Unauthenticated,),
    403: (errors.PermissionDenied,),
    404: (errors.NotFound,),
    409: (errors.NotAllowedNow, errors.AlreadyExists, errors.Incompatible, errors.InvalidPackage),
    412: (errors.Stale,),
    413: (errors.InvalidArgument,),
    422: (errors.InvalidArgument,),
    429: (errors.ResourceExhausted,),
    499: (errors.Cancelled,),
    500: (errors.Internal, errors.ModelFailed, errors.InvalidOutput),
    501: (errors.Unsupported,),
    502: (errors.Unavailable,),
    503: (errors.Unavailable, errors.ResourceExhausted),
    504: (errors.DeadlineExceeded,),
    507: (errors.Unavailable,),
}
"""HTTP status to the classes it stands for; the first one when the reason tells nothing more."""

_BY_CODE: Final[Mapping[str, tuple[type[LimenError], ...]]] = {
    "INVALID_ARGUMENT": (errors.InvalidArgument, errors.Refused),
    "OUT_OF_RANGE": (errors.InvalidArgument,),
    "UNAUTHENTICATED": (errors.Unauthenticated,),
    "PERMISSION_DENIED": (errors.PermissionDenied,),
    "NOT_FOUND": (errors.NotFound,),
    "ALREADY_EXISTS": (errors.AlreadyExists,),
    "ABORTED": (errors.Stale,),
    "FAILED_PRECONDITION": (errors.NotAllowedNow, errors.Incompatible, errors.InvalidPackage),
    "RESOURCE_EXHAUSTED": (errors.ResourceExhausted,),
    "CANCELLED": (errors.Cancelled,),
    "DEADLINE_EXCEEDED": (errors.DeadlineExceeded,),
    "UNIMPLEMENTED": (errors.Unsupported,),
    "UNAVAILABLE": (errors.Unavailable,),
    "INTERNAL": (errors.Internal, errors.ModelFailed, errors.InvalidOutput),
}
"""gRPC status to the same."""

_BY_REASON: Final = {
    Reason.MODEL_CRASH: errors.ModelFailed,
    Reason.UNSAFE_FORMAT: errors.InvalidPackage,
    Reason.UNSAFE_ARCHIVE: errors.InvalidPackage,
    Reason.UNTRUSTED_CODE: errors.InvalidPackage,
    Reason.MISSING_DEPENDENCY: errors.InvalidPackage,
    Reason.SIGNATURE: errors.InvalidPackage,
    Reason.REJECTED: errors.InvalidPackage,
}
"""Reasons that belong to a class and are not its default."""

_SECONDS = re.compile(r"[0-9]{1,6}", re.ASCII)


class _Body(msgspec.Struct):
    """An error body: the inference gateway's (`error`, `details`) or problem details (`detail`, `title`, `errors`)."""

    error: str = ""
    detail: str = ""
    title: str = ""
    code: str = ""
    request_id: str = ""
    details: tuple[Violation, ...] = ()
    errors: tuple[Violation, ...] = ()


def from_http(status: int, headers: Mapping[str, str], body: bytes) -> LimenError:
    """Return the error that an HTTP answer tells of.

    Args:
        status: the status of the answer, 400 or more.
        headers: its headers; looked up in lower case.
        body: its whole body, of whatever kind.
    """
    try:
        said = msgspec.json.decode(body, type=_Body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        said = _Body()
    request_id = said.request_id or headers.get("x-request-id", "")
    after = headers.get("retry-after", "")
    retry_after_s = float(after) if _SECONDS.fullmatch(after) else None
    text = said.error or said.detail or said.title or f"the server answered {status}"
    branch = CallerError if 400 <= status < 500 else PlatformError
    classes = _BY_STATUS.get(status, (branch,))
    return _built(classes, said.code, text, said.details or said.errors, request_id, retry_after_s)


def from_event(body: bytes, request_id: str) -> LimenError:
    """Return the error in the last event of a stream, which has no status of its own."""
    try:
        said = msgspec.json.decode(body, type=_Body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        said = _Body()
    classes: tuple[type[LimenError], ...] = (errors.Internal, *_leaves(LimenError))
    return _built(classes, said.code, said.error, said.details, said.request_id or request_id, None)


def from_grpc(code: str, text: str, trailers: Iterable[tuple[str, str | bytes]]) -> LimenError:
    """Return the error that a gRPC status tells of.

    Args:
        code: name of the status, such as `INVALID_ARGUMENT`.
        text: what it says.
        trailers: the trailing metadata, with `google.rpc` details when the server is Limen.
    """
    from google.protobuf.message import DecodeError
    from google.rpc import error_details_pb2, status_pb2

    found = dict(trailers)
    reason, request_id, retry_after_s = "", str(found.get("x-request-id", "")), None
    violations: tuple[Violation, ...] = ()
    packed = found.get("grpc-status-details-bin", b"")
    try:
        details = status_pb2.Status.FromString(packed if isinstance(packed, bytes) else b"").details
        info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        retry, about = error_details_pb2.RetryInfo(), error_details_pb2.RequestInfo()
        for detail in details:
            if detail.Unpack(info):
                reason = info.reason
            elif detail.Unpack(bad):
                violations = tuple(Violation(v.field, v.description) for v in bad.field_violations)
            elif detail.Unpack(retry):
                retry_after_s = retry.retry_delay.ToNanoseconds() / 1e9
            elif detail.Unpack(about):
                request_id = about.request_id or request_id
    except DecodeError:
        pass  # the status itself still says what happened
    text = text or f"the server answered {code}"
    return _built(_BY_CODE.get(code, (errors.Internal,)), reason, text, violations, request_id, retry_after_s)


def _built(
    classes: tuple[type[LimenError], ...],
    code: str,
    text: str,
    violations: tuple[Violation, ...],
    request_id: str,
    retry_after_s: float | None,
) -> LimenError:
    """Return the error of one of the classes: the one that the reason belongs to, else the first."""
    reason = Reason(code) if code in Reason.__members__ else None
    meant = _BY_REASON.get(reason) if reason is not None else None
    kind = next((c for c in classes if c is meant or c.default_reason is reason), classes[0])
    error = kind(text, reason=reason, violations=violations, retry_after_s=retry_after_s)
    error.request_id = request_id
    return error


def _leaves(root: type[LimenError]) -> list[type[LimenError]]:
    """Return the classes that errors really have, those without a branch below them."""
    below = [c for c in root.__subclasses__() if c.__module__ == errors.__name__]
    return [leaf for child in below for leaf in _leaves(child)] or [root]
