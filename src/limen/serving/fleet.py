"""Which versions, replicas and gateways there should be: facts in, decisions out, no input or output.

Called by `serving.controlplane`, which carries out `specs` and `snapshot`, and by tests. A version goes STARTING (its replicas load) →
OFFERED (the snapshot names it instead of the one before) → LIVE (every gateway is ready with it), and the one before is RETIRING until
no gateway holds it. What fails on the way is FAILED, and the snapshot names the one before again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import msgspec

from limen.contracts.snapshot import ServedModel, ServedVersion, Snapshot
from limen.runtime.lifecycle import State
from limen.runtime.placement.process.start import OOM_STATUS
from limen.serving import replication
from limen.serving.fleet_records import DEATH_WINDOW_S, Gateway, Model, Opened, Phase, Replica, Version
from limen.serving.messages import ProcessPhase, ProcessSpec, ProcessState, Report

START_S = 330.0
"""How long a replica may take to load before its version has failed; above the replica's own limit."""
OFFER_S = 300.0
"""How long gateways may take to get a version ready."""
RETIRE_S = 60.0
"""How long replicas wait for gateways to let them go; above the drain time of a version."""
LEAVE_S = 30.0
"""How long a replica that is not needed stays when its version is never without a request."""
MAX_QUARANTINED = 1000

Launch = Callable[[Opened, str, str, str], ProcessSpec]
"""Takes a package, a version number, a process name and a socket path; gives the replica to run."""


class Fleet:
    """The models of one server and the processes that serve them."""

    def __init__(self, gateways: tuple[ProcessSpec, ...], launch: Launch | None, sockets: str) -> None:
        """Start with no model.

        Args:
            gateways: the gateway processes.
            launch: makes the spec of a replica; None when versions live in the gateways.
            sockets: folder of the replicas' sockets.
        """
        self.gateway_specs = gateways
        self.models: dict[str, Model] = {}
        self.gateways: dict[int, Gateway] = {}
        """By process id: in a rolling restart two have the same name."""
        self.snapshot = Snapshot(0)
        self.is_started = False
        """Whether every gateway has been ready with every model once."""
        self._launch = launch
        self._sockets = sockets
        self._serial = 0
        self._quarantined: tuple[str, ...] = ()

    # -- facts -------------------------------------------------------------------------------------------------------------

    def add(self, opened: Opened, now: float) -> Version:
        """Take in a package as the next version of its model."""
        model = self.models.setdefault(opened.model, Model(opened.model))
        model.last_number += 1
        model.problem = ""
        version = model.versions[str(model.last_number)] = Version(str(model.last_number), opened, now)
        return version

    def take_process(self, state: ProcessState, now: float, *, is_killed_by_system: bool = False) -> None:
        """Learn what became of a process."""
        if state.kind == "gateway":
            if state.phase in (ProcessPhase.ENDED, ProcessPhase.PAUSED):
                self.gateways.pop(state.pid, None)
            elif state.pid:
                self.gateways.setdefault(state.pid, Gateway(state.name, state.pid)).phase = state.phase
            return
        for version in self._versions():
            replica = version.replicas.get(state.name)
            if replica is None:
                continue
            replica.phase, replica.pid, replica.word = state.phase, state.pid, state.word
            replica.status = state.status if state.status is not None else replica.status
            replica.was_ready = replica.was_ready or state.phase is ProcessPhase.RUNNING
            if state.word is not None and state.word.ready is not None:
                version.load_s = float(state.word.ready.get("load_s", 0.0))
            if state.phase in (ProcessPhase.PAUSED, ProcessPhase.ENDED):
                is_oom = state.status == OOM_STATUS or is_killed_by_system
                replication.note_death(version, replica, now, is_oom=is_oom)

    def link(self, name: str, pid: int) -> None:
        """Learn that a gateway has connected."""
        gateway = self.gateways.setdefault(pid, Gateway(name, pid))
        gateway.is_linked = True

    def unlink(self, pid: int) -> None:
        """Learn that a gateway's connection has ended; what it reported last may still be so."""
        if pid in self.gateways:
            self.gateways[pid].is_linked = False

    def take_report(self, pid: int, report: Report) -> None:
        """Learn what a gateway has."""
        if pid in self.gateways:
            self.gateways[pid].report = report

    def wake(self, name: str, number: str) -> None:
        """Learn that a request waits for a version without replicas."""
        model = self.models.get(name)
        if model is not None and number in model.versions:
            model.versions[number].is_woken = True

    def quarantine(self, fingerprint: str) -> None:
        """Refuse a request from now on; the oldest one is forgiven when there are too many."""
        if fingerprint not in self._quarantined:
            self._quarantined = (*self._quarantined, fingerprint)[-MAX_QUARANTINED:]

    def measure(self, share: Callable[[int, int], float], passed_s: float) -> bool:
        """Learn how much of its memory each replica uses, and return whether any has a limit.

        Args:
            share: takes a process id and a limit in mebibytes.
            passed_s: since the last time.
        """
        has_limits = False
        for version in self._versions():
            limit = version.opened.serving.resources.memory_mb
            for replica in version.replicas.values() if limit else ():
                has_limits = True
                before, replica.share = replica.share, 0.0
                if limit and replica.phase is ProcessPhase.RUNNING:
                    replica.share = share(replica.pid, limit)
                grown = (replica.share - before) / passed_s if before and replica.share else 0.0
                replica.growth = (replica.growth[1], grown)
        return has_limits

    def count(self, requests: Mapping[tuple[str, str], float], now: float) -> None:
        """Learn how many requests versions have had so far: one that has no new ones is idle."""
        for version in self._versions():
            total = requests.get((version.opened.model, version.number), 0.0)
            if total != version.requests:
                version.requests, version.busy_at = total, now

    # -- decisions ---------------------------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Decide everything that can be decided now."""
        for model in self.models.values():
            for version in tuple(model.versions.values()):
                if version.phase is Phase.STARTING:
                    self._step_starting(model, version, now)
                elif version.phase is Phase.OFFERED:
                    self._step_offered(model, version, now)
                elif version.phase is Phase.LIVE and self._launch is not None:
                    self._step_live(model, version, now)
        self._publish()
        for model in self.models.values():
            for version in tuple(model.versions.values()):
                self._let_go(model, version, now)
        if not self.is_started:
            self.is_started = self._is_everything_up()

    def specs(self) -> tuple[ProcessSpec, ...]:
        """Return every process that should run."""
        replicas = (r.spec for v in self._versions() for r in v.replicas.values())
        return (*self.gateway_specs, *replicas)

    def is_settled(self) -> bool:
        """Whether no version is on its way into use."""
        return not any(v.phase in (Phase.STARTING, Phase.OFFERED) for v in self._versions())

    def failures(self) -> list[str]:
        """Return what failed, a text for each version."""
        return [f"{v.opened.model}: {v.reason}" for v in self._versions() if v.phase is Phase.FAILED]

    def start_replica(self, version: Version, *, replaces: str = "") -> None:
        """Want one more replica of a version."""
        if self._launch is None:
            return
        self._serial += 1
        version.started += 1
        name = f"{version.opened.model}-v{version.number}-{version.started}"
        path = f"{self._sockets}/r{self._serial}"
        spec = self._launch(version.opened, version.number, name, path)
        labels = {"version": version.number, "path": path, "replaces": replaces}
        spec = msgspec.structs.replace(spec, labels=labels | {"opened": msgspec.json.encode(version.opened).decode()})
        version.replicas[name] = Replica(name, path, spec, replaces=replaces)

    def _step_starting(self, model: Model, version: Version, now: float) -> None:
        if self._launch is None:
            self._offer(version, now)
            return
        if not version.replicas:
            for _ in range(max(1, version.opened.serving.replicas.min)):
                self.start_replica(version)
        failure = next((r.failure for r in version.replicas.values() if r.failure), "")
        if failure:
            self._fail(model, version, failure, now)
        elif any(r.was_ready for r in version.replicas.values()):
            self._offer(version, now)
        elif now - version.since > START_S:
            self._fail(model, version, f"the model was not loaded within {START_S:g} s", now)

    def _step_offered(self, model: Model, version: Version, now: float) -> None:
        statuses = [
            gateway.status(model.name, version.number)
            for gateway in self.gateways.values()
            if gateway.report is not None and gateway.report.revision >= version.revision
        ]
        failed = next((s for s in statuses if s is not None and s.state is State.FAILED), None)
        is_ready = statuses and all(s is not None and s.state is State.READY for s in statuses)
        if failed is not None:
            self._fail(model, version, failed.reason, now)
        elif is_ready and self._have_all_applied(version.revision):
            self._go_live(model, version, now)
        elif now - version.since > OFFER_S:
            self._fail(model, version, f"not every gateway had the model ready within {OFFER_S:g} s", now)

    def _step_live(self, model: Model, version: Version, now: float) -> None:
        reports = [g.report for g in self.gateways.values() if g.report is not None]
        loads = [
            load for r in reports for load in r.loads if (load.model, load.version) == (model.name, version.number)
        ]
        plan = replication.plan(version, loads, now)
        for replaced in plan.starts:
            self.start_replica(version, replaces=replaced)
        for replica in plan.leaves:
            replica.leaves_after, replica.leaves_by = self.snapshot.revision + 1, now + LEAVE_S

    def _offer(self, version: Version, now: float) -> None:
        version.phase, version.since, version.was_offered = Phase.OFFERED, now, True
        version.revision = self.snapshot.revision + 1

    def _go_live(self, model: Model, version: Version, now: float) -> None:
        for other in tuple(model.versions.values()):
            if other.phase is Phase.LIVE:
                # The snapshot that named the new one named this one no longer.
                other.phase, other.since, other.revision = Phase.RETIRING, now, version.revision
            elif other.phase is Phase.FAILED:
                del model.versions[other.number]
        version.phase, version.since = Phase.LIVE, now

    def _fail(self, model: Model, version: Version, reason: str, now: float) -> None:
        for other in tuple(model.versions.values()):
            if other.phase is Phase.FAILED:
                del model.versions[other.number]
        version.phase, version.since, version.reason = Phase.FAILED, now, reason
        version.revision = self.snapshot.revision + 1

    def _publish(self) -> None:
        """Make the next snapshot, if anything in it is different."""
        if not self.is_started and any(v.phase is Phase.STARTING for v in self._versions()):
            # The first snapshot has everything, so that a gateway that has followed it has everything.
            return
        models = tuple(ServedModel(m.name, tuple(v.served() for v in _offered(m))) for m in self.models.values())
        if (models, self._quarantined) != (self.snapshot.models, self.snapshot.quarantined):
            self.snapshot = Snapshot(self.snapshot.revision + 1, models, self._quarantined)

    def _let_go(self, model: Model, version: Version, now: float) -> None:
        """Stop wanting replicas that no gateway uses any more."""
        if version.phase in (Phase.RETIRING, Phase.FAILED):
            is_free = self._have_all_applied(version.revision) and not any(
                g.holds(model.name, version.number) for g in self.gateways.values()
            )
            if is_free or not version.was_offered or now - version.since > RETIRE_S:
                version.replicas.clear()
                if version.phase is Phase.RETIRING:
                    del model.versions[version.number]
            return
        for replica in tuple(version.replicas.values()):
            if not replica.is_staying:
                is_free = not replica.was_ready or (
                    self._have_all_applied(replica.leaves_after) and not self._in_flight(version)
                )
                if is_free or now > replica.leaves_by:
                    del version.replicas[replica.name]

    def _have_all_applied(self, revision: int) -> bool:
        """Whether every gateway that serves works towards a revision; one that just starts will take the newest anyway."""
        return all(
            gateway.report is not None and gateway.report.revision >= revision
            for gateway in self.gateways.values()
            if gateway.phase is ProcessPhase.RUNNING or gateway.is_linked
        )

    def _in_flight(self, version: Version) -> int:
        """Return how many requests replicas of a version work on; which of them, only the gateways know."""
        reports = (g.report for g in self.gateways.values() if g.report is not None)
        loads = (load for report in reports for load in report.loads)
        key = version.opened.model, version.number
        return sum(load.in_flight for load in loads if (load.model, load.version) == key)

    def _is_everything_up(self) -> bool:
        running = sum(g.phase is ProcessPhase.RUNNING for g in self.gateways.values())
        return (
            running >= len(self.gateway_specs)
            and bool(self.models)
            and all(m.find(Phase.LIVE) is not None for m in self.models.values())
        )

    def _versions(self) -> Iterator[Version]:
        for model in self.models.values():
            yield from model.versions.values()

    # -- a control process that goes on where another one ended ------------------------------------------------------------

    def resume(
        self,
        snapshot: Snapshot,
        specs: tuple[ProcessSpec, ...],
        reopen: Callable[[ServedVersion], Opened],
        now: float,
    ) -> None:
        """Take over what an earlier control process published and wanted; the states of the processes follow.

        Args:
            snapshot: the last one that was published.
            specs: every process that it wanted.
            reopen: reads a package that was verified before.
            now: as in `tick`.
        """
        self.snapshot, self._quarantined, self.is_started = snapshot, snapshot.quarantined, True
        for served in snapshot.models:
            model = self.models[served.name] = Model(served.name)
            for found in served.versions:
                version = model.versions[found.number] = Version(found.number, reopen(found), now)
                version.was_offered, version.revision = True, snapshot.revision
                if not found.failure:
                    version.phase = Phase.LIVE
                elif all(v.failure for v in served.versions):
                    version.phase, version.block = Phase.LIVE, found.failure
                    version.blocked_until = now + DEATH_WINDOW_S
                else:
                    version.phase, version.reason = Phase.FAILED, found.failure
        known = {path for m in snapshot.models for v in m.versions for path in v.replicas}
        for spec in specs:
            if "opened" in spec.labels:
                self._resume_replica(spec, known, now)
        for model in self.models.values():
            model.versions = dict(sorted(model.versions.items(), key=lambda item: int(item[0])))
            model.last_number = max((int(number) for number in model.versions), default=0)

    def _resume_replica(self, spec: ProcessSpec, known: set[str], now: float) -> None:
        opened = msgspec.json.decode(spec.labels["opened"], type=Opened)
        number, path = spec.labels["version"], spec.labels["path"]
        model = self.models.setdefault(opened.model, Model(opened.model))
        version = model.versions.get(number)
        if version is None:
            version = model.versions[number] = Version(number, opened, now)
            live = model.find(Phase.LIVE)
            if live is not None and int(number) < int(live.number):
                # Either of the two may be what gateways hold: the newer one proves itself again, as when it was offered.
                version.phase, version.was_offered, version.revision = Phase.LIVE, True, live.revision
                live.phase = Phase.OFFERED
        version.replicas[spec.name] = Replica(
            spec.name, path, spec, was_ready=path in known, replaces=spec.labels["replaces"]
        )
        version.started = max(version.started, int(spec.name.rpartition("-")[2]))
        self._serial = max(self._serial, int(path.rpartition("/r")[2]))


def _offered(model: Model) -> list[Version]:
    """Return what gateways should know of a model: what answers or is to answer, and what failed."""
    answering = model.find(Phase.OFFERED) or model.find(Phase.LIVE)
    return [v for v in model.versions.values() if v is answering or v.phase is Phase.FAILED]
