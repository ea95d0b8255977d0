"""Logs the history of versions: when one is loaded, goes live, fails, is rolled back or unloaded, by whom and why.

Compares what control decided with what it knew at the look before. Called by `serving.control.controlplane` after every tick; decides nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from limen.serving.fleet.fleet import Fleet
from limen.serving.fleet.records import Endpoint, Phase, Version
from limen.telemetry.logs import FIELDS
from limen.telemetry.repeats import EVENTS

LOG = logging.getLogger(EVENTS)
ITSELF = "limen"
"""The actor where the server decides by itself."""
_GONE = (Phase.RETIRING, Phase.UNLOADED)


class Cause(msgspec.Struct, frozen=True):
    """Why an endpoint is wanted as it is."""

    actor: str
    """Who wanted it so."""
    text: str
    """What was done."""


@dataclass(slots=True)
class _Seen:
    """A version at the last look."""

    phase: Phase
    since: float
    """When it was first seen on its way into use."""
    cause: Cause


_Key = tuple[str, str, str]
"""Endpoint, number and digest of a version."""


class History:
    """Tells what has become of the versions of one fleet."""

    def __init__(self, fleet: Fleet, cause_of: Callable[[str], Cause]) -> None:
        """Look at a fleet; `cause_of` says why an endpoint is wanted as it is now."""
        self._fleet = fleet
        self._cause_of = cause_of
        self._seen: dict[_Key, _Seen] = {}

    def resume(self, now: float) -> None:
        """Take what is there for known: an earlier control process has told it."""
        for key, version in self._versions():
            self._seen[key] = _Seen(version.phase, now, self._cause_of(key[0]))

    def look(self, now: float) -> None:
        """Tell what has changed since the last look; `now` is as in `Fleet.tick`."""
        there = dict(self._versions())
        for key, version in there.items():
            seen = self._seen.get(key)
            if seen is None or (seen.phase in _GONE and version.is_coming):
                self._seen[key] = seen = _Seen(Phase.STARTING, now, self._cause_of(key[0]))
                _tell(logging.INFO, "loading", key, seen.cause, f"version {key[1]} is being loaded")
            if seen.phase is not version.phase:
                self._changed(self._fleet.endpoints[key[0]], key, version, seen, now)
                seen.phase = version.phase
        for key in [key for key in self._seen if key not in there]:
            seen = self._seen.pop(key)
            if seen.phase not in (Phase.FAILED, Phase.UNLOADED):
                _tell(logging.INFO, "unloaded", key, self._cause_of(key[0]), f"version {key[1]} is unloaded")

    def _versions(self) -> list[tuple[_Key, Version]]:
        return [((v.opened.endpoint, v.number, v.opened.digest), v) for v in self._fleet.versions()]

    def _changed(self, endpoint: Endpoint, key: _Key, version: Version, seen: _Seen, now: float) -> None:
        if version.phase is Phase.LIVE:
            text = f"version {key[1]} is live after {now - seen.since:.1f} s"
            _tell(logging.INFO, "live", key, seen.cause, text)
        elif version.phase is Phase.FAILED:
            _tell(logging.ERROR, "failed", key, seen.cause, f"version {key[1]} failed: {version.reason}")
            if endpoint.good is not None and endpoint.good.routes:
                kept = ", ".join(str(route.version) for route in endpoint.good.routes)
                text = f"rolled back to version {kept}"
                _tell(logging.WARNING, "rolled_back", key, Cause(ITSELF, f"version {key[1]} failed"), text)
        elif version.phase is Phase.UNLOADED:
            _tell(logging.INFO, "unloaded", key, self._cause_of(key[0]), f"version {key[1]} is unloaded")


def _tell(level: int, event: str, key: _Key, cause: Cause, text: str) -> None:
    fields = {"event": event, "endpoint": key[0], "version": key[1], "actor": cause.actor, "cause": cause.text}
    LOG.log(level, "%s: %s (by %s: %s)", key[0], text, cause.actor, cause.text, extra={FIELDS: fields})
