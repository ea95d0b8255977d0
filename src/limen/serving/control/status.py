"""The server status that `limen status` shows, assembled from control's records."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from limen.contracts.conditions import Condition, ConditionType, holds
from limen.contracts.endpoint import EndpointPhase, EndpointStatus
from limen.runtime.versions.lifecycle import State, VersionLoad, VersionStatus
from limen.serving.control.conditions import Conditions
from limen.serving.control.config import ControlConfig
from limen.serving.fleet.fleet import Fleet
from limen.serving.fleet.records import Aim, Endpoint, Phase, Version
from limen.serving.messages.lines import (
    ModelView,
    ProcessPhase,
    ProcessState,
    ProcessView,
    Status,
    TrafficView,
    VersionView,
)
from limen.serving.supervision.facts import rss_bytes

HUNG_AFTER_S = 3.0
"""After how long without a report a gateway is shown as hung; it reports every second, and the supervisor replaces it soon."""


def status_of(
    config: ControlConfig,
    fleet: Fleet,
    conditions: Conditions,
    states: Sequence[ProcessState],
    traffic: Mapping[str, TrafficView],
    wall: float,
    now: float,
) -> Status:
    """Return everything at one moment: `traffic` is what callers have seen, `wall` the time of day, `now` as in `Fleet.tick`."""
    ends = {r.name: r.end for v in fleet.versions() for r in v.replicas.values()}
    models = {r.name: (v.opened.endpoint, v.number) for v in fleet.versions() for r in v.replicas.values()}
    supervisor = ProcessView(
        "supervisor",
        "supervisor",
        config.server_pid,
        "running",
        rss_bytes(config.server_pid),
        0,
        max(0.0, wall - config.started_at),
    )
    processes = [_process(state, models.get(state.name, ("", "")), ends.get(state.name, ""), wall) for state in states]
    silent = {g.pid for g in fleet.gateways.values() if g.report is not None and now - g.reported_at > HUNG_AFTER_S}
    processes = [msgspec.structs.replace(p, phase="hung") if p.pid in silent else p for p in processes]
    if not any(p.kind == "control" for p in processes):
        processes.append(ProcessView("control", "control", os.getpid(), "running", rss_bytes(os.getpid()), 0, 0.0))
    order = ("control", "gateway", "template", "replica")
    processes.sort(key=lambda p: (order.index(p.kind) if p.kind in order else len(order), p.name, p.pid))
    reported = Reported.of(fleet)
    return Status(
        config.server_pid,
        max(0.0, wall - config.started_at),
        config.http,
        config.grpc,
        config.metrics,
        fleet.snapshot.revision,
        holds(conditions.server, ConditionType.READY),
        (supervisor, *processes),
        tuple(_model(endpoint, reported, conditions, traffic) for endpoint in fleet.endpoints.values()),
        conditions.server,
        config.settings(),
    )


def endpoint_statuses(fleet: Fleet, conditions: Conditions, revisions: Mapping[str, int]) -> dict[str, EndpointStatus]:
    """Return how every endpoint is whose spec has one of these revisions."""
    return {
        name: endpoint_status(fleet.endpoints.get(name), conditions.endpoints.get(name, ()), revision)
        for name, revision in revisions.items()
    }


def endpoint_status(endpoint: Endpoint | None, conditions: tuple[Condition, ...], revision: int) -> EndpointStatus:
    """Return how an endpoint is whose spec has this revision; the fleet may not know it yet."""
    now = (endpoint.offer or endpoint.good if endpoint is not None else None) or Aim()
    phases = (_phase(version) for version in endpoint.versions.values()) if endpoint is not None else ()
    return EndpointStatus.of(conditions, revision, now.routes, tuple(phases))


def _phase(version: Version) -> EndpointPhase:
    return EndpointPhase(
        version=int(version.number),
        state="DOWN" if version.down else version.phase.value,
        reason=version.reason or version.down or version.block,
        replicas=sum(r.phase is ProcessPhase.RUNNING for r in version.replicas.values()),
    )


def _process(state: ProcessState, model: tuple[str, str], end: str, wall: float) -> ProcessView:
    is_there = state.phase not in (ProcessPhase.PAUSED, ProcessPhase.ENDED)
    note = end or (f"ended with status {state.status}" if state.status is not None else "")
    if state.is_oom:
        note = "killed by the system: out of memory"
    if state.hangs:
        note = f"killed {state.hangs}× because it hung"
    if state.phase is ProcessPhase.REFUSING and state.word is not None and state.word.failed is not None:
        note = state.word.failed.message
    return ProcessView(
        state.name,
        state.kind,
        state.pid,
        state.phase.value,
        rss_bytes(state.pid) if is_there else 0,
        state.restarts,
        max(0.0, wall - state.started_at) if is_there and state.started_at else 0.0,
        note,
        *model,
        state.hangs,
    )


class Reported(NamedTuple):
    """What all gateways have said last, by endpoint and version."""

    statuses: dict[tuple[str, str], list[VersionStatus]]
    loads: dict[tuple[str, str], list[VersionLoad]]

    @classmethod
    def of(cls, fleet: Fleet) -> Reported:
        """Put together what gateways have reported."""
        found = cls({}, {})
        for report in (g.report for g in fleet.gateways.values() if g.report is not None):
            for status in report.versions:
                found.statuses.setdefault((status.model, status.version), []).append(status)
            for load in report.loads:
                found.loads.setdefault((load.model, load.version), []).append(load)
        return found


def _model(
    endpoint: Endpoint, reported: Reported, conditions: Conditions, traffic: Mapping[str, TrafficView]
) -> ModelView:
    versions = tuple(version_view(version, reported) for version in endpoint.versions.values())
    name = endpoint.name
    return ModelView(name, versions, endpoint.problem, traffic.get(name), conditions.endpoints.get(name, ()))


def version_view(version: Version, reported: Reported) -> VersionView:
    """Return one version as all gateways together see it."""
    key = version.opened.endpoint, version.number
    statuses, loads = reported.statuses.get(key, []), reported.loads.get(key, [])
    return VersionView(
        version.number,
        _state(version, statuses).value,
        version.reason or version.down or version.block or next((s.reason for s in statuses if s.reason), ""),
        version.opened.digest,
        version.opened.origin,
        sum(r.phase is ProcessPhase.RUNNING for r in version.replicas.values()),
        sum(s.leases for s in statuses),
        sum(w.in_flight for w in loads),
        sum(w.waiting for w in loads),
        _longest(loads),
    )


def _state(version: Version, statuses: Sequence[VersionStatus]) -> State:
    """Return one state for what gateways may see differently: the one furthest from what it should be."""
    if version.phase in (Phase.STARTING, Phase.LOADED):
        return State.LOADING
    if version.is_gone:
        return State.FAILED if version.phase is Phase.FAILED else State.UNLOADED
    if version.phase is Phase.RETIRING:
        return State.DRAINING
    if version.down:
        return State.FAILED
    order = (State.FAILED, State.NEW, State.LOADING, State.WARMING, State.DRAINING, State.UNLOADED, State.READY)
    return min((s.state for s in statuses), key=order.index, default=State.LOADING)


def _longest(loads: Sequence[VersionLoad]) -> float:
    return max((load.wait_s for load in loads if load.waiting), default=0.0)
