"""Rules for the conditions of a server and its endpoints: Ready, Stale, Progressing and Degraded, each with a reason.

The only place where "ready" and "why not" are derived. Pure functions: records of `serving.fleet.records` in, verdicts out. Called by
`serving.control.conditions`, which knows since when.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Protocol

from limen.contracts.conditions import Condition, ConditionReason, ConditionStatus, ConditionType, holds
from limen.runtime.versions.lifecycle import State
from limen.serving.fleet.fleet import Fleet
from limen.serving.fleet.records import Aim, Endpoint, Gateway, Phase, Replica, Version
from limen.serving.messages.lines import ProcessPhase

SILENCE_S: Final = 10.0
"""After how long without a report a gateway counts as missing."""
MAX_NAMES: Final = 5
"""How many endpoints a message about the server names."""
Verdict = tuple[ConditionStatus, ConditionReason, str]
TRUE, FALSE, UNKNOWN = ConditionStatus.TRUE, ConditionStatus.FALSE, ConditionStatus.UNKNOWN


class Source(Protocol):
    """What of a source of endpoints is asked for here."""

    problem: str
    """Why the source cannot be followed; empty when it can."""

    def problem_of(self, name: str) -> str:
        """Return why an endpoint is not what it should be; empty when nothing is known."""
        ...


@dataclass(frozen=True, slots=True)
class Doors:
    """The gateways that have their ports open, and which versions each of them has."""

    open: tuple[str, ...]
    """Names of those that should answer now."""
    ready: tuple[tuple[str, frozenset[tuple[str, str]]], ...]
    """For each that has reported: its name, and the endpoints and versions that it can answer with."""
    reasons: dict[tuple[str, str], str]
    """Why a gateway cannot answer with a version."""

    @classmethod
    def of(cls, gateways: Iterable[Gateway]) -> Doors:
        """Read what gateways have reported."""
        gateways = [g for g in gateways if g.phase is ProcessPhase.RUNNING]
        ready: list[tuple[str, frozenset[tuple[str, str]]]] = []
        reasons: dict[tuple[str, str], str] = {}
        for gateway in gateways:
            if gateway.report is not None:
                statuses = gateway.report.versions
                has = frozenset((s.model, s.version) for s in statuses if s.state is State.READY)
                ready.append((gateway.name, has))
                reasons |= {(s.model, s.version): s.reason for s in statuses if s.reason}
        return cls(tuple(g.name for g in gateways), tuple(ready), reasons)

    def without(self, endpoint: str, numbers: Iterable[str], *, needs_all: bool) -> tuple[str, list[str]] | None:
        """Return the first gateway that cannot answer, with the versions that it lacks; None when every one can."""
        wanted = list(numbers)
        for name, has in self.ready:
            lacks = [number for number in wanted if (endpoint, number) not in has]
            if lacks and (needs_all or len(lacks) == len(wanted)):
                return name, lacks
        return None


# -- an endpoint -----------------------------------------------------------------------------------------------------------


def judge_endpoint(endpoint: Endpoint, doors: Doors, source: Source) -> dict[ConditionType, Verdict]:
    """Return all conditions of an endpoint, without their times."""
    problem = source.problem_of(endpoint.name)
    return {
        ConditionType.READY: _ready(endpoint, doors, problem),
        ConditionType.STALE: _stale(source),
        ConditionType.PROGRESSING: _progressing(endpoint),
        ConditionType.DEGRADED: _degraded(endpoint, doors, problem),
    }


def _ready(endpoint: Endpoint, doors: Doors, problem: str) -> Verdict:
    if endpoint.is_paused:
        return FALSE, ConditionReason.PAUSED, "it is paused"
    now = endpoint.offer or endpoint.good or Aim()
    if not now.routes:
        return _nothing(endpoint, problem)
    if not doors.open:
        return FALSE, ConditionReason.NO_GATEWAY, "no gateway has open ports"
    if not doors.ready:
        return UNKNOWN, ConditionReason.NOT_REPORTED, "no gateway has reported yet"
    numbers = [str(route.version) for route in now.routes]
    if endpoint.offer is not None:
        # Until the offer is good, whatever was there before answers as well.
        numbers = list(dict.fromkeys((*numbers, *endpoint.versions)))
    found = (endpoint.versions.get(number) for number in numbers)
    down = next((v for v in found if v is not None and v.down), None) if endpoint.offer is None else None
    if down is not None:
        return FALSE, ConditionReason.REPLICAS_MISSING, f"version {down.number}: {down.down}"
    lacking = doors.without(endpoint.name, numbers, needs_all=endpoint.offer is None)
    if lacking is None:
        shares = [(str(r.version), r.weight) for r in now.routes]
        return TRUE, ConditionReason.ANSWERS, _answering(shares if endpoint.offer is None else [])
    if endpoint.good is None and endpoint.offer is not None:
        return FALSE, ConditionReason.LOADING, _coming(endpoint)
    gateway, versions = lacking
    number = versions[0]
    why = _why(endpoint, number, doors)
    text = f"{gateway} cannot answer with version {number}"
    return FALSE, ConditionReason.VERSION_NOT_READY, f"{text}: {why}" if why else text


def _nothing(endpoint: Endpoint, problem: str) -> Verdict:
    """Say why an endpoint has no version that takes requests."""
    if endpoint.is_expected or any(v.is_coming for v in endpoint.versions.values()):
        return FALSE, ConditionReason.LOADING, _coming(endpoint)
    if endpoint.lacks_room:
        return FALSE, ConditionReason.NO_ROOM, endpoint.problem
    if problem:
        return FALSE, ConditionReason.PACKAGE_UNAVAILABLE, problem
    if endpoint.problem:
        return FALSE, ConditionReason.VERSION_FAILED, endpoint.problem
    return FALSE, ConditionReason.NO_VERSION, "no version has been loaded yet"


def _why(endpoint: Endpoint, number: str, doors: Doors) -> str:
    version = endpoint.versions.get(number)
    said = doors.reasons.get((endpoint.name, number), "")
    if said or version is None:
        return said
    return version.reason or version.down or version.block or next((_end(r) for r in _missing(version)), "")


def _missing(version: Version) -> list[Replica]:
    """Return the replicas that have died and are not back."""
    return [r for r in version.staying() if r.end and r.phase is not ProcessPhase.RUNNING]


def _end(replica: Replica) -> str:
    said = replica.word.failed.message if replica.word is not None and replica.word.failed is not None else ""
    return said or replica.end


def _answering(shares: list[tuple[str, int]]) -> str:
    if not shares:
        return "the previous versions answer until the new ones are ready"
    if len(shares) == 1:
        return f"version {shares[0][0]} answers"
    return "versions " + ", ".join(f"{number} ({weight} %)" for number, weight in shares) + " answer"


def _stale(source: Source) -> Verdict:
    if source.problem:
        return TRUE, ConditionReason.REGISTRY_UNAVAILABLE, f"serving the last known state: {source.problem}"
    return FALSE, ConditionReason.SOURCE_FOLLOWED, "its source can be read"


def _progressing(endpoint: Endpoint) -> Verdict:
    if endpoint.is_settled and not endpoint.is_expected:
        return FALSE, ConditionReason.SETTLED, "no change in progress"
    return TRUE, ConditionReason.LOADING, _coming(endpoint)


def _coming(endpoint: Endpoint) -> str:
    if endpoint.is_expected:
        return "its packages are being fetched"
    loading = [v.number for v in endpoint.versions.values() if v.phase is Phase.STARTING]
    offered = [v.number for v in endpoint.versions.values() if v.phase in (Phase.LOADED, Phase.OFFERED)]
    if loading:
        return f"{_numbered(loading)} {'is' if len(loading) == 1 else 'are'} being loaded"
    if offered:
        return f"gateways are preparing {_numbered(offered)}"
    return "gateways are following"


def _numbered(numbers: list[str]) -> str:
    return ("version " if len(numbers) == 1 else "versions ") + ", ".join(numbers)


def _degraded(endpoint: Endpoint, doors: Doors, problem: str) -> Verdict:
    if endpoint.is_paused:
        return FALSE, ConditionReason.PAUSED, "it is paused"
    if endpoint.lacks_room:
        return TRUE, ConditionReason.NO_ROOM, endpoint.problem
    if problem:
        return TRUE, ConditionReason.PACKAGE_UNAVAILABLE, problem
    if endpoint.problem:
        return TRUE, ConditionReason.VERSION_FAILED, endpoint.problem
    now = endpoint.good or Aim()
    for number in now.versions:
        version = endpoint.versions.get(number)
        missing = _missing(version) if version is not None else []
        if version is not None and (missing or version.block or version.down):
            text = version.down or version.block or f"{missing[0].name} {_end(missing[0])}, and is not back yet"
            return TRUE, ConditionReason.REPLICAS_MISSING, f"version {number}: {text}"
        if version is not None and version.overgrown:
            text = f"a replica has outgrown its memory limit, and none can start in its place: {version.overgrown}"
            return TRUE, ConditionReason.MEMORY_LIMIT, f"version {number}: {text}"
    if endpoint.offer is None and (lacking := doors.without(endpoint.name, now.versions, needs_all=True)) is not None:
        gateway, versions = lacking
        why = _why(endpoint, versions[0], doors)
        text = f"{gateway} does not have {_numbered(versions)} ready"
        return TRUE, ConditionReason.VERSION_NOT_READY, f"{text}: {why}" if why else text
    return FALSE, ConditionReason.AS_SPECIFIED, "no known problems"


# -- the server ------------------------------------------------------------------------------------------------------------


def judge_server(
    fleet: Fleet,
    doors: Doors,
    source: Source,
    found: dict[str, tuple[Condition, ...]],
    faults: dict[ConditionReason, str],
    now: float,
) -> dict[ConditionType, Verdict]:
    """Return all conditions of the server, without their times.

    Args:
        fleet: its processes.
        doors: its open gateways.
        source: where its endpoints come from.
        found: the conditions of its endpoints.
        faults: what is wrong with the server itself, by whoever has noticed.
        now: as in `Fleet.tick`.
    """
    return {
        ConditionType.READY: _server_ready(fleet, doors, found),
        ConditionType.STALE: _stale(source),
        ConditionType.PROGRESSING: _server_progressing(fleet, found),
        ConditionType.DEGRADED: _server_degraded(fleet, found, faults, now),
    }


def _server_ready(fleet: Fleet, doors: Doors, found: dict[str, tuple[Condition, ...]]) -> Verdict:
    if not doors.open:
        return FALSE, ConditionReason.NO_GATEWAY, "no gateway has open ports"
    if not fleet.is_started:
        return FALSE, ConditionReason.STARTING, "not every endpoint has been ready since the start"
    if not doors.ready:
        return UNKNOWN, ConditionReason.NOT_REPORTED, "no gateway has reported yet"
    waiting = [n for n, cs in found.items() if not fleet.endpoints[n].is_paused and not holds(cs, ConditionType.READY)]
    if waiting:
        return FALSE, ConditionReason.ENDPOINTS_NOT_READY, f"not ready: {_named(waiting)}"
    return TRUE, ConditionReason.ANSWERS, "every endpoint answers"


def _server_progressing(fleet: Fleet, found: dict[str, tuple[Condition, ...]]) -> Verdict:
    moving = [name for name, conditions in found.items() if holds(conditions, ConditionType.PROGRESSING)]
    if moving:
        return TRUE, ConditionReason.ENDPOINTS_PROGRESSING, f"changing: {_named(moving)}"
    if not fleet.is_started:
        return TRUE, ConditionReason.STARTING, "the server is starting"
    return FALSE, ConditionReason.SETTLED, "no change in progress"


def _server_degraded(
    fleet: Fleet, found: dict[str, tuple[Condition, ...]], faults: dict[ConditionReason, str], now: float
) -> Verdict:
    for reason, text in faults.items():
        return TRUE, reason, text
    if fleet.is_started and (text := _gateways_away(fleet, now)):
        return TRUE, ConditionReason.GATEWAYS_MISSING, text
    degraded = [name for name, conditions in found.items() if holds(conditions, ConditionType.DEGRADED)]
    if degraded:
        return TRUE, ConditionReason.ENDPOINTS_DEGRADED, f"degraded: {_named(degraded)}"
    return FALSE, ConditionReason.AS_SPECIFIED, "no known problems"


def _gateways_away(fleet: Fleet, now: float) -> str:
    """Return which gateways are missing or silent; empty when all are there."""
    running = [g for g in fleet.gateways.values() if g.phase is ProcessPhase.RUNNING]
    away = sorted({spec.name for spec in fleet.gateway_specs} - {g.name for g in running})
    if away:
        return f"{_named(away)} {'is' if len(away) == 1 else 'are'} not running"
    silent = sorted(g.name for g in running if g.report is not None and now - g.reported_at > SILENCE_S)
    return f"{_named(silent)} did not report for more than {SILENCE_S:g} s" if silent else ""


def _named(names: list[str]) -> str:
    shown = ", ".join(names[:MAX_NAMES])
    return shown if len(names) <= MAX_NAMES else f"{shown} and {len(names) - MAX_NAMES} more"
