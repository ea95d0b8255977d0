"""The control process: decides which processes, versions and replicas should run, and tells gateways what to serve.

Run by `limen.app` below a supervisor. Decisions are made by `serving.fleet.fleet`; here are the packages, the files, the conversation with the
supervisor and the clock. `serving.control.socket` lets gateways and commands in. When this process dies the others go on, and the next
one takes over from the last snapshot on disk and the set of processes that the supervisor still has.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from limen.contracts.endpoint import EndpointStatus
from limen.contracts.errors import InvalidPackage, LimenError
from limen.contracts.snapshot import Snapshot
from limen.runtime.placement.process.wire.start import resident_share
from limen.serving.control import leftovers
from limen.serving.control.conditions import Conditions, refusal_of
from limen.serving.control.config import ControlConfig
from limen.serving.control.mending import Mending
from limen.serving.control.retired import Retired
from limen.serving.control.room import Room
from limen.serving.control.scrubbing import Scrubbing
from limen.serving.control.status import endpoint_statuses, status_of
from limen.serving.control.traffic import Traffic
from limen.serving.fleet import takeover
from limen.serving.fleet.fleet import OFFER_S, START_S, Fleet
from limen.serving.fleet.history import History
from limen.serving.fleet.records import Version
from limen.serving.messages.lines import (
    Apply,
    Beat,
    Changed,
    Failure,
    Notice,
    ProcessPhase,
    ProcessSpec,
    ProcessState,
    Refused,
    Reloaded,
    Resume,
    Started,
    Status,
    Tell,
    Want,
    failure_of,
    line,
)
from limen.serving.sources import opening
from limen.serving.sources.source import Source
from limen.serving.supervision import run_folder
from limen.storage.files import write_whole
from limen.telemetry.metrics.totals import Totals, read_folder

LOG = logging.getLogger("limen.control")
TICK_S = 1.0
"""The longest time between two looks; whatever happens is looked at at once."""
COLLECT_S, COLLECT_ALL_S = 30.0, 3600.0
"""How often leftovers are looked for: of this server's replicas, and everywhere."""
LOOK_S = 0.25
"""How often the memory of replicas is looked at, where it is limited."""


class ControlPlane:
    """One server's control: facts in, ticks, effects out."""

    def __init__(
        self,
        config: ControlConfig,
        fleet: Fleet,
        source: Source,
        say: Callable[[bytes], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare to control; `run` does it.

        Args:
            config: the server.
            fleet: decides.
            source: where its endpoints come from.
            say: passes a line to the supervisor.
            clock: seconds that never go back.
        """
        self.config = config
        self.fleet = fleet
        self.push: Callable[[bytes], None] = lambda _: None
        """Passes a line to every gateway; set by the control socket."""
        self.closed = asyncio.Event()
        """The supervisor has closed its end."""
        self.now = clock
        """Seconds that never go back."""
        self.source = source
        """Where its endpoints come from."""
        self.conditions = Conditions(fleet, source, run_folder.conditions(config.run))
        self.mending = Mending(source.mend, fleet.launcher.restart)
        self._scrubbing = Scrubbing(source.mend) if source.mends_in_place else None
        """Looks after versions that are down."""
        self._room = Room(Path(config.run), self.conditions.faults)
        self._is_saved = True
        """Whether the last snapshot is on disk."""
        self.retired = Retired()
        """How the numbers of versions are shown that are no longer served."""
        self.traffic = Traffic()
        """What callers have seen."""
        self._history = History(fleet, source.cause_of)
        self._say = say
        self._copies = run_folder.copies(config.run)
        self._states: dict[int, ProcessState] = {}
        self._wanted: tuple[ProcessSpec, ...] = ()
        self._published = 0
        self._is_open = False
        """Whether the source has been read, so that there is something to decide."""
        self._is_told = False
        self._refusal: Failure | None = None
        self._looked_at = self._measured_at = self._beaten_at = self._kept_at = float("-inf")
        self._pause_s = TICK_S
        self._changed = asyncio.Event()
        self._waiting: dict[asyncio.Future[None], tuple[str, str]] = {}
        """Whoever waits, and for which version of which endpoint."""
        self._roots: set[str] = set()

    async def run(self, resume: Resume, orders: asyncio.StreamReader) -> None:
        """Control until the supervisor closes its end.

        Args:
            resume: what an earlier control process has left.
            orders: what the supervisor says from then on.
        """
        # Before anything else is heard: what comes next is newer.
        self._resume(resume)
        # Gateways have enough to do until there is something to serve.
        self._want(self.fleet.specs())
        async with asyncio.TaskGroup() as group:
            works = (
                self._tick_always(),
                self._follow(),
                self._collect_always(),
                self.traffic.watch(run_folder.metrics(self.config.run), self.now),
            )
            tasks = [group.create_task(work) for work in works]
            while said := await orders.readline():
                self.take_state(msgspec.json.decode(said, type=Changed).state)
            self.closed.set()
            for task in tasks:
                task.cancel()

    # -- facts -------------------------------------------------------------------------------------------------------------

    def take_state(self, state: ProcessState) -> None:
        """Learn what became of a process."""
        for pid in [pid for pid, s in self._states.items() if s.name == state.name and s.phase is ProcessPhase.PAUSED]:
            del self._states[pid]
        if state.phase is ProcessPhase.ENDED:
            self._states.pop(state.pid, None)
        elif state.pid:
            self._states[state.pid] = state
        self.fleet.take_process(state, self.now(), is_killed_by_system=state.is_oom)
        if self._scrubbing is not None and state.phase is ProcessPhase.PAUSED:
            self._scrubbing.look_soon()
        if state.kind == "gateway" and not self.fleet.is_started and self._refusal is None:
            self._refusal = refusal_of(state)
        if state.kind == "gateway":
            self.conditions.look(self.now())
        self.wake_up()

    def wake_up(self) -> None:
        """Have a look soon: something has changed."""
        self._changed.set()

    # -- the tick ----------------------------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Look at everything, decide, and carry it out."""
        if not self._is_open:
            return
        if now - self._measured_at >= LOOK_S:
            has_limits = self.fleet.measure(resident_share, now - self._measured_at)
            self._measured_at, self._pause_s = now, LOOK_S if has_limits else TICK_S
        if now - self._looked_at >= TICK_S:
            self._looked_at = now
            self._look(now)
        self.fleet.tick(now)
        self.mending.look(self.fleet.versions(), now)
        if self._scrubbing is not None:
            self._scrubbing.look(self.fleet.versions(), now)
        self._history.look(now)
        self._want(self.fleet.specs())
        if self.fleet.snapshot.revision != self._published:
            self._publish(self.fleet.snapshot)
        for waiting, (name, number) in self._waiting.items():
            endpoint = self.fleet.endpoints.get(name)
            version = endpoint.versions.get(number) if endpoint is not None else None
            is_awaited = version is not None and (version.is_coming or version.is_returning)
            if not is_awaited and not waiting.done():
                waiting.set_result(None)
        if not self._is_told:
            self._tell_outcome()

    def status(self, totals: Totals | None = None) -> Status:
        """Return the whole server at this moment; `totals` are read when they are not given."""
        if totals is None:
            totals = read_folder(run_folder.metrics(self.config.run))
        self.conditions.look(self.now())
        states = tuple(self._states.values())
        traffic = self.traffic.views(totals, self.now())
        return status_of(self.config, self.fleet, self.conditions, states, traffic, time.time(), self.now())

    def endpoint_statuses(self, revisions: Mapping[str, int]) -> dict[str, EndpointStatus]:
        """Return how every endpoint is whose spec has one of these revisions."""
        self.conditions.look(self.now())
        return endpoint_statuses(self.fleet, self.conditions, revisions)

    def _look(self, now: float) -> None:
        self._restore()
        if not self._is_saved:
            self._save(self.fleet.snapshot)
        self._room.look()
        self.conditions.look(now)
        needed = {v.opened.root for v in self.fleet.versions()}
        for root in self._roots - needed:
            opening.forget_copy(root, self._copies)
        self._roots = needed

    def _restore(self) -> None:
        """Make again what somebody has removed of the server's folders: commands and new gateways look there, and replicas listen there."""
        run, server = self.config.run, self.config.server
        with contextlib.suppress(OSError):
            if server is not None and run_folder.restore(Path(run), server):
                LOG.error("the server's folder %s was lost or incomplete and has been recreated", run)
                self._published = 0
            if server is not None and self.now() - self._kept_at >= run_folder.TOUCH_S:
                self._kept_at = self.now()
                run_folder.keep(Path(run))
        if self._published and not run_folder.snapshot(run).exists():
            self._published = 0
        self.fleet.launcher.replace_unreachable(self.fleet.versions(), os.path.lexists)

    async def _collect_always(self) -> None:
        """Remove what killed processes have left and what nobody uses any more, once the start is over and then now and then."""
        run, due_at = Path(self.config.run), -math.inf
        while True:
            await asyncio.sleep(COLLECT_S)
            names = {state.name for state in self._states.values()} | {spec.name for spec in self.fleet.specs()}
            await asyncio.to_thread(leftovers.collect_scratch, run / "scratch", names)
            if self.now() < due_at:
                continue
            due_at = self.now() + COLLECT_ALL_S
            used = [Path(version.opened.root) for version in self.fleet.versions()]
            for path in await asyncio.to_thread(leftovers.collect, run.parent.parent, used):
                LOG.info("removed leftover %s", path)

    def _want(self, specs: tuple[ProcessSpec, ...]) -> None:
        if specs != self._wanted:
            self._wanted = specs
            self._say(line(Want(specs)))

    def _publish(self, snapshot: Snapshot) -> None:
        """Put a snapshot on disk first, so that a gateway that starts now has it, and then tell the others."""
        self._save(snapshot)
        self._published = snapshot.revision
        self.retired.note(snapshot)
        self.push(self.apply_line())

    def _save(self, snapshot: Snapshot) -> None:
        """Put a snapshot on disk; without room there, gateways have it from here, and this is tried again."""
        try:
            write_whole(run_folder.snapshot(self.config.run), msgspec.json.encode(snapshot))
        except OSError as exc:
            self._is_saved = False
            self._room.failed(exc)
        else:
            self._is_saved = True
            self._room.written()

    def apply_line(self) -> bytes:
        """Return what gateways are told; nothing while there is nothing to serve."""
        snapshot = self.fleet.snapshot
        is_first = self.source.is_required and not self.fleet.is_started
        return line(Apply(snapshot, is_first=is_first, is_started=self.fleet.is_started)) if snapshot.revision else b""

    def _tell_outcome(self) -> None:
        """Tell whoever started the server that it has started, or why it cannot."""
        failures = self.fleet.failures() if self.source.is_required and self.fleet.is_settled() else []
        if self.fleet.is_started and not failures:
            endpoints = self.fleet.endpoints.values()
            models = tuple(e.newest.opened.summary for e in endpoints if e.versions)
            waiting = tuple(e.name for e in endpoints if not e.is_paused and not (e.good and e.good.routes))
            words = [s.word.ready for s in self._states.values() if s.kind == "gateway" and s.word and s.word.ready]
            self._tell(Started(models, str(words[0].get("grpc_engine", "")) if words else "", waiting))
        elif failures:
            self._tell(Refused(failure_of(InvalidPackage("; ".join(failures)))))
        elif self._refusal is not None:
            self._tell(Refused(self._refusal))
        else:
            return
        self._is_told = True

    def _tell(self, message: Started | Notice | Refused) -> None:
        self._say(line(Tell(msgspec.Raw(msgspec.json.encode(message)))))

    async def _tick_always(self) -> None:
        while True:
            self.tick(self.now())
            self._beat()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pause_s):
                    await self._changed.wait()
            self._changed.clear()

    def _beat(self) -> None:
        """Tell the supervisor that control goes on."""
        now = self.now()
        if now - self._beaten_at >= TICK_S:
            self._beaten_at = now
            self._say(line(Beat()))

    # -- the source --------------------------------------------------------------------------------------------------------

    def _resume(self, resume: Resume) -> None:
        """Take over from an earlier control process, if there was one that got far enough."""
        snapshot = run_folder.read_snapshot(self.config.run) if resume.specs else None
        if snapshot is not None:
            endpoints = takeover.endpoints_of(
                snapshot,
                resume.specs,
                self.source.resume,
                self.now(),
                is_numbered_here=self.source.is_numbered_here,
            )
            self.fleet.resume(snapshot, endpoints)
            self.conditions.resume()
            self.retired.note(snapshot)
            self._history.resume(self.now())
            self._published, self._wanted, self._is_open = snapshot.revision, resume.specs, True
        for state in resume.states:
            self.take_state(state)

    async def _follow(self) -> None:
        """Begin with what the source has, and keep up with it."""
        if not self._is_open:
            try:
                await self.source.start(self)
            except LimenError as exc:
                self.refuse(failure_of(exc))
            self._is_open = not self._is_told
            self.wake_up()
        await self.source.follow(self, is_watching=self.config.watch)

    def refuse(self, failure: Failure) -> None:
        """Tell whoever started the server that it cannot start."""
        self._tell(Refused(failure))
        self._is_told = True

    def note(self, text: str) -> None:
        """Tell whoever watches the server what has happened."""
        self._tell(Notice(text))

    async def reload(self, name: str, package: str) -> Reloaded | Refused:
        """Load what an endpoint serves again, and return when it answers or has failed.

        Args:
            name: the endpoint.
            package: a folder or an archive, where packages come from such; the one before when empty.
        """
        if name not in self.fleet.endpoints or not self._is_open:
            served = ", ".join(self.fleet.endpoints) or "nothing yet"
            return Refused(Failure(f"no model named {name} here", hint=f"This server serves {served}."))
        return await self.source.reload(self, name, package)

    async def mend(self, version: Version) -> None:
        """Have the package of a version looked after now."""
        await self.mending.mend(version)

    async def until_in_use(self, name: str, version: Version) -> None:
        """Return when a version answers, has failed, or is no longer wanted."""
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[waiting] = name, version.number
        self.wake_up()
        try:
            # Above the limits that the fleet itself sets.
            async with asyncio.timeout(START_S + OFFER_S + 60):
                await waiting
        finally:
            del self._waiting[waiting]
