"""What requests are told when nothing of a version can answer for a while. Used by handles and placements."""

from __future__ import annotations

from typing import Final

from limen.contracts.errors import Unavailable

RETRY_AFTER_S: Final = 5.0
"""What callers are told to wait: starts are tried again after growing pauses."""


def outage() -> Unavailable:
    """Return the error of a version that is down. A new one each time: who takes it may mark it."""
    text = "no process of the model can be started at the moment; its owner's log says why"
    return Unavailable(text, retry_after_s=RETRY_AFTER_S)
