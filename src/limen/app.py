"""The composition root: the only place that knows every part and puts them together.

`serve` runs a server until it is told to stop: in this process for one worker, in supervised processes for more.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import gc
import ipaddress
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from limen.contracts.errors import InvalidPackage
from limen.gateway.grpc.server import GrpcServer
from limen.gateway.http.app import HttpApplication
from limen.gateway.http.server import HttpServer
from limen.packaging.archive import Package, open_package
from limen.runtime.lifecycle import State, VersionStatus
from limen.runtime.manager import VersionManager
from limen.runtime.placement import Placement
from limen.runtime.placement.inline import InlinePlacement
from limen.runtime.placement.process import ProcessPlacement
from limen.runtime.placement.trust import ensure_trusted
from limen.serving.dataplane import DataPlane
from limen.serving.supervisor import READY, Supervisor, WorkerFailedError
from limen.settings import ServeSettings
from limen.telemetry.logs import RequestLog

LOG = logging.getLogger("limen")
LOG_FLUSH_S = 0.25
VERSION = "1"
"""The version number of a package that is served without a registry."""


class ServeError(Exception):
    """The server cannot start: what happened, and what to do."""

    def __init__(self, what: str, hint: str = "") -> None:
        """Keep a text for people and a hint about the next step."""
        super().__init__(what)
        self.what = what
        self.hint = hint


class Ready(msgspec.Struct, frozen=True):
    """A server that has started: where it is and what it serves."""

    http: str
    """host:port"""
    grpc: str
    """host:port"""
    pid: int
    packages: tuple[Package, ...]
    workers: int
    grpc_engine: str


def serve(settings: ServeSettings, report: Callable[[Ready], None]) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        settings: what to serve and where.
        report: called once, when every model has given a right answer and the ports are open.

    Raises:
        ServeError: the server cannot start.
        InvalidPackage: a package cannot be served as it is.
    """
    check_exposure(settings.host)
    forget_announcement(settings.announce)
    packages = open_packages(settings)
    with contextlib.ExitStack() as sockets:
        held = [
            sockets.enter_context(reserve(settings.host, port)) for port in (settings.http_port, settings.grpc_port)
        ]
        http_port, grpc_port = (s.getsockname()[1] for s in held)
        settings = msgspec.structs.replace(
            settings,
            http_port=http_port,
            grpc_port=grpc_port,
            grpc=msgspec.structs.replace(settings.grpc, reuse_port=True),
        )

        def ready(engine: str) -> None:
            shown = f"[{settings.host}]" if ":" in settings.host else settings.host
            state = Ready(
                f"{shown}:{http_port}", f"{shown}:{grpc_port}", os.getpid(), tuple(packages), settings.workers, engine
            )
            if settings.announce:
                announce(Path(settings.announce), state)
            report(state)

        if settings.workers == 1:
            _run(run_worker(settings, packages, ready))
        else:
            _run(_run_supervised(settings, ready))


def open_packages(settings: ServeSettings) -> list[Package]:
    """Open and verify every package; names must differ, and code must be trusted.

    Raises:
        InvalidPackage: the first package that cannot be served; the text names its path.
        ServeError: two packages have the same name.
    """
    opened: dict[str, Package] = {}
    for path in settings.packages:
        try:
            package = open_package(Path(path), Path(settings.home))
            ensure_trusted(package.manifest, trust_code=settings.trust_code)
        except InvalidPackage as exc:
            raise InvalidPackage(f"{path}: {exc.message}", reason=exc.reason, violations=exc.violations) from exc
        name = package.manifest.contract.name
        if name in opened:
            raise ServeError(
                f"two packages are named {name}: {opened[name].origin} and {path}",
                "Each package is served under its own name; change `name` in one model.yaml, or serve them apart.",
            )
        opened[name] = package
    return list(opened.values())


def check_exposure(host: str) -> None:
    """Refuse to listen where strangers can connect, as long as callers cannot be authenticated."""
    try:
        is_loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_loopback = host == "localhost"
    if not is_loopback:
        raise ServeError(
            f"refusing to listen on {host}: anyone who can reach this machine could call the models, because this version of "
            "Limen cannot authenticate callers yet",
            "Use --host 127.0.0.1 and put a reverse proxy that authenticates in front.",
        )


def reserve(host: str, port: int) -> socket.socket:
    """Return a bound socket that holds a port for the workers without accepting anything.

    Raises:
        ServeError: the address cannot be used or somebody listens there.
    """
    address = (host, port)
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        if port:
            # Without SO_REUSEPORT first: with it, a second server on the same port would start unnoticed.
            with socket.socket(family) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
        held = shared_socket(family)
        held.bind(address)
    except OSError as exc:
        hint = "Another program listens there; choose another port, or 0 for a free one." if port else ""
        raise ServeError(f"cannot listen on {host}:{port}: {exc.strerror or exc}", hint) from exc
    return held


def shared_socket(family: int) -> socket.socket:
    """Return an unbound socket whose address several processes may share."""
    found = socket.socket(family)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    return found


def announce(path: Path, ready: Ready) -> None:
    """Write the real addresses for other programs, whole or not at all."""
    staging = path.with_name(f".{path.name}.{os.getpid()}")
    with _announcing(path):
        staging.write_bytes(msgspec.json.encode({"http": ready.http, "grpc": ready.grpc, "pid": ready.pid}))
        staging.replace(path)


def forget_announcement(path: str) -> None:
    """Remove what an earlier server announced, so that the file is there only once this one is ready.

    Raises:
        ServeError: nothing can be announced there; better said before the models are loaded.
    """
    if path:
        with _announcing(Path(path)):
            Path(path).unlink(missing_ok=True)
            if not Path(path).parent.is_dir():
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))


@contextlib.contextmanager
def _announcing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        hint = "--announce takes a file, new or old, in a folder that exists."
        raise ServeError(f"cannot announce the addresses in {path}: {exc.strerror}", hint) from exc


async def run_worker(
    settings: ServeSettings,
    packages: Sequence[Package],
    ready: Callable[[str], None],
    stop: asyncio.Event | None = None,
) -> None:
    """Load the packages, serve them, and return when told to stop.

    Raises:
        InvalidPackage: a package did not become ready; the text names each with its reason.
    """
    stop = stop or _stop_on_signals()
    tune_process()
    log = RequestLog(successes=settings.access_log)
    grpc_server: GrpcServer | None = None
    versions = VersionManager(
        placement_of(settings),
        on_change=lambda: grpc_server.refresh_health() if grpc_server else None,
    )
    plane = DataPlane(versions)
    for package in packages:
        versions.set_aspired(package.manifest.contract.name, {VERSION: package})
    try:
        await versions.settle()
        if stop.is_set():
            return
        _raise_failures([s for m in versions.models() for s in versions.statuses(m)])
        freeze_garbage()
        application = HttpApplication(
            plane, log, settings.http, allowed_hosts(settings.host), f"{settings.host}:{settings.grpc_port}"
        )
        http_server = HttpServer(application, settings.http)
        grpc_server = GrpcServer(plane, settings.grpc)
        await http_server.start(_listener(settings))
        await grpc_server.start(settings.host, settings.grpc_port)
        flusher = asyncio.create_task(_flush(log))
        ready(grpc_server.engine)
        await stop.wait()
        plane.is_draining = True
        await asyncio.gather(http_server.stop(), grpc_server.stop(settings.http.drain_s))
        flusher.cancel()
    finally:
        await versions.close()
        log.close()


def placement_of(settings: ServeSettings) -> Placement:
    """Return what starts the models."""
    kind = ProcessPlacement if settings.placement == "process" else InlinePlacement
    return kind(trust_code=settings.trust_code)


def worker_main() -> None:
    """Run one supervised worker: settings come on standard input, readiness or what prevents it goes to standard output."""
    line = sys.stdin.buffer.readline()
    settings = msgspec.json.decode(line, type=ServeSettings)
    configure_logging()

    def ready(_: str) -> None:
        sys.stdout.buffer.write(READY)
        sys.stdout.buffer.flush()

    async def work() -> None:
        stop = _stop_on_signals()
        # Standard input closes when the supervisor dies, however it dies.
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), stop.set)
        await run_worker(settings, open_packages(settings), ready, stop)

    try:
        _run(work())
    except InvalidPackage as exc:
        sys.stdout.buffer.write(msgspec.json.encode(exc.message) + b"\n")
        sys.exit(1)


def configure_logging() -> None:
    """Send warnings and worse to standard error, one line each."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")


def tune_process() -> None:
    """Keep large buffers on the heap: giving each back to the system costs a page fault per 4 KiB when it is next needed.

    glibc only; elsewhere nothing happens.
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        for option, value in ((-1, 1 << 30), (-2, 64 << 20), (-3, 32 << 20)):  # trim and mmap thresholds, top pad
            libc.mallopt(option, value)


def freeze_garbage() -> None:
    """Keep what is loaded out of every later garbage collection, and collect the rest less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def allowed_hosts(host: str) -> frozenset[str]:
    """Return the names a server on loopback may be addressed by."""
    return frozenset({"localhost", "127.0.0.1", "::1", host.lower()})


def _run(main: Any) -> None:
    try:
        import uvloop  # not on every platform
    except ImportError:
        asyncio.run(main)
        return
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main)


async def _run_supervised(settings: ServeSettings, ready: Callable[[str], None]) -> None:
    command = [sys.executable, "-c", "from limen.app import worker_main; worker_main()"]
    supervisor = Supervisor(command, msgspec.json.encode(settings) + b"\n", settings.workers)
    stop = _stop_on_signals()

    async def stopper() -> None:
        await stop.wait()
        supervisor.stop()

    watching = asyncio.create_task(stopper())
    try:
        await supervisor.run(lambda: ready(settings.grpc.engine))
    except WorkerFailedError as exc:
        if exc.said:
            raise InvalidPackage(msgspec.json.decode(exc.said, type=str)) from exc
        raise ServeError(
            "a worker process ended before it was ready", "Its last words are above, if it had any."
        ) from exc
    finally:
        watching.cancel()


def _stop_on_signals() -> asyncio.Event:
    """Return what the first SIGINT or SIGTERM sets; the second one ends the process on the spot."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop_or_die(number: int) -> None:
        if stop.is_set():
            # Supervised workers notice that their supervisor is gone.
            os._exit(128 + number)
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop_or_die, number)
    return stop


def _listener(settings: ServeSettings) -> socket.socket:
    family = socket.getaddrinfo(settings.host, settings.http_port, type=socket.SOCK_STREAM)[0][0]
    listener = shared_socket(family)
    listener.bind((settings.host, settings.http_port))
    listener.setblocking(False)
    return listener


def _raise_failures(statuses: Sequence[VersionStatus]) -> None:
    failed = [s for s in statuses if s.state is State.FAILED]
    if failed:
        raise InvalidPackage("; ".join(f"{s.model}: {s.reason}" for s in failed))


async def _flush(log: RequestLog) -> None:
    while True:
        await asyncio.sleep(LOG_FLUSH_S)
        log.flush()
