"""How a new control process takes over from an earlier one: from the last snapshot and the supervisor's processes.

Called by `serving.control.controlplane` when it begins; no input or output.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import msgspec

from limen.contracts.endpoint import Route
from limen.contracts.snapshot import ServedEndpoint, ServedVersion, Snapshot
from limen.serving.fleet.records import DEATH_WINDOW_S, Aim, Endpoint, Opened, Phase, Replica, Version
from limen.serving.messages.lines import ProcessSpec

Reopen = Callable[[ServedEndpoint, ServedVersion], Opened]
"""Reads a package that was verified before."""


def endpoints_of(
    snapshot: Snapshot, specs: Iterable[ProcessSpec], reopen: Reopen, now: float, *, is_numbered_here: bool = True
) -> dict[str, Endpoint]:
    """Return the endpoints that a fleet goes on with; with `is_numbered_here`, a higher number was wanted later."""
    endpoints = {served.name: _endpoint(served, snapshot.revision, reopen, now) for served in snapshot.endpoints}
    known = {path for e in snapshot.endpoints for v in e.versions for path in v.replicas}
    for spec in specs:
        if "opened" in spec.labels:
            _take_replica(endpoints, spec, known, now)
    for version in [v for e in endpoints.values() for v in e.versions.values() if v.replicas]:
        # It was not blocked: its replicas could not be started, and are tried again by the supervisor.
        version.block = ""
    for endpoint in endpoints.values():
        endpoint.versions = dict(sorted(endpoint.versions.items(), key=lambda item: int(item[0])))
        endpoint.last_number = max((int(number) for number in endpoint.versions), default=0)
        _judge_leftovers(endpoint, snapshot.revision, now, is_numbered_here=is_numbered_here)
    return endpoints


def _endpoint(served: ServedEndpoint, revision: int, reopen: Reopen, now: float) -> Endpoint:
    """Return an endpoint as the snapshot has it: what is in use is good."""
    endpoint = Endpoint(served.name, serving=served.serving, slo=served.slo, revision=revision)
    endpoint.is_paused = served.is_paused
    routed = {str(route.version) for route in served.routes} | set(served.aliases.values())
    used = [v for v in served.versions if not v.failure or v.number in routed]
    endpoint.good = endpoint.aim = Aim(served.routes, served.aliases, tuple(v.number for v in used))
    for found in served.versions:
        version = endpoint.versions[found.number] = Version(found.number, reopen(served, found), now)
        version.was_offered, version.revision = True, revision
        if found not in used:
            version.phase = Phase.UNLOADED if served.is_paused else Phase.FAILED
            version.reason = found.failure
            continue
        version.phase = Phase.LIVE
        if found.down:
            version.block, version.blocked_until = found.down, now + DEATH_WINDOW_S
    return endpoint


def _take_replica(endpoints: dict[str, Endpoint], spec: ProcessSpec, known: set[str], now: float) -> None:
    opened = msgspec.json.decode(spec.labels["opened"], type=Opened)
    number, path = spec.labels["version"], spec.labels["path"]
    endpoint = endpoints.setdefault(opened.endpoint, Endpoint(opened.endpoint))
    version = endpoint.versions.setdefault(number, Version(number, opened, now))
    version.replicas[spec.name] = Replica(
        spec.name, path, spec, was_ready=path in known, replaces=spec.labels["replaces"], failed=version.block
    )


def _judge_leftovers(endpoint: Endpoint, revision: int, now: float, *, is_numbered_here: bool) -> None:
    """Decide about versions that have processes and are not in the snapshot.

    A newer one was loading, and goes on. An older one has been replaced in the snapshot, but maybe not yet in the gateways: what the
    snapshot says has to prove itself again, as when it was offered, and the older one is what there was before. Where numbers say
    nothing about what came first, all are taken for older: whoever keeps the numbers wants again what was loading.
    """
    said = endpoint.good or Aim()
    left = [v for v in endpoint.versions.values() if v.phase is Phase.STARTING]
    if endpoint.is_paused:
        # They were on their way out.
        for version in left:
            version.phase, version.since, version.was_offered = Phase.RETIRING, now, True
            version.revision = revision
        return
    newest = max((int(n) for n in said.versions), default=0) if is_numbered_here else math.inf
    newer = [v for v in left if int(v.number) > newest]
    older = [v for v in left if int(v.number) < newest]
    if older:
        for version in older:
            version.phase, version.was_offered, version.revision = Phase.LIVE, True, revision
        endpoint.good = _only(older[-1], said, older)
        endpoint.offer, endpoint.offered_at = said, now
        for number in said.versions:
            endpoint.versions[number].phase = Phase.OFFERED
    if newer:
        endpoint.aim = _only(newer[-1], Aim(), newer[-1:])


def _only(version: Version, beside: Aim, others: list[Version]) -> Aim:
    """Return the aim of an endpoint that answers with one version; others stay loaded."""
    numbers = {*beside.versions, *(v.number for v in others)}
    kept = tuple(sorted(numbers, key=int))
    return Aim((Route(int(version.number), 100),), {}, kept)
