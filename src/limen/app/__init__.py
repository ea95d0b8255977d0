"""The composition root: the only place that knows every part and puts them together.

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
from limen.app.starts import ControlStart, encode_start
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
from limen.settings import ServeSettings, Settings

__all__ = ["Ready", "ServeError", "freeze_garbage", "serve"]


CONTROL_SILENCE_S = 10.0
"""How long control may say nothing before it is taken for hung. It says something every second."""


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


def serve(
    settings: ServeSettings,
    report: Callable[[Ready], None],
    note: Callable[[str], None],
    managed: Settings | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM; SIGHUP replaces the gateways one after another.

    Args:
        settings: what to serve and where.
        report: called once, when every model has given a right answer and the ports are open.
        note: called with what happens later and is worth a line.
        managed: the registry to serve; None serves the packages of `settings`.

    Raises:
        ServeError: the server cannot start.
        InvalidPackage: a package cannot be served as it is.
    """
    from limen.serving.supervision import run_folder

    check_exposure(settings.host)
    _make_room(settings)
    forget_announcement(settings.announce)
    ports = {
        "--http-port": settings.http_port,
        "--grpc-port": settings.grpc_port,
        "--metrics-port": settings.metrics_port,
    }
    with contextlib.ExitStack() as stack:
        held = [_hold(stack, settings.host, port, option) for option, port in ports.items()]
        http, grpc, metrics = (shown_address(settings.host, port) for port in held)
        admin = ""
        if managed is not None:
            check_exposure(managed.admin.host)
            port = _hold(stack, managed.admin.host, managed.admin.port, "--admin-port")
            admin = shown_address(managed.admin.host, port)
            managed = msgspec.structs.replace(managed, admin=msgspec.structs.replace(managed.admin, port=port))
        try:
            folder, own = run_folder.create(Path(settings.home), http, grpc, metrics, admin)
        except OSError as exc:
            text = f"the server's folder cannot be made in {settings.home}: {exc.strerror or type(exc).__name__}"
            raise ServeError(text, "Nothing was left there. Make room, or choose another home with --home.") from exc
        stack.callback(run_folder.remove, folder, own.sockets)
        settings = msgspec.structs.replace(
            settings,
            home=str(Path(settings.home).absolute()),
            http_port=held[0],
            grpc_port=held[1],
            metrics_port=held[2],
            grpc=msgspec.structs.replace(settings.grpc, reuse_port=True),
        )
        start = ControlStart(
            settings=settings,
            managed=managed,
            run=str(folder),
            sockets=own.sockets,
            server=own,
            started_at=time.time(),
            server_pid=os.getpid(),
        )

        def started(message: Started) -> None:
            if settings.announce:
                announce(Path(settings.announce), Announcement(http, grpc, metrics, os.getpid(), admin))
            engine, workers = message.grpc_engine, settings.workers
            report(Ready(http, grpc, os.getpid(), message.models, workers, engine, metrics, admin, message.waiting))

        run_loop(_supervise(start, started, note))


def _make_room(settings: ServeSettings) -> None:
    """Let the server's processes have as many files open as the system allows.

    Raises:
        ServeError: that is not enough for a single replica.
    """
    from limen.serving.fleet.open_files import Room, file_limit, raise_file_limit

    raise_file_limit()
    limit = file_limit()
    if not Room(limit, settings.workers).replicas:
        text = f"the system lets a process have {limit} files open, which is too few for a server"
        raise ServeError(text, "Raise the limit: `ulimit -n 1024` in the shell that starts it, or fewer --workers.")


def _hold(stack: contextlib.ExitStack, host: str, port: int, option: str) -> int:
    """Hold a port for as long as the server runs, and return the real one."""
    number: int = stack.enter_context(reserve(host, port, option)).getsockname()[1]
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
    control = ProcessSpec(
        "control", "control", python("limen.app.control"), hello, silence_s=CONTROL_SILENCE_S, is_essential=True
    )
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
    reaping = asyncio.create_task(orphans.reap_always()) if orphans.is_first() else None
    try:
        await supervisor.run()
    except ControlFailedError as exc:
        raise ServeError(
            "the control process ended before it was ready", "Its last words are above, if it had any."
        ) from exc
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
