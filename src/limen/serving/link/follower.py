"""A gateway's end of the control socket: follows snapshots and reports its state.

Run by `limen.app` beside the servers of a gateway. It never holds up a request: what a snapshot asks for is loaded and let go in tasks
of its own. A gateway that loses control goes on with the snapshot it has and connects again; one that starts without control reads the
last snapshot from disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

import msgspec
from msgspec.structs import replace

from limen.contracts.contract import Slo
from limen.contracts.endpoint import Route
from limen.contracts.errors import LimenError
from limen.contracts.serving import Serving
from limen.contracts.snapshot import ServedEndpoint, ServedVersion, Snapshot
from limen.packaging.archive.package import Package
from limen.runtime.versions.lifecycle import State, VersionStatus
from limen.serving.dataplane.plane import DataPlane
from limen.serving.link.packages import package_of
from limen.serving.messages.lines import MAX_LINE_BYTES, Apply, Hello, Poison, Report, Wake, line
from limen.serving.supervision import run_folder

LOG = logging.getLogger("limen.gateway")
CONNECT_S = 2.0
RECONNECT_S = 0.25
REPORT_S = 1.0
WAKE_POLL_S = 0.02
"""How often a version without replicas is looked at; only then there is such a look at all."""
RETRY_S = 2.0
"""How long after a failed load of a version that should work it is tried again, at first; then twice as long each time."""
MAX_RETRY_S = 30.0
OPEN_S = 60.0
"""How long a gateway of a server that has been ready waits for its last versions before it opens its ports without them."""
FAILED_OPEN_S = 10.0
"""The same when all it waits for has failed here at least once; it is tried again."""
_LOADING = (State.NEW, State.LOADING, State.WARMING)


class _Followed(NamedTuple):
    """What was asked for of one endpoint."""

    numbers: tuple[str, ...] = ()
    routes: tuple[Route, ...] = ()
    aliases: Mapping[str, str] = {}
    serving: Serving | None = None
    slo: Slo | None = None
    is_served: bool = True
    """Whether the snapshot has it at all."""


class Replicas(Protocol):
    """What of a placement follows snapshots."""

    def set_replicas(self, model: str, version: str, paths: Sequence[str], down: str = "") -> None:
        """Use the replicas behind these sockets for a version, or refuse requests while none can be started."""
        ...

    def set_inline(self, model: str, version: str) -> None:
        """Have a version run in this process."""
        ...

    def set_quarantined(self, fingerprints: Iterable[str]) -> None:
        """Run these requests no more."""
        ...


class GatewayLink:
    """Keeps one gateway at the newest snapshot."""

    def __init__(
        self,
        name: str,
        control: str,
        run: str,
        plane: DataPlane,
        replicas: Replicas,
        on_snapshot: Callable[[Snapshot], None] = lambda _: None,
        requests: Callable[[], Mapping[tuple[str, str], int]] = dict,
    ) -> None:
        """Prepare to follow; `run` does it.

        Args:
            name: of this process.
            control: path of the control socket.
            run: the server's folder, with the last snapshot.
            plane: what is steered: its versions, and which of them answers.
            replicas: learns where each version runs.
            on_snapshot: follows what a snapshot says beside endpoints: what to log, and settings.
            requests: gives how many requests each version has had.
        """
        self._hello = Hello(name, os.getpid())
        self._control = control
        self._run_folder = run
        self._plane = plane
        self._versions = plane.versions
        self._replicas = replicas
        self._on_snapshot = on_snapshot
        self._requests = requests
        self.snapshot: Snapshot | None = None
        self._is_first = False
        self._is_started = True
        self._packages: dict[tuple[str, str], tuple[Package, tuple[Serving | None, Slo | None]]] = {}
        self._followed: dict[str, _Followed] = {}
        self._retries: dict[tuple[str, str], tuple[float, float]] = {}
        self._woken: set[tuple[str, str]] = set()
        self._writer: asyncio.StreamWriter | None = None
        self._report_due = asyncio.Event()
        self._moved = asyncio.Event()
        self._group: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Follow and report until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            group.create_task(self._listen_always())
            group.create_task(self._report_always())
            group.create_task(self._wake_always())

    def changed(self) -> None:
        """Say that a version, or the gateway itself, has changed."""
        self._report_due.set()
        self._moved.set()

    def served(self) -> frozenset[tuple[str, str]]:
        """Return every version that the snapshot has or that is still here, and every endpoint with an empty version."""
        endpoints = () if self.snapshot is None else self.snapshot.endpoints
        wanted = ((e.name, number) for e in endpoints for number in ("", *(v.number for v in e.versions)))
        held = ((s.model, s.version) for model in self._versions.models() for s in self._versions.statuses(model))
        return frozenset((*wanted, *held))

    def wake(self, model: str, version: str) -> None:
        """Tell control that a request waits for a version without replicas."""
        self._tell(Wake(model, version))

    def poison(self, fingerprint: str) -> None:
        """Tell control of a request that has killed a replica."""
        self._tell(Poison(fingerprint))

    async def until_usable(self) -> list[str]:
        """Return when the first snapshot has been followed; the answer names what prevents the server's very start.

        A gateway that joins a server that was ready before waits for every version that answers elsewhere, so that no caller meets it
        without one. It does not stay away for ever because of one: others can be called.
        """
        begun = time.monotonic()
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REPORT_S):
                    await self._moved.wait()
            self._moved.clear()
            if self.snapshot is None:
                begun = time.monotonic()
                continue
            coming, failed = self._missing(self.snapshot)
            if self._is_first and not coming:
                return failed
            if (
                not self._is_started
                and not self._is_first
                and any(map(self._versions.has_answer, self._versions.models()))
            ):
                # What comes into use for the first time is not waited for by callers of the rest.
                return []
            waited_s = time.monotonic() - begun
            if not (coming or failed) or waited_s > OPEN_S or (not coming and waited_s > FAILED_OPEN_S):
                return []

    def _missing(self, snapshot: Snapshot) -> tuple[list[str], list[str]]:
        """Return the versions that are still to become ready here, and why others have not; those that control knows to be broken are neither."""
        coming: list[str] = []
        failed: list[str] = []
        for endpoint in snapshot.endpoints:
            states = {s.version: s for s in self._versions.statuses(endpoint.name)}
            is_known = {v.number for v in endpoint.versions if not self._is_first and (v.failure or v.down)}
            for version in () if endpoint.is_paused else endpoint.versions:
                if version.number in is_known:
                    continue
                status = states.get(version.number)
                if status is not None and status.state is State.FAILED:
                    failed.append(f"{endpoint.name}: {status.reason}")
                elif status is None or status.state is not State.READY:
                    coming.append(endpoint.name)
        return coming, failed

    # -- snapshots ---------------------------------------------------------------------------------------------------------

    def apply(self, snapshot: Snapshot, *, is_first: bool = False, is_started: bool = True) -> None:
        """Work towards a snapshot from now on."""
        self._is_first, self._is_started = is_first, is_started
        # Also after a reconnection: what was said to the control process before may be lost.
        self._woken.clear()
        if self.snapshot is not None and snapshot.revision <= self.snapshot.revision:
            return
        self.snapshot = snapshot
        self._plane.directory.require_all(snapshot.needs_all)
        self._plane.keep({e.name for e in snapshot.endpoints})
        self._replicas.set_quarantined(snapshot.quarantined)
        self._on_snapshot(snapshot)
        self._versions.paused = frozenset(e.name for e in snapshot.endpoints if e.is_paused)
        self._versions.expect({e.name: [v.number for v in e.versions] for e in snapshot.endpoints})
        for endpoint in snapshot.endpoints:
            for version in endpoint.versions:
                if version.is_inline:
                    self._replicas.set_inline(endpoint.name, version.number)
                elif not version.failure:
                    self._replicas.set_replicas(endpoint.name, version.number, version.replicas, version.down)
        self._follow()
        self.changed()

    def _follow(self) -> None:
        """Ask the version manager for what the snapshot wants, as far as that can be asked for now."""
        if self.snapshot is None:
            return
        endpoints = {e.name: e for e in self.snapshot.endpoints}
        plan = {e.name: _Followed(self._wanted(e), e.routes, e.aliases, e.serving, e.slo) for e in endpoints.values()}
        plan |= {name: _Followed(is_served=False) for name in self._versions.models() if name not in plan}
        if plan == self._followed:
            return
        self._followed = plan
        for name, followed in tuple(plan.items()):
            try:
                self._ask(endpoints.get(name, ServedEndpoint(name)), followed)
            except (LimenError, OSError) as exc:
                # The others go on, and this one is looked at again.
                LOG.warning("the endpoint %s cannot be updated: %s", name, exc)
                del self._followed[name]
        kept = {(e.name, v.number) for e in endpoints.values() for v in e.versions}
        self._packages = {key: found for key, found in self._packages.items() if key in kept}
        if self._group is not None:
            self._group.create_task(self._settle())

    def _ask(self, endpoint: ServedEndpoint, followed: _Followed) -> None:
        name, routes = endpoint.name, followed.routes
        known = {s.version for s in self._versions.statuses(name)}
        served = {v.number: v for v in endpoint.versions if v.number in followed.numbers}
        packages = {n: self._package(endpoint, version) for n, version in served.items()}
        self._plane.set_routes(name, routes, followed.aliases)
        heaviest_first = sorted(routes, key=lambda route: -route.weight)
        self._versions.set_aspired(name, packages, tuple(str(r.version) for r in heaviest_first))
        for number, package in packages.items():
            if served[number].failure and number not in known:
                self._versions.set_failed(name, number, package, served[number].failure)

    def _wanted(self, endpoint: ServedEndpoint) -> tuple[str, ...]:
        """Return the versions to ask for now; what has to be loaded anew, or shown as failed, is let go first."""
        if endpoint.is_paused:
            return ()
        statuses = {s.version: s for s in self._versions.statuses(endpoint.name)}
        return tuple(
            version.number
            for version in endpoint.versions
            if (status := statuses.get(version.number)) is None or self._may_stay(endpoint.name, version, status)
        )

    def _may_stay(self, model: str, version: ServedVersion, status: VersionStatus) -> bool:
        """Whether what is here of a version is, or can become, what the snapshot says of it."""
        if status.digest != version.digest:
            return False
        if status.state is State.FAILED:
            return bool(version.failure) or not self._is_due(model, version, status)
        return not version.failure

    def _is_due(self, model: str, version: ServedVersion, status: VersionStatus) -> bool:
        """Whether a version that failed here and should work is to be tried again now."""
        now = time.monotonic()
        if version.down:
            # It is loaded as soon as a replica can be started again.
            self._retries[model, version.number] = now, RETRY_S
            return False
        at, pause = self._retries.get((model, version.number), (0.0, RETRY_S))
        if not at:
            self._retries[model, version.number] = now + pause, pause
            return False
        if now < at:
            return False
        LOG.warning("retrying to load %s version %s after: %s", model, version.number, status.reason)
        pause = min(2 * pause, MAX_RETRY_S)
        self._retries[model, version.number] = now + pause, pause
        return True

    async def _settle(self) -> None:
        await self._versions.settle()
        self.changed()
        self._follow()

    def _package(self, endpoint: ServedEndpoint, version: ServedVersion) -> Package:
        """Return a version's package with what the endpoint says now; a version that is in use takes that over at once."""
        key, says = (endpoint.name, version.number), (endpoint.serving, endpoint.slo)
        known = self._packages.get(key)
        is_same = known is not None and known[0].digest == version.digest
        if known is not None and is_same and known[1] == says:
            return known[0]
        package = package_of(endpoint, version)
        self._packages[key] = package, says
        if is_same:
            self._versions.adapt(*key, package)
        return package

    # -- control -----------------------------------------------------------------------------------------------------------

    async def _listen_always(self) -> None:
        while True:
            try:
                async with asyncio.timeout(CONNECT_S):
                    reader, writer = await asyncio.open_unix_connection(self._control, limit=MAX_LINE_BYTES)
            except (OSError, TimeoutError):
                self._read_from_disk()
                await asyncio.sleep(RECONNECT_S)
                continue
            try:
                writer.write(line(self._hello) + line(self._report()))
                self._writer = writer
                while said := await reader.readline():
                    message = msgspec.json.decode(said, type=Apply)
                    self.apply(message.snapshot, is_first=message.is_first, is_started=message.is_started)
            except (OSError, ValueError) as exc:  # msgspec's errors are ValueErrors
                LOG.info("lost the connection to control: %s", exc)
            finally:
                self._writer = None
                writer.close()
            await asyncio.sleep(RECONNECT_S)

    def _read_from_disk(self) -> None:
        if self.snapshot is None and (snapshot := run_folder.read_snapshot(self._run_folder)) is not None:
            LOG.info("control does not answer: serving revision %d from disk", snapshot.revision)
            self.apply(snapshot)

    async def _report_always(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REPORT_S):
                    await self._report_due.wait()
            self._report_due.clear()
            # Control may be there and not answer, which is as good as away.
            self._read_from_disk()
            try:
                self._follow()
            except (LimenError, OSError):
                LOG.exception("a snapshot cannot be followed")
            self._tell(self._report())

    async def _wake_always(self) -> None:
        """Tell control, once for each snapshot, of versions that requests wait for and that have no replicas."""
        while True:
            idle = self._without_replicas()
            if not idle:
                await asyncio.sleep(REPORT_S / 4)
                continue
            busy = {(load.model, load.version) for load in self._versions.loads() if load.waiting}
            for model in {model for model, _ in idle}:
                statuses = self._versions.statuses(model)
                busy |= {(model, s.version) for s in statuses if s.leases or s.state in _LOADING}
            for key in busy & idle - self._woken:
                self._woken.add(key)
                self.wake(*key)
            await asyncio.sleep(WAKE_POLL_S)

    def _without_replicas(self) -> set[tuple[str, str]]:
        endpoints = () if self.snapshot is None else self.snapshot.endpoints
        versions = ((e.name, v) for e in endpoints for v in e.versions)
        return {(name, v.number) for name, v in versions if not (v.replicas or v.failure or v.down or v.is_inline)}

    def _report(self) -> Report:
        had = self._requests()
        return Report(
            self.snapshot.revision if self.snapshot is not None else 0,
            tuple(s for model in self._versions.models() for s in self._versions.statuses(model)),
            tuple(replace(w, requests=had.get((w.model, w.version), 0)) for w in self._versions.loads()),
            self._plane.directory.is_draining,
        )

    def _tell(self, message: Report | Wake | Poison) -> None:
        """Say something to control; without it, nobody has to know."""
        writer = self._writer
        if writer is not None and not writer.is_closing():
            with contextlib.suppress(ConnectionError, RuntimeError):
                writer.write(line(message))
