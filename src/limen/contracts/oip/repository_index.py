"""The index of the model repository extension: endpoints, their versions and their states.

Source: Triton, "Model Repository Extension".
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

UNLOADED: Final = "unloaded"
"""The reason of a version that was let go because somebody wanted it so."""


class IndexState(StrEnum):
    """How a version is, in the extension's words."""

    READY = "READY"
    """It answers."""
    UNAVAILABLE = "UNAVAILABLE"
    """It does not; the reason says why."""
    LOADING = "LOADING"
    """It is on its way into use."""
    UNLOADING = "UNLOADING"
    """It takes no new request and finishes those it has."""


class IndexEntry(msgspec.Struct, frozen=True):
    """One version of one endpoint, or an endpoint that has none."""

    name: str
    version: str
    """Its number; empty where no version is known."""
    state: IndexState
    reason: str = ""
    """Why it is unavailable; empty otherwise."""
