"""The life cycle of one version: its states and what each guarantees."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class State(StrEnum):
    """Where a version is in its life.

    `NEW → LOADING → WARMING → READY → DRAINING → UNLOADED`, and from any of them `FAILED`.
    """

    NEW = "NEW"
    """Wanted; nothing has been done yet."""
    LOADING = "LOADING"
    """Its placement is reading the artifact."""
    WARMING = "WARMING"
    """Loaded; it is answering its own examples."""
    READY = "READY"
    """Gave right answers. Announced only after it can be acquired."""
    DRAINING = "DRAINING"
    """No longer handed out (said before it is true); requests that hold it finish."""
    UNLOADED = "UNLOADED"
    """Gone: the last lease was released or the drain deadline passed."""
    FAILED = "FAILED"
    """Could not be loaded or gave a wrong answer; the reason is kept."""


class VersionStatus(msgspec.Struct, frozen=True):
    """What is known of one version at one moment."""

    model: str
    version: str
    state: State
    reason: str = ""
    """Why it failed; empty otherwise."""
    digest: str = ""
    leases: int = 0


class VersionLoad(msgspec.Struct, frozen=True):
    """How busy a ready version is in one process at one moment."""

    model: str
    version: str
    waiting: int
    """Requests that no batch has taken yet."""
    in_flight: int
    """Requests in a batch."""
    waiting_rows: int
    wait_s: float
    """What a request that comes now is expected to wait."""
    requests: int = 0
    """How many it has had so far, answered or not."""
