"""Wires up the control process."""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import signal
import sys
from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from limen.app.process import allowed_hosts, end_by, run_loop, say, say_first
from limen.app.starts import ControlStart, GatewaySettings, GatewayStart, decode_start, encode_start
from limen.runtime.sandbox.child import model_environment, passed_environment, python
from limen.serving.messages.lines import MAX_LINE_BYTES, FirstWord, ProcessSpec, Resume, Want, line
from limen.serving.supervision import run_folder
from limen.serving.supervision.ports import shared_listener
from limen.serving.supervision.run_folder import control_socket
from limen.telemetry.logs import log_to_stderr

if TYPE_CHECKING:
    from limen.app.live_settings import LiveSettings
    from limen.gateway.engine.server import HttpServer
    from limen.management.stores import Stores
    from limen.serving.control.config import ControlConfig
    from limen.serving.control.controlplane import ControlPlane
    from limen.serving.fleet.fleet import Fleet
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
INLINE_PATIENCE = 10
"""How many times longer a gateway may say nothing that has models inside, whose libraries may block it while they load."""
DRAIN_SPARE_S = 10.0
"""How much longer than it may drain a gateway has to stop, before it is killed."""


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
    from limen.app.templates import template_finder
    from limen.contracts.snapshot import LogLevels
    from limen.runtime.sandbox.open_files import file_limit
    from limen.serving.control.controlplane import ControlPlane
    from limen.serving.control.socket import ControlSocket
    from limen.serving.fleet.fleet import Fleet
    from limen.serving.fleet.launching import Launcher
    from limen.serving.fleet.open_files import Room

    loop = asyncio.get_running_loop()
    orders = asyncio.StreamReader(limit=MAX_LINE_BYTES)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    settings = start.settings
    live = _live(start, resume)
    source = _source(start)
    # A name of its own for every life: nothing that still listens from an earlier one is met under a new name.
    sockets = f"{start.sockets}/{os.urandom(4).hex()}"
    launch, room = _replica_launcher(settings, start.run), Room(file_limit(), len(gateways))
    template = template_finder(are_forked=settings.serve.start_replicas == "fork")
    fleet = Fleet(gateways, Launcher(launch, sockets, template), is_all_or_nothing=source.is_required, room=room)
    fleet.log = LogLevels(info=settings.serve.access_log)
    control = ControlPlane(_config(start, live), fleet, source, say)
    metrics = _metrics_server(start, control)
    live.take = partial(_take_settings, live, control, metrics)
    _share(live, fleet)
    async with ControlSocket(control).open(control_socket(start.sockets)):
        running = asyncio.create_task(control.run(resume, orders))
        servers = [asyncio.create_task(_serve_metrics(start, metrics)), asyncio.create_task(live.follow())]
        if not settings.serve.packages:
            servers.append(asyncio.create_task(_serve_admin(start, live, control, source)))
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


def _live(start: ControlStart, resume: Resume) -> LiveSettings:
    """Return the settings that hold: those of the start, or what an earlier control process has made of them."""
    from limen.app.live_settings import LiveSettings

    settings = start.settings
    snapshot = run_folder.read_snapshot(start.run) if resume.specs else None
    if snapshot is not None and snapshot.settings.http:
        http = msgspec.convert(snapshot.settings.http, type(settings.http))
        admission = msgspec.convert(snapshot.settings.admission, type(settings.admission))
        settings = msgspec.structs.replace(settings, http=http, admission=admission)
    return LiveSettings(start.settings, settings)


def _take_settings(live: LiveSettings, control: ControlPlane, metrics: HttpServer, changed: Collection[str]) -> None:
    """Put live settings into effect, in this process and in the gateways."""
    from limen.contracts.conditions import ConditionReason

    _share(live, control.fleet)
    metrics.follow(live.now.http)
    if "serve.access_log" in changed:
        control.fleet.log = msgspec.structs.replace(control.fleet.log, info=live.now.serve.access_log)
    control.conditions.faults.pop(ConditionReason.SETTINGS_INVALID, "")
    if live.problem:
        control.conditions.faults[ConditionReason.SETTINGS_INVALID] = f"{live.problem}; the settings before still hold"
    control.wake_up()


def _share(live: LiveSettings, fleet: Fleet) -> None:
    """Have gateways follow the settings that hold."""
    from limen.contracts.snapshot import SharedSettings

    http, admission = msgspec.to_builtins(live.now.http), msgspec.to_builtins(live.now.admission)
    fleet.settings = SharedSettings(http, admission)


def _config(start: ControlStart, live: LiveSettings) -> ControlConfig:
    from limen.serving.control.config import ControlConfig

    return ControlConfig(
        run=start.run,
        watch=start.settings.serve.watch,
        http=start.server.http,
        grpc=start.server.grpc,
        metrics=start.server.metrics,
        settings=live.view,
        server_pid=start.server_pid,
        server=start.server,
        started_at=start.started_at,
    )


def _source(start: ControlStart) -> Source:
    """Return where the endpoints come from: the packages that were named, or else the registry."""
    settings = start.settings
    if not settings.serve.packages:
        return _reconciler(start)
    from limen.serving.sources.folders import Folders

    return Folders(
        settings.serve.packages,
        start.home,
        run_folder.copies(start.run),
        is_inline=settings.serve.placement == "inline",
        trust_code=settings.trust.code,
    )


def _reconciler(start: ControlStart) -> Reconciler:
    from limen.management.stores import open_registry
    from limen.packaging.signing.trust import Trust
    from limen.serving.sources.reconciler import Reconciler

    settings = start.settings
    trust = Trust.of(settings.trust)

    def opened() -> Stores:
        stores = open_registry(settings.registry)
        if not settings.registry.database_url:
            # Nobody else works on this home's registry: what was being worked on is not any more.
            with stores.database.transaction() as connection:
                stores.idempotency.forget_unfinished(connection)
        return stores

    return Reconciler(
        opened,
        Path(start.home),
        settings.registry.database_id,
        is_inline=settings.serve.placement == "inline",
        trust_code=settings.trust.code,
        is_trusted=trust.still_believes,
    )


def _gateway_specs(start: ControlStart) -> tuple[ProcessSpec, ...]:
    settings = start.settings
    is_inline = settings.serve.placement == "inline"
    silence_s = settings.serve.gateway_silence_s * (INLINE_PATIENCE if is_inline else 1)
    stop_s = settings.http.drain_s + DRAIN_SPARE_S
    specs = []
    # A gateway reads what strangers send: it has no use for the secrets of the registry.
    environment = passed_environment()
    for number in range(1, settings.serve.workers + 1):
        hello = GatewayStart(
            name=f"gateway-{number}",
            settings=GatewaySettings.of(settings),
            ports=start.ports,
            run=start.run,
            control=control_socket(start.sockets),
        )
        spec = ProcessSpec(
            hello.name,
            "gateway",
            python("limen.app.gateway"),
            encode_start(hello),
            environment,
            stop_s=stop_s,
            silence_s=silence_s,
            is_essential=True,
        )
        specs.append(spec)
    return tuple(specs)


def _replica_launcher(settings: Settings, run: str) -> Launch:
    from limen.runtime.placement.process.wire.start import COMMAND, ReplicaStart

    def launch(opened: Opened, number: str, name: str, path: str) -> ProcessSpec:
        resources = opened.serving.resources
        hello = ReplicaStart(
            root=opened.root,
            version=number,
            digest=opened.digest,
            trust_code=settings.trust.code,
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
            budget=settings.serve.replica_restarts,
        )

    return launch


def _metrics_server(start: ControlStart, control: ControlPlane) -> HttpServer:
    """Return what serves the metrics of all processes."""
    from limen.gateway.engine.server import HttpServer
    from limen.gateway.http.metrics_app import MetricsApplication
    from limen.serving.control.metrics_text import metrics_text

    hosts = allowed_hosts(start.settings.serve.host)
    return HttpServer(MetricsApplication(partial(metrics_text, control), hosts), start.settings.http)


async def _serve_metrics(start: ControlStart, server: HttpServer) -> None:
    """Serve the metrics until cancelled."""
    try:
        await server.start(shared_listener(start.settings.serve.host, start.ports.metrics))
        await asyncio.Event().wait()
    finally:
        await server.stop()


def _tell_end(task: asyncio.Task[None]) -> None:
    """Say that a server beside control has ended by itself: what is served does not need it, and whoever runs this does."""
    if not task.cancelled() and (exc := task.exception()) is not None:
        LOG.error("a part of the control process failed and stays stopped until it restarts", exc_info=exc)


async def _serve_admin(start: ControlStart, live: LiveSettings, control: ControlPlane, source: Source) -> None:
    """Serve the management API until cancelled."""
    from limen.serving.sources.reconciler import Reconciler

    if isinstance(source, Reconciler):
        listener = shared_listener(start.settings.admin.host, start.ports.admin)
        # Whoever comes early waits for an answer and is not turned away: the libraries behind it take a second to import.
        listener.listen(BACKLOG)
        management = await asyncio.to_thread(importlib.import_module, "limen.app.management")
        await management.serve_management(live, Path(start.home), control, source, listener)
