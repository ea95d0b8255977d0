"""An inference request and its answer, independent of the protocol.

Gateways build requests and read responses; everything between them sees only these.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

import msgspec

from limen.contracts.errors import DeadlineExceeded, LimenError
from limen.contracts.tensors import Array

Parameter = bool | int | float | str
MAX_DEADLINE_S = 3600.0
"""A caller's deadline is clamped to this."""


class Deadline:
    """A point on the monotonic clock after which an answer is useless."""

    __slots__ = ("at",)

    def __init__(self, at: float) -> None:
        """Take seconds on `time.monotonic()`; infinity means never."""
        self.at = at

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """Return the deadline `seconds` from now, clamped to one hour."""
        return cls(time.monotonic() + min(seconds, MAX_DEADLINE_S))

    @property
    def is_set(self) -> bool:
        """Whether there is a deadline at all."""
        return self.at != math.inf

    def remaining_s(self) -> float:
        """Return the seconds left; negative when it has passed, infinity when there is none."""
        return self.at - time.monotonic()

    def check(self) -> None:
        """Raise `DeadlineExceeded` when it has passed."""
        if self.at != math.inf and self.at <= time.monotonic():
            raise DeadlineExceeded


NO_DEADLINE = Deadline(math.inf)


class RequestedOutput(msgspec.Struct, frozen=True, gc=False):
    """One output the caller asked for."""

    name: str
    binary: bool | None = None
    """Give it as raw bytes; None leaves it to the request's default (REST only)."""
    classification: int = 0
    """Give the N best classes instead of the values; 0 when not asked for."""


class InferenceRequest(msgspec.Struct, gc=False):
    """One request: named tensors, each with the batch as its first axis.

    `checked` is the compiled contract the inputs were validated against while they were decoded; the data plane checks
    them itself when it is another one. None: they are still as OIP's callers name and shape them.
    """

    model_name: str
    inputs: dict[str, Array]
    model_version: str = ""
    id: str = ""
    parameters: Mapping[str, Parameter] = {}
    outputs: tuple[RequestedOutput, ...] = ()
    rows: int = 0
    checked: Any = None
    priority: int = 0
    """OIP's `priority`: 0 is the default, 1 the highest, larger is lower."""
    log_id: str = ""
    """What the log calls it when the caller gave no id in it: the id that the caller is told."""
    is_trial: bool = False
    """Whether nobody asks it: rows that were made up to find out about the model. Neither logged nor counted nor learnt from."""
    is_finite: bool = False
    """Whether the decoder has already made sure that no number is NaN or infinite."""

    @property
    def label(self) -> str:
        """What the log calls it."""
        return self.id or self.log_id or "without an id"


class InferenceResponse(msgspec.Struct, gc=False):
    """One answer: named tensors in the order the contract declares or the caller asked for."""

    model_name: str
    model_version: str
    outputs: dict[str, Array]
    id: str = ""
    parameters: Mapping[str, Parameter] = {}


Outcome = InferenceResponse | LimenError
"""What each member of a batch gets."""


class StreamPart(msgspec.Struct, frozen=True):
    """One part of an answer. The last one says so and may be empty."""

    response: InferenceResponse
    is_final: bool
