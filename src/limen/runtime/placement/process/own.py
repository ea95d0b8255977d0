"""Replicas without a supervisor: starts and restarts the processes itself, and ends them when it is closed.

For programs that are one process (`limen check`, tests, benchmarks). `limen serve` keeps replicas in its supervisor instead.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from asyncio.subprocess import Process
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from limen.contracts.errors import InvalidPackage, LimenError, Reason
from limen.packaging.archive.package import Package
from limen.runtime.placement.process.pool.pool import ReplicaPool
from limen.runtime.placement.process.wire.start import (
    COMMAND,
    RECYCLE_AT,
    Ready,
    ReplicaStart,
    Said,
    resident_share,
)
from limen.runtime.placement.trust import ensure_trusted
from limen.runtime.sandbox.child import model_environment, start_async
from limen.storage.sockets import make_socket_folder, remove_socket_folder

LOG = logging.getLogger("limen.runtime")
LOAD_TIMEOUT_S: Final = 300.0
"""The longest a model may take to load."""
STOP_S: Final = 5.0
"""How long a replica may take to finish its batch and close its model before it is killed."""
CONNECT_S: Final = 10.0
MIN_PAUSE_S: Final = 0.1
MAX_PAUSE_S: Final = 30.0
STEADY_S: Final = 60.0
"""A replica that lived this long is forgiven its earlier deaths."""
CHECK_S: Final = 1.0
"""How often a replica's memory is looked at."""


class Launched(NamedTuple):
    """A replica process that has loaded its package."""

    process: Process
    """Ends when its standard input closes, and in order at SIGTERM."""
    ready: Ready


async def launch(start: ReplicaStart, *, timeout_s: float = LOAD_TIMEOUT_S) -> Launched:
    """Start a replica process and return when it listens; ending it is the caller's.

    Raises:
        InvalidPackage: why it cannot load the package; the process has ended then.
    """
    process = await start_async(COMMAND, model_environment(start.cpus, start.environment))
    try:
        async with asyncio.timeout(timeout_s):
            said = await _ask(process, start)
    except TimeoutError:
        await end(process, grace_s=0)
        raise InvalidPackage(f"the model was not loaded within {timeout_s:g} s") from None
    except BaseException:
        await end(process, grace_s=0)
        raise
    if said is not None and said.ready is not None:
        return Launched(process, said.ready)
    await end(process, grace_s=0)
    if said is None or said.failed is None:
        raise InvalidPackage("the model's process ended while it was loading")
    raise InvalidPackage(said.failed.message, reason=Reason(said.failed.reason))


async def _ask(process: Process, start: ReplicaStart) -> Said | None:
    if process.stdin is None or process.stdout is None:
        return None
    try:
        process.stdin.write(msgspec.json.encode(start) + b"\n")
        await process.stdin.drain()
    except ConnectionError:
        return None
    line = await process.stdout.readline()
    return msgspec.json.decode(line, type=Said) if line else None


async def end(process: Process, *, grace_s: float = STOP_S) -> None:
    """Have a replica process end, in order if it does so within `grace_s` seconds, and wait until it has."""
    if process.returncode is None and grace_s > 0:
        _signal(process.terminate)
        try:
            async with asyncio.timeout(grace_s):
                await process.wait()
        except TimeoutError:
            LOG.warning("the replica %d does not end its last run and is killed", process.pid)
    if process.returncode is None:
        _signal(process.kill)
        await process.wait()
    if process.stdin is not None:
        process.stdin.close()


def _signal(send: Callable[[], None]) -> None:
    try:
        send()
    except ProcessLookupError:
        return


class OwnPool(ReplicaPool):
    """A pool that keeps its own replicas running."""

    def __init__(self, start: ReplicaStart, name: str, replicas: int, *, hang_after_s: float) -> None:
        """Prepare; `open` starts the replicas.

        Args:
            start: what a replica is told; each gets a socket of its own.
            name: the model, for its answers.
            replicas: how many.
            hang_after_s: the shortest time after which a replica that does not go on is killed.
        """
        super().__init__(name, start.version, digest=start.digest, hang_after_s=hang_after_s)
        self._wanted = start
        self._folder = make_socket_folder()
        # Not inside: a replica that goes on as another user must reach it. The first one makes it.
        self._scratch = f"{self._folder}-scratch"
        self._paths: dict[int, str] = {}
        self._generation = 0
        self._replicas = replicas
        self._keepers: list[asyncio.Task[None]] = []
        self._processes: dict[int, Process] = {}
        """The process of each slot, which ends with the pool."""
        self.ready: list[Ready] = []
        """What the replicas said when they were ready, in order."""
        self.exits: list[int] = []
        """Exit statuses of replicas that ended by themselves."""
        self.restarts = 0
        """Replicas that were started in place of one that had ended."""
        self.recycled = 0
        """Replicas that were replaced before they reached their memory limit."""

    async def open(self) -> None:
        """Start the replicas and watch over them from then on.

        Raises:
            InvalidPackage: the package cannot be loaded.
        """
        try:
            for slot in range(self._replicas):
                launched = await self._launch(slot)
                self._keepers.append(asyncio.create_task(self._keep(slot, launched), name=f"replica of {self.name}"))
            async with asyncio.timeout(CONNECT_S):
                while self.connected < self._replicas:
                    await self._arrival(CONNECT_S)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Leave the replicas, end them and give their memory back; idempotent."""
        await super().close()
        keepers, self._keepers = self._keepers, []
        for keeper in keepers:
            keeper.cancel()
        if keepers:
            await asyncio.wait(keepers)
        remove_socket_folder(self._folder)
        shutil.rmtree(self._scratch, ignore_errors=True)

    async def _launch(self, slot: int) -> Launched:
        self._generation += 1
        path = str(Path(self._folder) / str(self._generation))
        scratch = f"{self._scratch}/{self._generation}"
        launched = await launch(msgspec.structs.replace(self._wanted, socket=path, scratch=scratch))
        self.ready.append(launched.ready)
        self._paths[slot] = path
        self.set_replicas(tuple(self._paths.values()))
        return launched

    async def _keep(self, slot: int, launched: Launched) -> None:
        """Replace a replica whenever it ends, or soon will."""
        self._processes[slot] = launched.process
        pause = MIN_PAUSE_S
        try:
            while True:
                started = self._loop.time()
                await self._watch_over(slot)
                process = self._processes[slot]
                self.exits.append(process.returncode or 0)
                await end(process)
                pause = MIN_PAUSE_S if self._loop.time() - started > STEADY_S else min(pause * 2, MAX_PAUSE_S)
                LOG.warning("a replica of %s version %s ended; another starts", self.name, self.version)
                self._processes[slot] = await self._again(slot, pause)
                self.restarts += 1
        finally:
            await end(self._processes.pop(slot))

    async def _again(self, slot: int, pause: float) -> Process:
        while True:
            await asyncio.sleep(pause)
            try:
                return (await self._launch(slot)).process
            except (LimenError, OSError) as exc:
                LOG.warning("a replica of %s version %s did not start", self.name, self.version, exc_info=exc)
            pause = min(pause * 2, MAX_PAUSE_S)

    async def _watch_over(self, slot: int) -> None:
        """Return when the process of a slot has ended; replace it before it runs out of memory."""
        limit = self._wanted.memory_mb
        while True:
            process = self._processes[slot]
            try:
                async with asyncio.timeout(None if limit is None else CHECK_S):
                    await process.wait()
                return
            except TimeoutError:
                if limit is None or resident_share(process.pid, limit) < RECYCLE_AT:
                    continue
            try:
                launched = await self._launch(slot)
            except (LimenError, OSError) as exc:
                LOG.warning("a replica of %s version %s did not start", self.name, self.version, exc_info=exc)
                continue
            self.recycled += 1
            try:
                await self.wait_retired()
                await end(process)
            except BaseException:
                # The slot still has the old one, which is ended with it.
                await end(launched.process)
                raise
            self._processes[slot] = launched.process


class OwnReplicas:
    """A placement that starts a package's replicas itself."""

    def __init__(
        self,
        *,
        trust_code: bool = False,
        replicas: int = 1,
        isolate: bool = True,
    ) -> None:
        """Prepare.

        Args:
            trust_code: whether packages that bring their own code may run it.
            replicas: how many processes for each version.
            isolate: take away what a model does not need.
        """
        self._trust_code = trust_code
        self._replicas = replicas
        self._isolate = isolate

    async def start(self, package: Package, version: str) -> OwnPool:
        """Start the replicas and return when they have loaded the package.

        Raises:
            InvalidPackage: the package cannot be loaded as it is.
        """
        manifest = package.manifest
        ensure_trusted(manifest, trust_code=self._trust_code)
        resources = manifest.serving.resources
        start = ReplicaStart(
            root=str(package.root),
            version=version,
            digest=package.digest,
            trust_code=self._trust_code,
            socket="",
            memory_mb=resources.memory_mb,
            cpus=resources.cpus,
            environment=manifest.environment,
            isolate=self._isolate,
        )
        pool = OwnPool(start, manifest.contract.name, self._replicas, hang_after_s=manifest.serving.hang_after_s)
        await pool.open()
        return pool
