"""The control process: says which processes, versions and replicas are wanted, and tells gateways what to serve.

Run by `limen.app` below a supervisor. Decisions are made by `serving.fleet`; here are the packages, the files, the conversation with the
supervisor and the clock. `serving.control_socket` lets gateways and commands in. When this process dies the others go on, and the next
one takes over from the last snapshot on disk and the set of processes that the supervisor still has.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from limen.contracts.errors import InvalidPackage, LimenError
from limen.contracts.snapshot import Snapshot
from limen.runtime.placement.process.start import resident_share
from limen.serving import opening, run_folder
from limen.serving.fleet import OFFER_S, START_S, Fleet
from limen.serving.fleet_records import Opened, Phase, Version
from limen.serving.messages import (
    Apply,
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
from limen.serving.process_facts import oom_kills
from limen.serving.status_view import status_of
from limen.telemetry.instruments import REQUESTS, Scope
from limen.telemetry.totals import Totals, read_folder

LOG = logging.getLogger("limen.control")
TICK_S = 1.0
LOOK_S = 0.25
"""How often the memory of replicas is looked at, where it is limited."""
"""The longest time between two looks; whatever happens is looked at at once."""
WATCH_S = 1.0
SAME_NAME_HINT = "Each package is served under its own name; change `name` in one model.yaml, or serve them apart."


class ControlConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What control has to know about its server."""

    packages: tuple[str, ...]
    home: str
    run: str
    """The server's folder: snapshot, copies of packages, metrics."""
    trust_code: bool
    watch: bool
    http: str
    grpc: str
    metrics: str
    server_pid: int
    started_at: float


class ControlPlane:
    """One server's control: facts in, ticks, effects out."""

    def __init__(
        self,
        config: ControlConfig,
        fleet: Fleet,
        say: Callable[[bytes], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare to control; `run` does it.

        Args:
            config: the server.
            fleet: decides.
            say: passes a line to the supervisor.
            clock: seconds that never go back.
        """
        self.config = config
        self.fleet = fleet
        self.push: Callable[[bytes], None] = lambda _: None
        """Passes a line to every gateway; set by the control socket."""
        self.closed = asyncio.Event()
        """The supervisor has closed its end."""
        self._say = say
        self._clock = clock
        self._copies = run_folder.copies(config.run)
        self._states: dict[int, ProcessState] = {}
        self._wanted: tuple[ProcessSpec, ...] = ()
        self._published = 0
        self._is_open = False
        """Whether the packages have been opened, so that there is something to decide."""
        self._is_told = False
        self._refusal: Failure | None = None
        self._looked_at = self._measured_at = float("-inf")
        self._pause_s = TICK_S
        self._oom_kills = oom_kills()
        self._totals = Totals()
        self._changed = asyncio.Event()
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._waiting: dict[tuple[str, str], asyncio.Future[Version]] = {}
        self._scans: dict[str, opening.Scan] = {}
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
            tasks = [group.create_task(self._tick_always())]
            if not self._is_open:
                tasks.append(group.create_task(self._start()))
            if self.config.watch:
                tasks.append(group.create_task(self._watch()))
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
        is_killed = False
        if state.status == -9 and state.phase in (ProcessPhase.PAUSED, ProcessPhase.ENDED):
            kills = oom_kills()
            is_killed, self._oom_kills = kills > self._oom_kills, kills
        self.fleet.take_process(state, self._clock(), is_killed_by_system=is_killed)
        if state.kind == "gateway" and not self.fleet.is_started and self._refusal is None:
            self._refusal = _refusal_of(state)
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
        self._want(self.fleet.specs())
        if self.fleet.snapshot.revision != self._published:
            self._publish(self.fleet.snapshot)
        for (model, number), waiting in tuple(self._waiting.items()):
            version = self.fleet.models[model].versions.get(number)
            if version is not None and version.phase in (Phase.LIVE, Phase.FAILED) and not waiting.done():
                waiting.set_result(version)
        if not self._is_told:
            self._tell_outcome()

    def status(self) -> Status:
        """Return the whole server at this moment."""
        with contextlib.suppress(OSError):
            self._totals = read_folder(run_folder.metrics(self.config.run))
        return status_of(self.config, self.fleet, tuple(self._states.values()), self._totals, time.time())

    def _look(self, now: float) -> None:
        if any(v.opened.serving.replicas.min == 0 for m in self.fleet.models.values() for v in m.versions.values()):
            with contextlib.suppress(OSError):
                self.fleet.count(requests_of(read_folder(run_folder.metrics(self.config.run))), now)
        self._oom_kills = oom_kills()
        needed = {v.opened.root for m in self.fleet.models.values() for v in m.versions.values()}
        for root in self._roots - needed:
            opening.forget_copy(root, self._copies)
        self._roots = needed

    def _want(self, specs: tuple[ProcessSpec, ...]) -> None:
        if specs != self._wanted:
            self._wanted = specs
            self._say(line(Want(specs)))

    def _publish(self, snapshot: Snapshot) -> None:
        """Put a snapshot on disk first, so that a gateway that starts now has it, and then tell the others."""
        run_folder.write(run_folder.snapshot(self.config.run), msgspec.json.encode(snapshot))
        self._published = snapshot.revision
        self.push(self.apply_line())

    def apply_line(self) -> bytes:
        """Return what gateways are told; nothing while there is nothing to serve."""
        snapshot = self.fleet.snapshot
        return line(Apply(snapshot, is_first=not self.fleet.is_started)) if snapshot.revision else b""

    def _tell_outcome(self) -> None:
        """Tell whoever started the server that it has started, or why it cannot."""
        failures = self.fleet.failures() if self.fleet.is_settled() else []
        if self.fleet.is_started:
            models = tuple(_newest(m.versions).opened.summary for m in self.fleet.models.values())
            words = [s.word.ready for s in self._states.values() if s.kind == "gateway" and s.word and s.word.ready]
            self._tell(Started(models, str(words[0].get("grpc_engine", "")) if words else ""))
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
            self.tick(self._clock())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pause_s):
                    await self._changed.wait()
            self._changed.clear()

    # -- packages ----------------------------------------------------------------------------------------------------------

    def _resume(self, resume: Resume) -> None:
        """Take over from an earlier control process, if there was one that got far enough."""
        snapshot = run_folder.read_snapshot(self.config.run) if resume.specs else None
        if snapshot is not None:
            self.fleet.resume(snapshot, resume.specs, opening.reopen, self._clock())
            self._published, self._wanted, self._is_open = snapshot.revision, resume.specs, True
            for path in self.config.packages if self.config.watch else ():
                self._scans[path] = opening.scan(Path(path))
        for state in resume.states:
            self.take_state(state)

    async def _start(self) -> None:
        """Open the packages and begin."""
        try:
            await self._open_all()
        except LimenError as exc:
            self._refuse(failure_of(exc))
            return
        self._is_open = not self._is_told
        self.wake_up()

    async def _open_all(self) -> None:
        opened: dict[str, Opened] = {}
        for path in self.config.packages:
            found = await self._open(path)
            if found.model in opened:
                text = f"two packages are named {found.model}: {opened[found.model].origin} and {path}"
                self._refuse(Failure(text, hint=SAME_NAME_HINT))
                return
            opened[found.model] = found
        for found in opened.values():
            self.fleet.add(found, self._clock())

    def _refuse(self, failure: Failure) -> None:
        self._tell(Refused(failure))
        self._is_told = True

    async def _open(self, path: str) -> Opened:
        if self.config.watch:
            # Before it is read: a change that comes meanwhile must be seen as one.
            self._scans[path] = await asyncio.to_thread(opening.scan, Path(path))
        return await asyncio.to_thread(
            opening.open_verified,
            Path(path),
            Path(self.config.home),
            self._copies,
            trust_code=self.config.trust_code,
        )

    async def reload(self, name: str, package: str) -> Reloaded | Refused:
        """Load a package as the next version of a model, and return when it answers or has failed.

        Args:
            name: the model.
            package: a folder or an archive; the one it was loaded from when empty.
        """
        model = self.fleet.models.get(name)
        if model is None or not self._is_open:
            served = ", ".join(self.fleet.models) or "nothing yet"
            return Refused(Failure(f"there is no model named {name} here", hint=f"This server serves {served}."))
        # One at a time, in the order they were asked for: the last one wins.
        async with self._locks[name]:
            begun = self._clock()
            live = model.find(Phase.LIVE)
            path = package or _newest(model.versions).opened.origin
            try:
                opened = await self._open(path)
                if opened.model != name:
                    opening.forget_copy(opened.root, self._copies)
                    raise InvalidPackage(f"{path}: the package is named {opened.model} and not {name}")
            except LimenError as exc:
                model.problem = exc.message
                return Refused(failure_of(exc))
            version = self.fleet.add(opened, self._clock())
            waiting: asyncio.Future[Version] = asyncio.get_running_loop().create_future()
            self._waiting[name, version.number] = waiting
            self.wake_up()
            try:
                # Above the limits that the fleet itself sets.
                async with asyncio.timeout(START_S + OFFER_S + 60):
                    await waiting
            finally:
                del self._waiting[name, version.number]
            took = self._clock() - begun
            return Reloaded(name, version.number, live.number if live else "", round(took, 3), version.reason)

    async def _watch(self) -> None:
        """Load a package again when its files have changed and have been left alone since the last look."""
        seen: dict[str, opening.Scan] = {}
        while True:
            await asyncio.sleep(WATCH_S)
            for model in tuple(self.fleet.models.values()):
                path = _newest(model.versions).opened.origin
                found = await asyncio.to_thread(opening.scan, Path(path))
                known = self._scans.setdefault(path, found)
                if found and found != known and found == seen.get(path):
                    self._scans[path] = found
                    self._tell(Notice(_shown(path, await self.reload(model.name, ""))))
                seen[path] = found


def requests_of(totals: Totals) -> dict[tuple[str, str], float]:
    """Return how many requests every version has had."""
    found: defaultdict[tuple[str, str], float] = defaultdict(float)
    for labels in totals.series(Scope.GATEWAY):
        found[labels[0], labels[1]] += sum(totals.numbers(REQUESTS, labels).values())
    return dict(found)


def _newest(versions: Mapping[str, Version]) -> Version:
    """Return the version that answers, or the newest one when none does."""
    live = [v for v in versions.values() if v.phase is Phase.LIVE]
    return (live or list(versions.values()))[-1]


def _refusal_of(state: ProcessState) -> Failure | None:
    """Return why a gateway that has never been ready cannot be."""
    if state.word is not None and state.word.failed is not None:
        return state.word.failed
    if state.phase in (ProcessPhase.PAUSED, ProcessPhase.ENDED) and state.word is None:
        return Failure(f"{state.name} ended before it was ready", hint="Its last words are above, if it had any.")
    return None


def _shown(path: str, outcome: Reloaded | Refused) -> str:
    """Return what a reload came to, for whoever edits the package."""
    if isinstance(outcome, Refused):
        return f"{path} has changed and cannot be served: {outcome.failure.message}"
    if outcome.failure:
        kept = f"; version {outcome.replaced} goes on" if outcome.replaced else ""
        return f"{path} has changed, and version {outcome.version} failed: {outcome.failure}{kept}"
    return f"{path} has changed: version {outcome.version} of {outcome.model} answers"
