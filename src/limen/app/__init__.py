"""The composition root: the only package that knows all others and wires them together.

`serve` supervises. The processes it keeps begin in `control` and `gateway`; each imports only what it needs.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from limen.app.process import freeze_garbage, run_loop, stop_on_signals
from limen.app.starts import ControlStart, Ports, encode_start
from limen.runtime.sandbox.child import python
from limen.serving.messages.lines import Failure, ModelSummary, Notice, ProcessSpec, Refused, Started, Told
from limen.serving.supervision.ports import (
    Announcement,
    ServeError,
    announce,
    check_exposure,
    forget_announcement,
    reserve,
    shown_address,
)
from limen.settings import FLAGS, Settings
from limen.settings.serve import ServeConfig

__all__ = ["Ready", "ServeError", "freeze_garbage", "serve"]


class Ready(msgspec.Struct, frozen=True):
    """A server that has started: where it is and what it serves."""

    http: str
    """host:port"""
    grpc: str
    """host:port"""
    pid: int
    models: tuple[ModelSummary, ...]
    workers: int
    grpc_engine: str
    metrics: str = ""
    """host:port"""
    admin: str = ""
    """host:port of the management API; empty for a server of packages."""
    waiting: tuple[str, ...] = ()
    """Endpoints that nothing answers for yet."""


def serve(settings: Settings, report: Callable[[Ready], None], note: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM; SIGHUP replaces the gateways one after another.

    Args:
        settings: what to serve and where; the registry when they name no packages.
        report: called once, when every model has given a right answer and the ports are open.
        note: called with what happens later and is worth a line.

    Raises:
        ServeError: the server cannot start.
        InvalidPackage: a package cannot be served as it is.
    """
    wanted = settings.serve
    check_exposure(wanted.host)
    _make_room(wanted)
    forget_announcement(wanted.announce)
    with contextlib.ExitStack() as stack:
        ports = _hold_all(stack, settings)
        start = _start_of(stack, settings, ports)
        own = start.server

        def started(message: Started) -> None:
            if wanted.announce:
                announcement = Announcement(own.http, own.grpc, own.metrics, os.getpid(), own.admin)
                announce(Path(wanted.announce), announcement)
            ready = Ready(
                own.http,
                own.grpc,
                os.getpid(),
                message.models,
                wanted.workers,
                message.grpc_engine,
                own.metrics,
                own.admin,
                message.waiting,
            )
            report(ready)

        run_loop(_supervise(start, started, note))


def _hold_all(stack: contextlib.ExitStack, settings: Settings) -> Ports:
    """Hold every port for as long as the server runs, and return the real ones."""
    host, wanted = settings.serve.host, settings.serve
    http = _hold(stack, host, wanted.http_port, "serve.http_port")
    grpc = _hold(stack, host, wanted.grpc_port, "serve.grpc_port")
    metrics = _hold(stack, host, wanted.metrics_port, "serve.metrics_port")
    if wanted.packages:
        return Ports(http=http, grpc=grpc, metrics=metrics)
    check_exposure(settings.admin.host)
    admin = _hold(stack, settings.admin.host, settings.admin.port, "admin.port")
    return Ports(http=http, grpc=grpc, metrics=metrics, admin=admin)


def _start_of(stack: contextlib.ExitStack, settings: Settings, ports: Ports) -> ControlStart:
    """Make the server's folder, which is removed when the server ends, and return what control reads first."""
    from limen.serving.supervision import run_folder

    home, host = settings.registry.home.absolute(), settings.serve.host
    http, grpc, metrics = (shown_address(host, port) for port in (ports.http, ports.grpc, ports.metrics))
    admin = shown_address(settings.admin.host, ports.admin) if ports.admin else ""
    try:
        folder, own = run_folder.create(home, http, grpc, metrics, admin)
    except OSError as exc:
        text = f"the server's folder cannot be made in {settings.registry.home}: {exc.strerror or type(exc).__name__}"
        raise ServeError(text, "Nothing was left behind. Free some space, or choose another home with --home.") from exc
    stack.callback(run_folder.remove, folder, own.sockets)
    return ControlStart(
        settings=settings,
        ports=ports,
        home=str(home),
        run=str(folder),
        sockets=own.sockets,
        server=own,
        started_at=time.time(),
        server_pid=os.getpid(),
    )


def _make_room(settings: ServeConfig) -> None:
    """Let the server's processes have as many files open as the system allows.

    Raises:
        ServeError: that is not enough for a single replica.
    """
    from limen.runtime.sandbox.open_files import file_limit, raise_file_limit
    from limen.serving.fleet.open_files import Room

    raise_file_limit()
    limit = file_limit()
    if not Room(limit, settings.workers).replicas:
        text = f"the system lets a process have {limit} files open, which is too few for a server"
        raise ServeError(text, "Raise the limit: `ulimit -n 1024` in the shell that starts it, or fewer --workers.")


def _hold(stack: contextlib.ExitStack, host: str, port: int, key: str) -> int:
    """Hold a port for as long as the server runs, and return the real one; `key` is the setting that says which."""
    number: int = stack.enter_context(reserve(host, port, FLAGS[key])).getsockname()[1]
    return number


async def _supervise(start: ControlStart, started: Callable[[Started], None], note: Callable[[str], None]) -> None:
    from limen.serving.supervision import orphans, run_folder
    from limen.serving.supervision.supervisor import ControlFailedError, Supervisor

    failures: list[Failure] = []
    is_started = False

    def told(payload: bytes) -> None:
        nonlocal is_started
        message = msgspec.json.decode(payload, type=Told)
        if isinstance(message, Notice):
            note(message.text)
        elif isinstance(message, Refused) and not is_started:
            failures.append(message.failure)
            supervisor.stop()
        elif isinstance(message, Started) and not is_started:
            is_started = True
            started(message)

    hello = encode_start(start)
    silence_s = start.settings.serve.control_silence_s
    command = python("limen.app.control")
    control = ProcessSpec("control", "control", command, hello, silence_s=silence_s, is_essential=True)
    supervisor = Supervisor(control, told)

    def end_now() -> None:
        supervisor.kill()
        run_folder.remove(Path(start.run), start.sockets)

    stop_on_signals(supervisor.stop, end_now)
    had_terminal = _has_terminal()

    def hang_up() -> None:
        # The signal means two things: a terminal has closed, or somebody asks for new gateways.
        supervisor.stop() if had_terminal and not _has_terminal() else supervisor.roll()

    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hang_up)
    reaping = asyncio.create_task(orphans.reap_always(supervisor.pids)) if orphans.may_inherit() else None
    try:
        await supervisor.run()
    except ControlFailedError as exc:
        raise ServeError("the control process ended before it was ready", "Any output it left is above.") from exc
    finally:
        if reaping is not None:
            reaping.cancel()
    if failures:
        raise _error_of(failures[0])


def _has_terminal() -> bool:
    """Whether this process belongs to a terminal that is there."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _error_of(failure: Failure) -> Exception:
    """Return a failure that came from another process as the error it was there."""
    if not failure.reason:
        return ServeError(failure.message, failure.hint)
    from limen.contracts.errors import InvalidPackage, Reason

    return InvalidPackage(failure.message, reason=Reason(failure.reason), violations=failure.violations)
