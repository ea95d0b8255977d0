"""Endpoints: the spec that operators want, and the observed status.

Plain values that travel between `traffic`, the management API and the client. `traffic.endpoints` reads and judges them.

    name: credit
    model: credit
    traffic: {champion: 90, challenger: 10}
    ready: [3]
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

from limen.contracts.conditions import Condition, ConditionType, find, holds
from limen.contracts.contract import Slo
from limen.contracts.serving import Serving


class EndpointSpec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What operators want. `traffic.endpoints.parse_spec` makes one that is sound in itself."""

    name: str
    model: str
    major: int = 1
    """Contract major that it promises; versions of another are refused."""
    traffic: dict[str, int]
    """Alias or version number to its share of the requests that name no version, in percent; 100 together."""
    ready: tuple[str, ...] = ()
    """Aliases and version numbers that are kept loaded as well, for callers who name them."""
    placement: Literal["", "process", "inline"] = ""
    """Where its versions run; as the server is set up when empty."""
    serving: Serving | None = None
    """Replicas, queue and resources; what each package says when None."""
    slo: Slo | None = None
    """What it promises about time; what each contract says when None."""
    is_paused: bool = False
    """Unloads all its versions; callers are told that it is not ready."""


class Route(msgspec.Struct, frozen=True):
    """One version's share of an endpoint's requests."""

    version: int
    weight: int
    """Percent."""


class EndpointPhase(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One version of an endpoint as a server sees it."""

    version: int
    state: str
    """Where it is on its way into and out of use, such as LIVE."""
    reason: str = ""
    replicas: int = 0


class EndpointStatus(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is so: observed by a server, never set by anybody."""

    observed_revision: int = 0
    """Revision of the spec that the server works towards; 0 where no server runs."""
    is_ready: bool = False
    """Whether callers get answers: the condition Ready, in short."""
    routes: tuple[Route, ...] = ()
    """Where requests go now."""
    versions: tuple[EndpointPhase, ...] = ()
    problem: str = ""
    """Why it is not ready, or not what the spec says; empty while that may still come by itself."""
    is_stale: bool = False
    """Served from the last known state, because the registry cannot be reached: the condition Stale, in short."""
    conditions: tuple[Condition, ...] = ()
    """Ready, Stale, Progressing and Degraded, each with its reason and since when; none where no server runs."""

    @property
    def is_settled(self) -> bool:
        """Whether a server has done what it can for the spec it works towards."""
        progressing = find(self.conditions, ConditionType.PROGRESSING)
        return progressing is not None and not progressing.is_true

    @classmethod
    def of(
        cls,
        conditions: tuple[Condition, ...],
        revision: int,
        routes: tuple[Route, ...],
        versions: tuple[EndpointPhase, ...],
    ) -> EndpointStatus:
        """Return a status that says in short what its conditions say."""
        ready, degraded = find(conditions, ConditionType.READY), find(conditions, ConditionType.DEGRADED)
        problem = degraded.message if degraded is not None and degraded.is_true else ""
        if not problem and ready is not None and ready.needs_attention:
            problem = ready.message
        return cls(
            observed_revision=revision,
            is_ready=holds(conditions, ConditionType.READY),
            routes=routes,
            versions=versions,
            problem=problem,
            is_stale=holds(conditions, ConditionType.STALE),
            conditions=conditions,
        )


class Endpoint(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A public name with its spec and status."""

    spec: EndpointSpec
    status: EndpointStatus = EndpointStatus()
    revision: int = 1
    """Grows with every change of the spec; the entity tag."""
    created_at: datetime
    updated_at: datetime
    updated_by: str = ""
