"""Settings of admission; `limen.settings` composes them with those of the other packages.

What one endpoint may hold is not here: that is `serving.queue` of its package.
"""

from __future__ import annotations

from typing import Annotated

import msgspec


class AdmissionConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What one gateway process takes in."""

    max_in_flight: Annotated[int, msgspec.Meta(ge=2, le=1_000_000)] = 8192
    """Requests of all endpoints together. Half goes to whichever comes first, the other half is kept for endpoints within their
    fair share, so one endpoint alone never holds more than half: four times a queue's default of 1,024."""
    target_share: Annotated[float, msgspec.Meta(ge=0.01, le=1)] = 0.25
    """The fraction of `queue.max_wait_ms` that a request may wait under sustained overload: 250 ms by default.
    A caller with a deadline of one second is then answered well within it, and a server of 4,200 requests a
    second still serves 1,024 connections."""
