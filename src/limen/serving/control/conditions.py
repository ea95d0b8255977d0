"""The conditions of a server and its endpoints, and the times of their last changes.

What holds is judged by `serving.control.condition_rules`. Looked at by `serving.control.controlplane` every second, and asked by status, management API and
metrics.
"""

from __future__ import annotations

import contextlib
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from limen.contracts.conditions import Condition, ConditionReason, ConditionType
from limen.serving.control.condition_rules import UNKNOWN, Doors, Source, Verdict, judge_endpoint, judge_server
from limen.serving.fleet.fleet import Fleet
from limen.serving.fleet.records import Gateway
from limen.serving.messages.lines import Failure, ProcessPhase, ProcessState
from limen.storage.files import write_whole

LOG = logging.getLogger("limen.control")
_SERVER: Final = ""
_OF_ENDPOINTS: Final = (ConditionReason.ENDPOINTS_NOT_READY, ConditionReason.ENDPOINTS_DEGRADED)
"""Reasons of the server that the log has told of an endpoint."""


class _Kept(msgspec.Struct, frozen=True):
    """One condition that is kept for the next control process."""

    endpoint: str
    """Empty for the server."""
    condition: Condition


class Conditions:
    """The conditions of one server and its endpoints, and since when they are so."""

    def __init__(
        self, fleet: Fleet, source: Source, file: Path, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        """Judge the endpoints of a fleet.

        Args:
            fleet: whose endpoints they are.
            source: where they come from.
            file: where the beginnings are kept for the next control process.
            clock: the time of day.
        """
        self._fleet = fleet
        self._source = source
        self._file = file
        self._clock = clock
        self._known: dict[tuple[str, ConditionType], Condition] = {}
        """The last conditions whose status was known."""
        self.faults: dict[ConditionReason, str] = {}
        """What is wrong with the server itself, and not with an endpoint. Whoever notices sets it, and takes it away again."""
        self.server: tuple[Condition, ...] = ()
        self.endpoints: dict[str, tuple[Condition, ...]] = {}
        self._is_kept = True
        """Whether the file says what is known."""
        self._is_stopping = False

    def look(self, now: float) -> None:
        """Derive everything anew; `now` is as in `Fleet.tick`. Call it before reading where the last second matters."""
        moment, doors = self._clock(), Doors.of(self._fleet.gateways.values())
        self._is_stopping = self._is_stopping or _is_stopping(self._fleet.gateways.values())
        if self._is_stopping:
            # What ends now ends because the server was told to: nothing is wrong.
            return
        served = [e for e in self._fleet.endpoints.values() if not e.is_removed]
        self.endpoints = {e.name: self._dated(e.name, judge_endpoint(e, doors, self._source), moment) for e in served}
        verdicts = judge_server(self._fleet, doors, self._source, self.endpoints, self.faults, now)
        self.server = self._dated(_SERVER, verdicts, moment)
        for key in [key for key in self._known if key[0] and key[0] not in self.endpoints]:
            del self._known[key]
        self._keep()

    def resume(self) -> None:
        """Take over what an earlier control process has kept; without that, everything begins now."""
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            found = msgspec.json.decode(self._file.read_bytes(), type=tuple[_Kept, ...])
            self._known = {(k.endpoint, k.condition.type): k.condition for k in found}

    def _keep(self) -> None:
        if not self._is_kept:
            # On a full disk the times are lost with this process, and nothing else.
            with contextlib.suppress(OSError):
                kept = tuple(_Kept(endpoint, condition) for (endpoint, _), condition in self._known.items())
                write_whole(self._file, msgspec.json.encode(kept))
                self._is_kept = True

    def _dated(self, name: str, verdicts: dict[ConditionType, Verdict], moment: datetime) -> tuple[Condition, ...]:
        return tuple(self._condition(name, kind, verdict, moment) for kind, verdict in verdicts.items())

    def _condition(self, name: str, kind: ConditionType, verdict: Verdict, moment: datetime) -> Condition:
        status, reason, message = verdict
        known = self._known.get((name, kind))
        since = known.since if known is not None and known.status is status else moment
        condition = Condition(kind, status, reason, message, since)
        if status is UNKNOWN:
            # Only a status that is known ends the one before.
            return condition
        self._known[name, kind] = condition
        if known is None or known.status is not status:
            self._is_kept = False
            if known is not None and kind is not ConditionType.PROGRESSING and reason not in _OF_ENDPOINTS:
                _tell(name, condition, (moment - known.since).total_seconds())
        return condition


def _tell(name: str, condition: Condition, after_s: float) -> None:
    """Log that a status has changed, and how long the one before lasted."""
    subject = f"endpoint {name}" if name else "the server"
    LOG.log(
        logging.WARNING
        if condition.needs_attention and condition.reason is not ConditionReason.PAUSED
        else logging.INFO,
        "%s: %s is %s after %.0f s (%s): %s",
        subject,
        condition.type.value,
        condition.status.value,
        after_s,
        condition.reason.value,
        condition.message,
    )


def _is_stopping(gateways: Iterable[Gateway]) -> bool:
    """Whether the server is being stopped: gateways were told to end, and nothing takes their place."""
    phases = defaultdict(set)
    for gateway in gateways:
        phases[gateway.name].add(gateway.phase)
    return any(found == {ProcessPhase.STOPPING} for found in phases.values())


def refusal_of(state: ProcessState) -> Failure | None:
    """Return why a gateway that has never been ready cannot be."""
    if state.word is not None and state.word.failed is not None:
        return state.word.failed
    if state.phase in (ProcessPhase.PAUSED, ProcessPhase.ENDED) and state.word is None:
        return Failure(f"{state.name} ended before it was ready", hint="Any output it left is above.")
    return None
