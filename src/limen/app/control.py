"""The control process, put together."""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from limen.app.process import allowed_hosts, end_by, run_loop, say, say_first
from limen.app.starts import ControlStart, GatewayStart, decode_start, encode_start
from limen.runtime.sandbox.child import model_environment, passed_environment, python
from limen.serving.messages.lines import MAX_LINE_BYTES, FirstWord, ProcessSpec, Resume, Want, line
from limen.serving.supervision import run_folder
from limen.serving.supervision.ports import shared_listener, shown_address
from limen.serving.supervision.run_folder import control_socket
from limen.settings import ServeSettings
from limen.telemetry.logs import log_to_stderr

if TYPE_CHECKING:
    from limen.management.stores import Stores
    from limen.serving.control.controlplane import ControlConfig, ControlPlane
    from limen.serving.fleet.launching import Launch
    from limen.serving.fleet.records import Opened
    from limen.serving.sources.reconciler import Reconciler
    from limen.serving.sources.source import Source
    from limen.settings import Settings

LOG = logging.getLogger("limen.control")
LAST_S = 5.0
"""How long control may take to end; it has nothing to finish."""
BACKLOG = 128
"""Callers of the management API that may wait to be let in."""
GATEWAY_SILENCE_S = 6.0
"""How long a gateway may say nothing before it is taken for hung: a new one has taken its place within ten seconds."""
INLINE_SILENCE_S = 60.0
"""The same for one that has models inside, whose libraries may keep everything to themselves while they load."""
REPLICA_BUDGET = 20
"""Restarts of one replica in ten minutes, above which it is given up for a while."""


def main() -> None:
    """Run the control process: `ControlStart` comes on standard input, then what the supervisor says."""
    log_to_stderr()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Unbuffered: what comes after these two lines is read by the event loop.
    with open(0, "rb", buffering=0, closefd=False) as orders:
        start = decode_start(orders.readline(), ControlStart)
        resume = msgspec.json.decode(orders.readline(), type=Resume)
    say_first(FirstWord(ready={}))
    gateways = _gateway_specs(start)
    if not resume.specs:
        # Before anything heavy is imported here: they have as much to import.
        say(line(Want(gateways)))
    run_loop(run_control(start, resume, gateways))


async def run_control(start: ControlStart, resume: Resume, gateways: tuple[ProcessSpec, ...]) -> None:
    """Control until the supervisor closes its end, or SIGTERM."""
    from limen.contracts.snapshot import LogLevels
    from limen.serving.control.controlplane import ControlPlane
    from limen.serving.control.socket import ControlSocket
    from limen.serving.fleet.fleet import Fleet
    from limen.serving.fleet.open_files import Room, file_limit

    loop = asyncio.get_running_loop()
    orders = asyncio.StreamReader(limit=MAX_LINE_BYTES)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    settings = start.settings
    source = _source(start)
    # A name of its own for every life: nothing that still listens from an earlier one is met under a new name.
    sockets = f"{start.sockets}/{os.urandom(4).hex()}"
    launch, room = _replica_launcher(settings, start.run), Room(file_limit(), len(gateways))
    fleet = Fleet(gateways, launch, sockets, is_all_or_nothing=source.is_required, room=room)
    fleet.log = LogLevels(info=settings.access_log)
    control = ControlPlane(_config(start), fleet, source, say)
    async with ControlSocket(control).open(control_socket(start.sockets)):
        running = asyncio.create_task(control.run(resume, orders))
        servers = [asyncio.create_task(_serve_metrics(settings, control))]
        if start.managed is not None:
            servers.append(asyncio.create_task(_serve_admin(start.managed, settings, control, source)))
        for server in servers:
            server.add_done_callback(_tell_end)
        stop = asyncio.Event()
        loop.add_signal_handler(signal.SIGTERM, stop.set)
        stopping = asyncio.create_task(stop.wait())
        closed = asyncio.create_task(control.closed.wait())
        await asyncio.wait((running, stopping, closed), return_when=asyncio.FIRST_COMPLETED)
        end_by(LAST_S)
        closed.cancel()
        for task in (running, stopping, *servers):
            task.cancel()
        await asyncio.gather(running, stopping, *servers, return_exceptions=True)
        if control.closed.is_set():
            # The supervisor is gone without having been able to do this.
            run_folder.remove(Path(start.run), start.sockets)
    if not running.cancelled() and (exc := running.exception()) is not None:
        raise exc


def _config(start: ControlStart) -> ControlConfig:
    from limen.serving.control.controlplane import ControlConfig

    settings = start.settings
    http, grpc, metrics = (
        shown_address(settings.host, port) for port in (settings.http_port, settings.grpc_port, settings.metrics_port)
    )
    return ControlConfig(
        run=start.run,
        watch=settings.watch,
        http=http,
        grpc=grpc,
        metrics=metrics,
        server_pid=start.server_pid,
        server=start.server,
        started_at=start.started_at,
    )


def _source(start: ControlStart) -> Source:
    """Return where the endpoints come from: the packages that were named, or else the registry."""
    settings = start.settings
    if start.managed is not None:
        return _reconciler(start, start.managed)
    from limen.serving.sources.folders import Folders

    return Folders(
        settings.packages,
        settings.home,
        run_folder.copies(start.run),
        is_inline=settings.placement == "inline",
        trust_code=settings.trust_code,
    )


def _reconciler(start: ControlStart, managed: Settings) -> Reconciler:
    from limen.management.stores import open_registry
    from limen.packaging.signing.trust import Trust
    from limen.serving.sources.reconciler import Reconciler

    trust = Trust.of(managed.trust)

    def opened() -> Stores:
        stores = open_registry(managed.registry)
        if not managed.registry.database_url:
            # Nobody else works on this home's registry: what was being worked on is not any more.
            with stores.database.transaction() as connection:
                stores.idempotency.forget_unfinished(connection)
        return stores

    return Reconciler(
        opened,
        Path(start.settings.home),
        managed.registry.database_id,
        is_inline=start.settings.placement == "inline",
        trust_code=start.settings.trust_code,
        is_trusted=trust.still_believes,
    )


def _gateway_specs(start: ControlStart) -> tuple[ProcessSpec, ...]:
    is_inline = start.settings.placement == "inline"
    silence_s = INLINE_SILENCE_S if is_inline else GATEWAY_SILENCE_S
    specs = []
    # A gateway reads what strangers send: it has no use for the secrets of the registry.
    environment = passed_environment()
    for number in range(1, start.settings.workers + 1):
        name = f"gateway-{number}"
        hello = GatewayStart(name=name, settings=start.settings, run=start.run, control=control_socket(start.sockets))
        said = encode_start(hello)
        command = python("limen.app.gateway")
        specs.append(ProcessSpec(name, "gateway", command, said, environment, silence_s=silence_s, is_essential=True))
    return tuple(specs)


def _replica_launcher(settings: ServeSettings, run: str) -> Launch:
    from limen.runtime.placement.process.wire.start import COMMAND, ReplicaStart

    def launch(opened: Opened, number: str, name: str, path: str) -> ProcessSpec:
        resources = opened.serving.resources
        hello = ReplicaStart(
            root=opened.root,
            version=number,
            digest=opened.digest,
            trust_code=settings.trust_code,
            socket=path,
            memory_mb=resources.memory_mb,
            cpus=resources.cpus,
            environment=opened.environment,
            scratch=f"{run}/scratch/{name}",
        )
        return ProcessSpec(
            name,
            "replica",
            COMMAND,
            msgspec.json.encode(hello).decode(),
            model_environment(resources.cpus, opened.environment),
            budget=REPLICA_BUDGET,
        )

    return launch


async def _serve_metrics(settings: ServeSettings, control: ControlPlane) -> None:
    """Serve the metrics of all processes until cancelled."""
    from limen.gateway.engine.server import HttpServer
    from limen.gateway.http.metrics_app import MetricsApplication
    from limen.serving.control.metrics_text import metrics_text

    server = HttpServer(MetricsApplication(partial(metrics_text, control), allowed_hosts(settings.host)), settings.http)
    try:
        await server.start(shared_listener(settings.host, settings.metrics_port))
        await asyncio.Event().wait()
    finally:
        await server.stop()


def _tell_end(task: asyncio.Task[None]) -> None:
    """Say that a server beside control has ended by itself: what is served does not need it, and whoever runs this does."""
    if not task.cancelled() and (exc := task.exception()) is not None:
        LOG.error("a part of the control process has failed and is away until it is started again", exc_info=exc)


async def _serve_admin(managed: Settings, settings: ServeSettings, control: ControlPlane, source: Source) -> None:
    """Serve the management API until cancelled."""
    from limen.serving.sources.reconciler import Reconciler

    if isinstance(source, Reconciler):
        listener = shared_listener(managed.admin.host, managed.admin.port)
        # Whoever comes early waits for an answer and is not turned away: the libraries behind it take a second to import.
        listener.listen(BACKLOG)
        management = await asyncio.to_thread(importlib.import_module, "limen.app.management")
        await management.serve_management(managed, Path(settings.home), control, source, listener)
