"""Errors for requests while no replica of a version can answer. Used by the version manager, handles and placements."""

from __future__ import annotations

from typing import Final

from limen.contracts.errors import Unavailable

SOON_S: Final = 1.0
"""How long callers wait before they retry a model that is on its way."""
LATER_S: Final = 5.0
"""The same for one that failed: starts are tried again after growing pauses."""


def outage() -> Unavailable:
    """Return the error of a version that is down. A new one each time: who takes it may mark it."""
    text = "no process of the model can be started at the moment; see the server's log"
    return Unavailable(text, retry_after_s=LATER_S)
