"""Wires up a gateway process."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec

from limen.app.process import (
    allowed_hosts,
    beat,
    end_by,
    freeze_garbage,
    run_loop,
    say_first,
    stop_on_signals,
)
from limen.app.starts import GatewayStart, decode_start
from limen.contracts.errors import Reason
from limen.contracts.snapshot import SharedSettings, Snapshot
from limen.gateway.engine.config import HttpLimits
from limen.gateway.engine.held_bytes import HeldBytes
from limen.gateway.engine.server import HttpServer
from limen.gateway.grpc.server import GrpcServer
from limen.gateway.http.app import HttpApplication
from limen.runtime.placement.chosen import ChosenPlacement
from limen.runtime.placement.inline import InlinePlacement
from limen.runtime.placement.process.placement import ProcessPlacement
from limen.runtime.sandbox.allocator import Bursts, keep_buffers, trim
from limen.runtime.versions.manager import VersionManager
from limen.serving.control.leftovers import collect_native
from limen.serving.dataplane.plane import DataPlane
from limen.serving.link.follower import GatewayLink
from limen.serving.link.operations import Operations
from limen.serving.messages.lines import Failure, FirstWord
from limen.serving.supervision import run_folder
from limen.serving.supervision.ports import shared_listener, shown_address
from limen.telemetry.logs import RequestLog, log_to_stderr
from limen.telemetry.metrics import instruments as table
from limen.telemetry.metrics.file import SUFFIX
from limen.telemetry.metrics.series import Metrics
from limen.telemetry.metrics.totals import read_folder
from limen.traffic.admission import Admission
from limen.traffic.config import AdmissionConfig

LOG = logging.getLogger("limen")
LOG_FLUSH_S = 0.25
KEEP_S = 1.0
"""How often series of versions that are gone are looked for."""
LEFT_S = 60.0
"""How old a folder of the native engine must be to have been left by a gateway that was killed."""
LAST_S = 20.0
"""How much longer than it may drain a gateway has to end that has no supervisor."""


def main() -> None:
    """Run a gateway: `GatewayStart` comes on standard input, and whether it is ready goes to standard output."""
    log_to_stderr()
    start = decode_start(sys.stdin.buffer.readline(), GatewayStart)

    async def work() -> None:
        stop = asyncio.Event()
        stop_on_signals(stop.set, lambda: None)

        def orphaned() -> None:
            asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
            stop.set()
            end_by(start.settings.http.drain_s + LAST_S)

        # Standard input closes when the supervisor dies, however it dies.
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), orphaned)
        await run_gateway(start, stop, say_first)

    run_loop(work())


async def run_gateway(start: GatewayStart, stop: asyncio.Event, say: Callable[[FirstWord], None]) -> None:
    """Follow the snapshots of control and serve them until told to stop; then drain.

    Args:
        start: who this is and where control is.
        stop: set from outside.
        say: told once that the ports are open, or why they stay closed.
    """
    keep_buffers()
    gateway = _Gateway(start)
    try:
        async with asyncio.TaskGroup() as group:
            works = (gateway.link.run(), gateway.watch_itself(), beat())
            background = [group.create_task(work) for work in works]
            failures = await _unless(stop, gateway.link.until_usable())
            if failures:
                # Control knows, too, and ends the server.
                say(FirstWord(failed=Failure("; ".join(failures), reason=Reason.INVALID_PACKAGE.value)))
            elif failures is not None:
                freeze_garbage()
                try:
                    await gateway.open()
                    say(FirstWord(ready={"grpc_engine": gateway.grpc.engine}))
                except OSError as exc:
                    say(FirstWord(failed=Failure(f"{start.name} cannot listen: {exc.strerror or exc}")))
            await stop.wait()
            await gateway.drain()
            for task in background:
                task.cancel()
    finally:
        await gateway.close()


class _Gateway:
    """Everything in one gateway process."""

    def __init__(self, start: GatewayStart) -> None:
        settings = self._settings = start.settings
        self._ports = start.ports
        self._metrics_folder = run_folder.metrics(start.run)
        self._metrics = Metrics()
        # The other one is for the time in which the predecessor still counts in the first.
        self._metrics_files = [self._metrics_folder / f"{own}{SUFFIX}" for own in (start.name, f"{start.name}b")]
        if not self._share_metrics():
            LOG.warning("%s cannot write its metrics where other processes can read them; retrying", start.name)
        self._log = RequestLog(successes=settings.serve.access_log)
        placement = ChosenPlacement(
            InlinePlacement(trust_code=settings.trusts_code),
            ProcessPlacement(trust_code=settings.trusts_code, on_poison=self._poisoned),
        )
        self._versions = VersionManager(placement, on_change=self._changed, counts=self._metrics.runtime)
        self._plane = DataPlane(
            self._versions,
            Admission(settings.admission),
            self._metrics,
            read_totals=lambda: read_folder(self._metrics_folder),
            operations=Operations(start.control, is_explicit=settings.serve.model_control == "explicit"),
        )
        self.link = GatewayLink(
            start.name,
            start.control,
            start.run,
            self._plane,
            placement,
            self._follow,
            self._metrics.requests,
        )
        host = settings.serve.host
        target = shown_address(host, start.ports.grpc)
        application = HttpApplication(self._plane, self._log, settings.http, allowed_hosts(host), target)
        self._application = application
        self._held = HeldBytes(settings.http.most_held)
        self._http = HttpServer(application, settings.http, self._held)
        sockets = Path(start.control).parent
        collect_native(sockets, age_s=LEFT_S)
        self.grpc = GrpcServer(self._plane, settings.grpc, self._log, str(sockets), self._held, shares_port=True)
        self._shared = SharedSettings()
        self._bursts = Bursts()
        self._is_open = False

    async def open(self) -> None:
        """Listen.

        Raises:
            OSError: an address cannot be used.
        """
        host = self._settings.serve.host
        await self._http.start(shared_listener(host, self._ports.http))
        await self.grpc.start(host, self._ports.grpc)
        self._is_open = True

    async def drain(self) -> None:
        """Be ready no more, take nothing new, and answer what is in hand."""
        self._plane.directory.drain()
        self._changed()
        await asyncio.gather(self._http.stop(), self.grpc.stop(self._settings.http.drain_s))
        self._is_open = False

    async def close(self) -> None:
        """Let go of every version, and write what is left to be written."""
        await self._versions.close()
        self._log.close()
        self._metrics.close()

    async def watch_itself(self) -> None:
        """Write the log and note how things stand, until cancelled."""
        kept_at = 0.0
        while True:
            await asyncio.sleep(LOG_FLUSH_S)
            self._log.flush()
            self._versions.count_runs()
            self._share_metrics()
            if self.link.snapshot is not None and (now := time.monotonic()) - kept_at >= KEEP_S:
                kept_at = now
                self._metrics.keep(self.link.served(), now)
            self._note()
            if self._bursts.are_over(LOG_FLUSH_S, is_busy=self._held.take_peak() > 0):
                await asyncio.to_thread(trim)
                self._bursts.settle()

    def _note(self) -> None:
        """Note how things stand where others can read it."""
        process, http, held = self._metrics.process, self._http, self._held
        in_flight = sum(s.leases for m in self._versions.models() for s in self._versions.statuses(m))
        process.observe(connections=len(http.connections), in_flight=in_flight, dropped_lines=self._log.dropped)
        process.note(table.HELD_BYTES, held.now)
        process.note(table.MAX_HELD_BYTES, held.most)
        process.grow(table.REFUSED_BODIES, held.refused)
        process.grow(table.PAUSES, http.pauses)
        for status, count in self._application.errors.items():
            process.grow(table.HTTP_ERRORS, count, str(status))
        for why, count in http.ended.items():
            process.grow(table.HTTP_ENDED, count, why)
        census = self.grpc.census
        if census is not None:
            process.note(table.CONNECTIONS, census.open, "grpc")
            for why, count in census.ended.items():
                process.grow(table.GRPC_ENDED, count, why)

    def _share_metrics(self) -> bool:
        """Count where others can read it, also when there was no room for that before, or the file was lost."""
        if self._metrics.is_shared:
            return True
        for path in self._metrics_files:
            with contextlib.suppress(OSError):
                self._metrics.share(path)
                return True
        return False

    def _follow(self, snapshot: Snapshot) -> None:
        """Do as a snapshot says with what is logged and with settings."""
        self._log.set_levels(snapshot.log)
        shared = snapshot.settings
        if shared == self._shared or not shared.http:
            return
        self._shared = shared
        limits = msgspec.convert(shared.http, HttpLimits)
        self._http.follow(limits)
        self._application.limits = limits
        self._plane.admission.configure(msgspec.convert(shared.admission, AdmissionConfig))

    def _changed(self) -> None:
        self.link.changed()
        if self._is_open:
            self.grpc.refresh()

    def _poisoned(self, fingerprint: str) -> None:
        self.link.poison(fingerprint)


async def _unless(stop: asyncio.Event, waiting: Coroutine[Any, Any, list[str]]) -> list[str] | None:
    """Return what is waited for, or None when `stop` comes first."""
    asked, stopped = asyncio.ensure_future(waiting), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait((asked, stopped), return_when=asyncio.FIRST_COMPLETED)
        return asked.result() if asked.done() else None
    finally:
        asked.cancel()
        stopped.cancel()
