"""Every error Limen raises on purpose, and the codes they carry.

Not here: how an error looks on a protocol. Each gateway owns one exhaustive table from `ErrorCode` to its own status.

    LimenError
    ├── CallerError            the request is at fault; sending it again unchanged cannot help
    │   ├── InvalidArgument
    │   ├── Refused            by the model, in its own words
    │   ├── Unauthenticated
    │   ├── PermissionDenied
    │   ├── NotFound
    │   ├── AlreadyExists
    │   ├── Stale
    │   ├── Incompatible
    │   ├── NotAllowedNow
    │   ├── Unsupported
    │   └── Cancelled
    ├── ModelError             the model or its package is at fault
    │   ├── InvalidPackage
    │   ├── ModelFailed
    │   └── InvalidOutput
    └── PlatformError          Limen or its machine is at fault; retrying may help
        ├── DeadlineExceeded
        ├── ResourceExhausted
        ├── Unavailable
        └── Internal
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import ClassVar, Final

import msgspec

MAX_VIOLATIONS: Final = 32
"""How many mistakes one error lists."""


class ErrorCode(StrEnum):
    """Canonical outcome, named as in gRPC and free of any transport."""

    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    """The request breaks the protocol or the model's contract."""
    UNAUTHENTICATED = "UNAUTHENTICATED"
    """No credential, or an invalid one."""
    PERMISSION_DENIED = "PERMISSION_DENIED"
    """A known caller without the right to do this."""
    NOT_FOUND = "NOT_FOUND"
    """No such model, version or route for this caller."""
    ALREADY_EXISTS = "ALREADY_EXISTS"
    """Something else already has this name or number, and is never replaced."""
    ABORTED = "ABORTED"
    """The target has changed since the caller last read it."""
    FAILED_PRECONDITION = "FAILED_PRECONDITION"
    """The current state of the package or the registry does not allow this."""
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    """A limit of the server or of the caller's quota is reached."""
    CANCELLED = "CANCELLED"
    """The caller went away."""
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    """The request missed its deadline."""
    UNIMPLEMENTED = "UNIMPLEMENTED"
    """A part of the protocol that this server or model does not support."""
    UNAVAILABLE = "UNAVAILABLE"
    """Temporarily unavailable; retry later."""
    INTERNAL = "INTERNAL"
    """A fault of the model or Limen; the text reveals no internals."""


class Reason(StrEnum):
    """The catalogue of precise reasons, shown to callers as `code`."""

    EMPTY_BODY = "EMPTY_BODY"
    BAD_JSON = "BAD_JSON"
    BAD_MESSAGE = "BAD_MESSAGE"
    NUMBER_RANGE = "NUMBER_RANGE"
    TOO_DEEP = "TOO_DEEP"
    TOO_MANY_PARTS = "TOO_MANY_PARTS"
    DUPLICATE_KEY = "DUPLICATE_KEY"
    UNKNOWN_FIELD = "UNKNOWN_FIELD"
    INVALID_FIELD = "INVALID_FIELD"
    INVALID_ID = "INVALID_ID"
    INVALID_NAME = "INVALID_NAME"
    INVALID_VERSION = "INVALID_VERSION"
    INVALID_PARAMETER = "INVALID_PARAMETER"
    INVALID_HEADER = "INVALID_HEADER"
    INPUT_SET = "INPUT_SET"
    OUTPUT_SET = "OUTPUT_SET"
    DTYPE = "DTYPE"
    SHAPE_MISMATCH = "SHAPE_MISMATCH"
    SHAPE_OVERFLOW = "SHAPE_OVERFLOW"
    DATA_SIZE = "DATA_SIZE"
    ELEMENT_TOO_LARGE = "ELEMENT_TOO_LARGE"
    BATCH_LIMIT = "BATCH_LIMIT"
    VALUE = "VALUE"
    NOT_FINITE = "NOT_FINITE"
    REFUSED = "REFUSED"
    UNSUPPORTED = "UNSUPPORTED"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    NOT_FOUND = "NOT_FOUND"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    STALE = "STALE"
    INCOMPATIBLE = "INCOMPATIBLE"
    IN_USE = "IN_USE"
    RETIRED = "RETIRED"
    READ_ONLY = "READ_ONLY"
    IDEMPOTENCY = "IDEMPOTENCY"
    KEY_REUSED = "KEY_REUSED"
    SIGNATURE = "SIGNATURE"
    REJECTED = "REJECTED"
    STORAGE = "STORAGE"
    STORAGE_FULL = "STORAGE_FULL"
    CANCELLED = "CANCELLED"
    INVALID_PACKAGE = "INVALID_PACKAGE"
    UNSAFE_FORMAT = "UNSAFE_FORMAT"
    UNSAFE_ARCHIVE = "UNSAFE_ARCHIVE"
    UNTRUSTED_CODE = "UNTRUSTED_CODE"
    MISSING_DEPENDENCY = "MISSING_DEPENDENCY"
    MODEL_FAILED = "MODEL_FAILED"
    MODEL_CRASH = "MODEL_CRASH"
    INVALID_OUTPUT = "INVALID_OUTPUT"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    OVERLOADED = "OVERLOADED"
    NOT_READY = "NOT_READY"
    INTERNAL = "INTERNAL"


class Violation(msgspec.Struct, frozen=True):
    """One mistake: where it is and what is allowed there. Never the offending value."""

    path: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}" if self.path else self.reason


class LimenError(Exception):
    """An error Limen raised on purpose."""

    code: ClassVar[ErrorCode] = ErrorCode.INTERNAL
    default_reason: ClassVar[Reason] = Reason.INTERNAL
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str = "",
        *,
        reason: Reason | None = None,
        violations: Iterable[Violation] = (),
        retry_after_s: float | None = None,
    ) -> None:
        """Keep a catalogue text, never a caller's value or a foreign exception's text.

        Args:
            message: what happened, for people; the class docstring when empty.
            reason: the precise catalogue reason; the class default when None.
            violations: every mistake found, each with its path.
            retry_after_s: seconds after which a retry is worth it.
        """
        super().__init__(message)
        self.message = message or (type(self).__doc__ or "").strip().partition("\n")[0]
        self.reason = reason or self.default_reason
        self.violations = tuple(violations)
        self.retry_after_s = retry_after_s
        self.request_id = ""
        """The request it is about, as a client was told; empty inside a server."""
        self.incident = ""
        """What the log of the process where it happened calls it; never told to callers."""
        self.place = ""
        """Where on this machine it happened: for the person at it, never for a caller."""
        self.is_counted = False
        """Whether the metrics know of it."""
        self.version = ""
        """The version of a model that the request had reached, for the log."""

    def __str__(self) -> str:
        return self.message


class CallerError(LimenError):
    """The request cannot be served as it was sent."""


class InvalidArgument(CallerError):
    """The request is not valid."""

    code = ErrorCode.INVALID_ARGUMENT
    default_reason = Reason.INVALID_FIELD

    @classmethod
    def at(cls, path: str, text: str, reason: Reason = Reason.INVALID_FIELD) -> InvalidArgument:
        """Build the error for one mistake at one path."""
        return cls(f"{path}: {text}" if path else text, reason=reason, violations=(Violation(path, text),))

    @classmethod
    def of(cls, violations: Iterable[Violation], reason: Reason = Reason.INVALID_FIELD) -> InvalidArgument:
        """Build one error that lists every mistake; the message names the first ones."""
        found = tuple(violations)
        shown = "; ".join(str(v) for v in found[:3])
        more = f" (and {len(found) - 3} more)" if len(found) > 3 else ""
        return cls(shown + more, reason=reason, violations=found)


class Refused(CallerError):
    """The model does not take this request.

    A Python class of a package raises it for a request that its contract allows and the model cannot answer. The message reaches
    the caller as it is: it says what to do and repeats no value.
    """

    code = ErrorCode.INVALID_ARGUMENT
    default_reason = Reason.REFUSED
    MAX_MESSAGE: ClassVar[int] = 1000

    def __init__(
        self,
        message: str = "",
        *,
        field: str = "",
        reason: Reason | None = None,
        violations: Iterable[Violation] = (),
        retry_after_s: float | None = None,
    ) -> None:
        """Refuse a request.

        Args:
            message: what is wrong and what to do, for the caller; cut after 1000 characters.
            field: the input that is at fault, when it is one.
            reason: as `LimenError`.
            violations: as `LimenError`.
            retry_after_s: as `LimenError`.
        """
        message = str(message)[: self.MAX_MESSAGE]
        if field and not violations:
            violations = (Violation(str(field), message),)
            message = f"{field}: {message}"
        super().__init__(message, reason=reason, violations=violations, retry_after_s=retry_after_s)


class Unauthenticated(CallerError):
    """A valid credential is required."""

    code = ErrorCode.UNAUTHENTICATED
    default_reason = Reason.UNAUTHENTICATED


class PermissionDenied(CallerError):
    """This caller may not do this."""

    code = ErrorCode.PERMISSION_DENIED
    default_reason = Reason.PERMISSION_DENIED


class NotFound(CallerError):
    """There is nothing here by that name."""

    code = ErrorCode.NOT_FOUND
    default_reason = Reason.NOT_FOUND


class AlreadyExists(CallerError):
    """There is something else by that name, and it is never replaced."""

    code = ErrorCode.ALREADY_EXISTS
    default_reason = Reason.ALREADY_EXISTS


class Stale(CallerError):
    """It has changed since it was read; read it again and decide anew."""

    code = ErrorCode.ABORTED
    default_reason = Reason.STALE


class Incompatible(CallerError):
    """This would break callers; a breaking contract needs a new major version."""

    code = ErrorCode.FAILED_PRECONDITION
    default_reason = Reason.INCOMPATIBLE


class NotAllowedNow(CallerError):
    """The registry does not allow this as things are."""

    code = ErrorCode.FAILED_PRECONDITION
    default_reason = Reason.IN_USE


class Unsupported(CallerError):
    """This part of the protocol is not offered."""

    code = ErrorCode.UNIMPLEMENTED
    default_reason = Reason.UNSUPPORTED


class Cancelled(CallerError):
    """The caller went away."""

    code = ErrorCode.CANCELLED
    default_reason = Reason.CANCELLED


class ModelError(LimenError):
    """The model or its package is at fault."""


class InvalidPackage(ModelError):
    """The package cannot be used as it is."""

    code = ErrorCode.FAILED_PRECONDITION
    default_reason = Reason.INVALID_PACKAGE


class ModelFailed(ModelError):
    """The model failed on this request."""

    code = ErrorCode.INTERNAL
    default_reason = Reason.MODEL_FAILED


class InvalidOutput(ModelError):
    """The model's answer breaks its contract."""

    code = ErrorCode.INTERNAL
    default_reason = Reason.INVALID_OUTPUT


class PlatformError(LimenError):
    """Limen or its machine is at fault."""

    retryable = True


class DeadlineExceeded(PlatformError):
    """The deadline passed before the answer was ready."""

    code = ErrorCode.DEADLINE_EXCEEDED
    default_reason = Reason.DEADLINE_EXCEEDED


class ResourceExhausted(PlatformError):
    """The server is at its limit."""

    code = ErrorCode.RESOURCE_EXHAUSTED
    default_reason = Reason.OVERLOADED


class Unavailable(PlatformError):
    """The model cannot serve just now."""

    code = ErrorCode.UNAVAILABLE
    default_reason = Reason.NOT_READY


class Internal(PlatformError):
    """An unexpected fault inside the server."""

    code = ErrorCode.INTERNAL
    default_reason = Reason.INTERNAL
    retryable = False
