"""Why a known model or version cannot answer at the moment. Used by the version manager."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from limen.contracts.errors import LimenError, NotFound, Unavailable
from limen.runtime.outage import LATER_S, SOON_S
from limen.runtime.versions.lifecycle import State

_LOADING: Final = (State.NEW, State.LOADING, State.WARMING)


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
        return Unavailable("the model failed to load; see the server's log", retry_after_s=LATER_S)
    if is_expected:
        return Unavailable("the model is not loaded yet", retry_after_s=SOON_S)
    return NotFound("the model is being unloaded")
