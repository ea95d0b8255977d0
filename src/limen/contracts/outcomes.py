"""Who has to act when a request gets no answer: a class beside the error's code, which says what happened."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from limen.contracts.errors import ErrorCode, InvalidOutput, LimenError, ModelError


class OutcomeClass(StrEnum):
    """Who has to act."""

    CALLER = "caller"
    """The request was at fault."""
    MODEL = "model"
    """The model or its package failed."""
    INVALID_OUTPUT = "invalid_output"
    """The model answered, and the answer breaks its contract."""
    PLATFORM = "platform"
    """Limen or its machine was at fault, or had no room."""
    CANCELLED = "cancelled"
    """The caller disconnected."""
    LATE = "late"
    """The deadline passed."""


CLASSES: Final[Mapping[ErrorCode, OutcomeClass]] = {
    ErrorCode.INVALID_ARGUMENT: OutcomeClass.CALLER,
    ErrorCode.UNAUTHENTICATED: OutcomeClass.CALLER,
    ErrorCode.PERMISSION_DENIED: OutcomeClass.CALLER,
    ErrorCode.NOT_FOUND: OutcomeClass.CALLER,
    ErrorCode.ALREADY_EXISTS: OutcomeClass.CALLER,
    ErrorCode.ABORTED: OutcomeClass.CALLER,
    ErrorCode.FAILED_PRECONDITION: OutcomeClass.CALLER,
    ErrorCode.RESOURCE_EXHAUSTED: OutcomeClass.PLATFORM,
    ErrorCode.CANCELLED: OutcomeClass.CANCELLED,
    ErrorCode.DEADLINE_EXCEEDED: OutcomeClass.LATE,
    ErrorCode.UNIMPLEMENTED: OutcomeClass.CALLER,
    ErrorCode.UNAVAILABLE: OutcomeClass.PLATFORM,
    ErrorCode.INTERNAL: OutcomeClass.PLATFORM,
}
"""The class of each code, except for errors of models: those share codes with faults of Limen and of callers."""


def outcome_of(error: LimenError) -> OutcomeClass:
    """Return the class of an error."""
    if isinstance(error, InvalidOutput):
        return OutcomeClass.INVALID_OUTPUT
    return OutcomeClass.MODEL if isinstance(error, ModelError) else CLASSES[error.code]
