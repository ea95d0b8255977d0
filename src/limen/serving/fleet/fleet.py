"""Which versions, replicas and gateways there should be: facts in, decisions out, no input or output.

Called by `serving.control.controlplane`, which carries out `specs` and `snapshot`, and by tests. Each endpoint has an aim. Its versions go
STARTING (replicas load) → LOADED; when all have, the aim is offered: the snapshot says it, and versions are OFFERED → LIVE once every
gateway is ready with all of them. Then the offer is good, and versions that it has no use for are RETIRING until no gateway holds
them. What fails on the way is FAILED, and the snapshot says again what was good before.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping

import msgspec

from limen.contracts.contract import Slo
from limen.contracts.endpoint import Route
from limen.contracts.serving import Serving
from limen.contracts.snapshot import LogLevels, SharedSettings, Snapshot
from limen.runtime.placement.process.wire.start import OOM_STATUS
from limen.runtime.versions.lifecycle import State, VersionLoad
from limen.serving.fleet import replication
from limen.serving.fleet.launching import Launcher
from limen.serving.fleet.open_files import AMPLE, Room
from limen.serving.fleet.records import Aim, Endpoint, Gateway, Opened, Phase, Version
from limen.serving.messages.lines import ProcessPhase, ProcessSpec, ProcessState, Report

START_S = 330.0
"""How long a replica may take to load before its version has failed; above the replica's own limit."""
SILENT_S = 10.0
"""After how long without a report a gateway is not waited for."""
OFFER_S = 300.0
"""How long gateways may take to get a version ready."""
RETIRE_S = 60.0
"""How long replicas wait for gateways to let them go; above the drain time of a version."""
LEAVE_S = 30.0
"""How long a replica that is not needed stays when its version is never without a request."""
MAX_QUARANTINED = 1000


class Fleet:
    """The endpoints of one server and the processes that serve them."""

    def __init__(
        self,
        gateways: tuple[ProcessSpec, ...],
        launcher: Launcher,
        *,
        is_all_or_nothing: bool = True,
        room: Room = AMPLE,
    ) -> None:
        """Start with no endpoint.

        Args:
            gateways: the gateway processes.
            launcher: makes the specs of replicas.
            is_all_or_nothing: whether nothing is served before everything has been loaded once.
            room: how many replicas there may be.
        """
        self.gateway_specs = gateways
        self.endpoints: dict[str, Endpoint] = {}
        self.gateways: dict[int, Gateway] = {}
        """By process id: in a rolling restart two have the same name."""
        self.snapshot = Snapshot(0)
        self.log, self.settings = LogLevels(), SharedSettings()
        """What gateways are to log, and the settings that they follow."""
        self.is_started = False
        """Whether every gateway has been ready with every endpoint once."""
        self.room = room
        self._is_all_or_nothing = is_all_or_nothing
        self.launcher = launcher
        self._turns = 0
        self._quarantined: tuple[str, ...] = ()

    # -- facts -------------------------------------------------------------------------------------------------------------

    def add(self, opened: Opened, now: float) -> Version:
        """Take in a package as the next version of its endpoint, which is to answer with it alone."""
        endpoint = self.endpoints.setdefault(opened.endpoint, Endpoint(opened.endpoint))
        endpoint.last_number += 1
        number = str(endpoint.last_number)
        self.aim(opened.endpoint, Aim((Route(int(number), 100),), {}, (number,)), {number: opened}, now)
        return endpoint.versions[number]

    def aim(
        self,
        name: str,
        aim: Aim,
        opened: Mapping[str, Opened],
        now: float,
        *,
        serving: Serving | None = None,
        slo: Slo | None = None,
        is_paused: bool = False,
    ) -> None:
        """Want an endpoint to consist of these versions.

        Args:
            name: the endpoint.
            aim: its versions, shares and aliases.
            opened: the package of every version of the aim.
            now: as in `tick`.
            serving: what it says instead of its packages about how they are run.
            slo: what it says instead of its contracts about time.
            is_paused: whether it consists of nothing because somebody wants it so; then it remembers what it had.
        """
        endpoint = self.endpoints.setdefault(name, Endpoint(name))
        endpoint.aim, endpoint.problem, endpoint.lacks_room = aim, "", False
        endpoint.serving, endpoint.slo, endpoint.is_paused = serving, slo, is_paused
        endpoint.is_expected = endpoint.is_removed = False
        for number in aim.versions:
            known = endpoint.versions.get(number)
            if known is None or known.is_gone:
                endpoint.versions[number] = Version(number, opened[number], now)
            else:
                # It stays where it has been loaded.
                known.opened = msgspec.structs.replace(opened[number], is_inline=known.opened.is_inline)
                if known.phase is Phase.RETIRING:
                    known.phase, known.since = Phase.STARTING, now
        endpoint.versions = dict(sorted(endpoint.versions.items(), key=lambda item: int(item[0])))

    def expect(self, name: str) -> None:
        """Know an endpoint while its packages are still brought here: its callers are told to come back."""
        endpoint = self.endpoints.setdefault(name, Endpoint(name, is_expected=True))
        endpoint.is_expected, endpoint.is_removed = endpoint.is_expected or endpoint.is_removed, False

    def remove(self, name: str, now: float) -> None:
        """Want an endpoint no more."""
        if name in self.endpoints:
            self.aim(name, Aim(), {}, now)
            self.endpoints[name].is_removed = True

    def take_process(self, state: ProcessState, now: float, *, is_killed_by_system: bool = False) -> None:
        """Learn what became of a process."""
        if state.kind == "gateway":
            if state.phase in (ProcessPhase.ENDED, ProcessPhase.PAUSED):
                self.gateways.pop(state.pid, None)
            elif state.pid:
                self.gateways.setdefault(state.pid, Gateway(state.name, state.pid)).phase = state.phase
        if state.kind != "replica":
            return
        self.launcher.note(state.name)
        for version in self.versions():
            replica = version.replicas.get(state.name)
            if replica is None:
                continue
            is_ending = replica.phase is ProcessPhase.STOPPING
            replica.learn(state)
            if state.word is not None and state.word.ready is not None:
                version.load_s = float(state.word.ready.get("load_s", 0.0))
            if state.phase in (ProcessPhase.PAUSED, ProcessPhase.ENDED) and not is_ending:
                is_oom = state.status == OOM_STATUS or is_killed_by_system
                replication.note_death(version, replica, now, is_oom=is_oom)

    def link(self, name: str, pid: int) -> None:
        """Learn that a gateway has connected."""
        self.gateways.setdefault(pid, Gateway(name, pid)).is_linked = True

    def unlink(self, pid: int) -> None:
        """Learn that a gateway's connection has ended; what it reported last may still be so."""
        if pid in self.gateways:
            self.gateways[pid].is_linked = False

    def take_report(self, pid: int, report: Report, now: float) -> None:
        """Learn what a gateway has."""
        if pid in self.gateways:
            self.gateways[pid].take(report, now)

    def wake(self, name: str, number: str) -> None:
        """Learn that a request waits for a version without replicas."""
        endpoint = self.endpoints.get(name)
        if endpoint is not None and number in endpoint.versions:
            endpoint.versions[number].is_woken = True

    def quarantine(self, fingerprint: str) -> None:
        """Refuse a request from now on; the oldest one is forgiven when there are too many."""
        if fingerprint not in self._quarantined:
            self._quarantined = (*self._quarantined, fingerprint)[-MAX_QUARANTINED:]

    def measure(self, share: Callable[[int, int], float], passed_s: float) -> bool:
        """Learn how much of its memory each replica uses, and return whether any has a limit; as `replication.measure`."""
        return any([replication.measure(version, share, passed_s) for version in self.versions()])  # noqa: C419  all of them

    # -- decisions ---------------------------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Decide everything that can be decided now."""
        self._turns = self.launcher.turns(self.versions(), now)
        for endpoint in self.endpoints.values():
            for version in tuple(endpoint.versions.values()):
                if version.phase in (Phase.STARTING, Phase.LOADED) and version.number not in endpoint.aim.versions:
                    self._drop(endpoint, version, now)
                elif version.phase is Phase.STARTING:
                    self._step_starting(endpoint, version, now)
                elif version.phase is Phase.LIVE and not version.opened.is_inline:
                    self._step_live(version, now)
            self._step_aim(endpoint, now)
            if endpoint.offer is not None:
                self._step_offer(endpoint, endpoint.offer, now)
        self._publish()
        for endpoint in tuple(self.endpoints.values()):
            for version in tuple(endpoint.versions.values()):
                self._let_go(endpoint, version, now)
            if endpoint.is_removed and not endpoint.versions:
                del self.endpoints[endpoint.name]
        if not self.is_started:
            self.is_started = self._is_everything_up()

    def specs(self) -> tuple[ProcessSpec, ...]:
        """Return every process that should run."""
        replicas = (r.spec for v in self.versions() for r in v.replicas.values())
        return (*self.gateway_specs, *self.launcher.templates(self.versions()), *replicas)

    def is_settled(self) -> bool:
        """Whether no version is on its way into use."""
        return not any(v.is_coming for v in self.versions())

    def failures(self) -> list[str]:
        """Return what failed, a text for each version."""
        return [f"{v.opened.endpoint}: {v.reason}" for v in self.versions() if v.phase is Phase.FAILED]

    def found_room(self) -> list[str]:
        """Return the endpoints that there was no room for, if there may be some now."""
        lacking = [e.name for e in self.endpoints.values() if e.lacks_room]
        return lacking if lacking and not self.room.lacks(1, self.versions(), is_successor=False) else []

    def _step_starting(self, endpoint: Endpoint, version: Version, now: float) -> None:
        if version.opened.is_inline:
            version.phase = Phase.LOADED
            return
        if not version.staying():
            version.since = now
            # What is served changes at once; what is new comes a few at a time.
            if endpoint.good is None and not self._turns:
                return
            self._turns -= 1
            wanted = max(1, version.opened.serving.replicas.min)
            if text := self.room.lacks(wanted, self.versions(), is_successor=endpoint.good is not None):
                self._fail(endpoint, version, text, now)
                endpoint.lacks_room = True
                return
            for _ in range(wanted):
                self.launcher.start(version)
        failure = next((r.failed for r in version.staying() if r.failed), "")
        if any(r.was_ready for r in version.staying()):
            version.phase = Phase.LOADED
        elif failure:
            self._fail(endpoint, version, failure, now)
        elif now - version.since > START_S:
            self._fail(endpoint, version, f"the model was not loaded within {START_S:g} s", now)

    def _drop(self, endpoint: Endpoint, version: Version, now: float) -> None:
        """Let go of a version that is no longer wanted before it came into use."""
        if version.was_offered:
            version.phase, version.since, version.revision = Phase.RETIRING, now, self.snapshot.revision
        else:
            endpoint.forget(version, now)

    def _step_aim(self, endpoint: Endpoint, now: float) -> None:
        """Offer what is wanted as soon as all of it has been loaded."""
        if endpoint.is_expected or endpoint.aim == (endpoint.offer or endpoint.good):
            return
        wanted = [endpoint.versions[n] for n in endpoint.aim.versions]
        if any(v.phase is Phase.STARTING for v in wanted):
            return
        endpoint.offer, endpoint.offered_at, endpoint.revision = endpoint.aim, now, self.snapshot.revision + 1
        for version in wanted:
            if version.phase is Phase.LOADED:
                version.phase, version.since, version.was_offered = Phase.OFFERED, now, True
                version.revision = endpoint.revision

    def _step_offer(self, endpoint: Endpoint, offer: Aim, now: float) -> None:
        """Look whether gateways have come to what was offered."""
        reports = [g for g in self.gateways.values() if g.report is not None and g.report.revision >= endpoint.revision]
        have_all = self.have_all_applied(endpoint.revision, now - SILENT_S)
        are_ready = have_all and (bool(reports) or not offer.versions)
        for version in [endpoint.versions[n] for n in offer.versions]:
            statuses = [g.status(endpoint.name, version.number) for g in reports]
            failed = next((s for s in statuses if s is not None and s.state is State.FAILED), None)
            if version.phase is Phase.OFFERED and (failed is not None or version.down):
                self._fail(endpoint, version, version.down or (failed.reason if failed is not None else ""), now)
                return
            is_ready = have_all and bool(statuses) and all(s is not None and s.state is State.READY for s in statuses)
            if version.phase is Phase.OFFERED and not is_ready and now - endpoint.offered_at > OFFER_S:
                late = sorted(g.name for g in self.gateways.values() if not g.has_ready(endpoint.name, version.number))
                self._fail(
                    endpoint, version, f"{', '.join(late)} did not have the model ready within {OFFER_S:g} s", now
                )
                return
            are_ready = are_ready and (is_ready or version.phase is Phase.LIVE)
        if are_ready:
            self._settle_offer(endpoint, offer, now)

    def _step_live(self, version: Version, now: float) -> None:
        plan = replication.plan(version, self._loads(version), now)
        for replaced in self.room.started(version, plan.starts, self.versions()):
            self.launcher.start(version, replaces=replaced)
        for replica in plan.leaves:
            replica.leaves_after, replica.leaves_by = self.snapshot.revision + 1, now + LEAVE_S

    def _settle_offer(self, endpoint: Endpoint, offer: Aim, now: float) -> None:
        endpoint.good, endpoint.offer = offer, None
        for version in tuple(endpoint.versions.values()):
            if version.number in offer.versions:
                version.phase, version.since = Phase.LIVE, now
            elif version.is_gone and not endpoint.problem and not endpoint.is_paused:
                del endpoint.versions[version.number]
            elif version.phase in (Phase.LIVE, Phase.OFFERED):
                # The snapshot with the offer named it no longer.
                version.phase, version.since, version.revision = Phase.RETIRING, now, endpoint.revision

    def _fail(self, endpoint: Endpoint, version: Version, reason: str, now: float) -> None:
        """Note that a version cannot be had, and go on with what was good, or with what is left when nothing was."""
        for other in tuple(endpoint.versions.values()):
            if other.is_gone and other.number not in endpoint.aim.versions:
                del endpoint.versions[other.number]
        version.phase, version.since, version.reason = Phase.FAILED, now, reason
        version.revision = self.snapshot.revision + 1
        endpoint.problem = f"version {version.number}: {reason}"
        failed = frozenset({version.number})
        endpoint.aim = endpoint.good if endpoint.good is not None else endpoint.aim.without(failed)
        if endpoint.offer is not None:
            endpoint.offer = None
            for other in endpoint.versions.values():
                if other.phase is Phase.OFFERED and other.number in endpoint.aim.versions:
                    other.phase = Phase.LOADED
                elif other.phase is Phase.OFFERED:
                    other.phase, other.since, other.revision = Phase.RETIRING, now, version.revision

    def _publish(self) -> None:
        """Make the next snapshot, if anything in it is different."""
        is_first = not self.snapshot.revision
        if self._is_all_or_nothing and is_first and any(v.phase is Phase.STARTING for v in self.versions()):
            # The first snapshot has everything, so that a gateway that has followed it has everything.
            return
        endpoints = tuple(e.served() for e in self.endpoints.values() if not e.is_removed)
        given = self._quarantined, self._is_all_or_nothing, self.log, self.settings
        made = Snapshot(self.snapshot.revision, endpoints, *given)
        # An earlier control process whose last word is lost may have told gateways more: they follow only what is newer.
        told = max((g.report.revision for g in self.gateways.values() if g.report is not None), default=0)
        if is_first or made != self.snapshot or told > made.revision:
            self.snapshot = msgspec.structs.replace(made, revision=max(told, made.revision) + 1)

    def _let_go(self, endpoint: Endpoint, version: Version, now: float) -> None:
        """Stop wanting replicas that no gateway uses any more."""
        if version.phase is Phase.RETIRING or version.is_gone:
            is_free = self.have_all_applied(version.revision) and not any(
                g.holds(endpoint.name, version.number) for g in self.gateways.values()
            )
            if is_free or not version.was_offered or now - version.since > RETIRE_S:
                version.replicas.clear()
                if version.phase is Phase.RETIRING or endpoint.is_removed:
                    endpoint.forget(version, now)
            return
        for replica in tuple(version.replicas.values()):
            if not replica.is_staying:
                is_left = self.have_all_applied(replica.leaves_after)
                is_free = is_left and not any(w.in_flight for w in self._loads(version))
                if not replica.was_ready or is_free or now > replica.leaves_by:
                    del version.replicas[replica.name]

    def have_all_applied(self, revision: int, silent_since: float = -math.inf) -> bool:
        """Whether every gateway that serves, and has reported since then, works towards a revision; one that starts takes the newest."""
        return all(
            gateway.report is not None and gateway.report.revision >= revision
            for gateway in self.gateways.values()
            if gateway.is_serving and (gateway.report is None or gateway.reported_at > silent_since)
        )

    def _loads(self, version: Version) -> list[VersionLoad]:
        """Return how busy gateways have a version; which replica works on what, only they know."""
        key = version.opened.endpoint, version.number
        return [gateway.loads[key] for gateway in self.gateways.values() if key in gateway.loads]

    def _is_everything_up(self) -> bool:
        running = sum(g.phase is ProcessPhase.RUNNING for g in self.gateways.values())
        is_settled = all(e.is_settled or e.is_expected for e in self.endpoints.values())
        return is_settled and running >= len(self.gateway_specs)

    def versions(self) -> Iterator[Version]:
        """Yield every version of every endpoint."""
        for endpoint in self.endpoints.values():
            yield from endpoint.versions.values()

    # -- a control process that goes on where another one ended ------------------------------------------------------------

    def resume(self, snapshot: Snapshot, endpoints: Mapping[str, Endpoint]) -> None:
        """Take over what an earlier control process published and wanted; the states of the processes follow.

        Args:
            snapshot: the last one that was published.
            endpoints: what `serving.fleet.takeover` makes of it and of the processes that are there.
        """
        self.snapshot, self._quarantined, self.is_started = snapshot, snapshot.quarantined, True
        self.log, self.settings = snapshot.log, snapshot.settings
        self.endpoints = dict(endpoints)
        for replica in [r for v in self.versions() for r in v.replicas.values()]:
            self.launcher.note(replica.name, replica.path)
