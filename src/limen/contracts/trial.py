"""The result of testing a package: whether its model loads, and its answers to examples. Plain values."""

from __future__ import annotations

import msgspec

from limen.contracts.contract import Json
from limen.contracts.independence import Independence


class Loaded(msgspec.Struct, frozen=True):
    """The model is loaded and has the tensors that its contract says."""

    load_s: float
    can_stream: bool
    isolation: tuple[str, ...]
    """What was taken away from the process, as `runtime.sandbox` calls it."""


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the model makes of one example: its outputs, or why there are none."""

    outputs: dict[str, Json] | None = None
    problem: str = ""


class Probed(msgspec.Struct, frozen=True):
    """Evidence out."""

    loaded: Loaded
    answers: tuple[Answer, ...]
    """One for each example, in their order; none of a model that streams."""
    independence: Independence | None = None
    """Whether rows leave each other's answers alone; None when the process ended over it."""
