"""The real HTTP gateway in the process of the tests: its own thread, its own event loop, a real port."""

from __future__ import annotations

import asyncio
import io
import json
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
import uvloop

from limen.gateway.engine.config import HttpLimits
from limen.gateway.engine.server import HttpServer
from limen.gateway.http.app import HttpApplication
from limen.packaging.archive.package import open_package
from limen.runtime.placement import Placement
from limen.runtime.placement.inline import InlinePlacement
from limen.runtime.versions.manager import VersionManager
from limen.serving.dataplane.plane import DataPlane
from limen.serving.link.operations import Operations
from limen.telemetry.form import FORMAT_VARIABLE
from limen.telemetry.logs import RequestLog
from tests.conformance.serving.lag import LagProbe
from tests.conformance.serving.wire import JSON, Answer, Wire, request

HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})


class Gateway:
    """A started server: `call` it, look at its `log`, `stop` it."""

    def __init__(
        self,
        packages: Sequence[Path],
        limits: HttpLimits | None = None,
        placement: Placement | None = None,
        *,
        settled: bool = True,
        operations: Operations | None = None,
    ) -> None:
        """Load the packages and listen; without `settled`, listen first and leave the loading to the test."""
        self._operations = operations
        self._limits = limits or HttpLimits()
        self._placement = placement or InlinePlacement(trust_code=True)
        self._packages = [open_package(p, p.parent) for p in packages]
        self._stream = io.StringIO()
        self._started: Future[None] = Future()
        self._stopping: asyncio.Event
        self.lag = LagProbe()
        """How long requests keep the loop from its next turn."""
        self._thread = threading.Thread(target=self._main, args=(settled,), daemon=True)
        self._thread.start()
        self._started.result(60)

    def call(
        self, method: str, target: str, body: Any = None, headers: Mapping[str, str] | None = None, **options: Any
    ) -> Answer:
        """Send one request on a connection of its own; a body that is not bytes is sent as JSON."""
        if body is not None and not isinstance(body, bytes):
            body, headers = json.dumps(body).encode(), {**JSON, **(headers or {})}
        with self.wire() as wire:
            return wire.send(request(method, target, body, headers, **options)).answer(has_body=method != "HEAD")

    def wire(self, **options: Any) -> Wire:
        """Return a new connection."""
        return Wire(self.port, **options)

    def log(self) -> list[dict[str, Any]]:
        """Return every line logged so far."""
        self.do(self.log_to.close)
        return [json.loads(line) for line in self._stream.getvalue().splitlines()]

    def do(self, work: Callable[[], Any]) -> Any:
        """Run something on the server's own loop; await it there if it is a coroutine function."""

        async def turn() -> Any:
            result = work()
            return await result if asyncio.iscoroutine(result) else result

        return asyncio.run_coroutine_threadsafe(turn(), self.loop).result(60)

    def start(self, work: Callable[[], Any]) -> Future[Any]:
        """Begin something on the server's own loop that takes its time."""
        return asyncio.run_coroutine_threadsafe(work(), self.loop)

    def wait_until(self, fact: Callable[[], bool]) -> None:
        """Return once something holds on the server's loop; it is looked at in every turn of the loop."""

        async def watch() -> None:
            while not fact():  # noqa: ASYNC110  what changes has no event to wait for
                await asyncio.sleep(0)

        self.start(watch).result(30)

    def stop(self) -> None:
        """Stop as `limen serve` does on SIGTERM, and wait for it."""
        if self._thread.is_alive():
            self.loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(60)

    def _main(self, settled: bool) -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._serve(settled))
        except BaseException as exc:
            if self._started.done():
                raise
            self._started.set_exception(exc)

    async def _serve(self, settled: bool) -> None:
        self.loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        with pytest.MonkeyPatch.context() as chosen:
            chosen.setenv(FORMAT_VARIABLE, "json")
            self.log_to = RequestLog(self._stream)
        self.versions = VersionManager(self._placement)
        self.plane = DataPlane(self.versions, operations=self._operations)
        for package in self._packages:
            self.versions.set_aspired(package.manifest.contract.name, {"1": package})
        if settled:
            await self.versions.settle()
            assert self.plane.directory.is_ready(), [self.versions.statuses(m) for m in self.versions.models()]
        self.server = HttpServer(HttpApplication(self.plane, self.log_to, self._limits, HOSTS), self._limits)
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setblocking(False)
        self.port: int = listener.getsockname()[1]
        await self.server.start(listener)
        beating = self.loop.create_task(self.lag.run())
        self._started.set_result(None)
        await self._stopping.wait()
        beating.cancel()
        self.plane.directory.drain()
        await self.server.stop()
        await self.versions.close()
