"""What requests are told when nothing of a version can answer. Used by the version manager, handles and placements."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from limen.contracts.errors import LimenError, NotFound, Unavailable
from limen.runtime.versions.lifecycle import State

SOON_S: Final = 1.0
"""How long callers wait before they retry a model that is on its way."""
LATER_S: Final = 5.0
"""The same for one that failed: starts are tried again after growing pauses."""
_LOADING: Final = (State.NEW, State.LOADING, State.WARMING)


def outage() -> Unavailable:
    """Return the error of a version that is down. A new one each time: who takes it may mark it."""
    text = "no process of the model can be started at the moment; its owner's log says why"
    return Unavailable(text, retry_after_s=LATER_S)


def absence(states: Iterable[State], *, is_expected: bool) -> LimenError:
    """Return why a known model or version has no answer.

    Args:
        states: of the versions in question.
        is_expected: whether it is served here, so that it comes back by itself.
    """
    found = set(states)
    if found.intersection(_LOADING):
        return Unavailable("the model is still loading", retry_after_s=SOON_S)
    if State.FAILED in found:
        return Unavailable("the model failed to load; its owner's log says why", retry_after_s=LATER_S)
    if is_expected:
        return Unavailable("the model is not loaded yet", retry_after_s=SOON_S)
    return NotFound("the model is being unloaded")
