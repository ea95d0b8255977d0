"""`limen status` and `limen reload`: the state of running servers, and loading another package."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from limen.cli.conditions import short_lines
from limen.cli.connection import Home

if TYPE_CHECKING:
    from collections.abc import Sequence

    import msgspec

    from limen.serving.messages.lines import ModelView, ProcessView, Reloaded, Status, VersionView
    from limen.serving.messages.settings import SettingsView
    from limen.serving.supervision.run_folder import ServerFile

STATUS_S = 10.0
"""How long control may take to answer, a restart of it included."""
RELOAD_S = 900.0
"""How long a reload may take; above what control itself allows."""
RETRY_S = 0.1
_Answer = TypeVar("_Answer", bound="msgspec.Struct")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("status", short_help="Show running servers: processes, models, versions.")(status)
    app.command("reload", short_help="Reload a model's package next to the running one.")(reload)


def status(
    home: Home = Path(".limen"),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document, for programs.")] = False,
) -> None:
    """Show the servers that run with a home: their processes, and the versions of their models."""
    import msgspec

    from limen.serving.messages.lines import AskStatus, Status

    found = [_ask(server, AskStatus(), Status, STATUS_S) for server in _servers(home)]
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
        return
    typer.echo("\n".join(line for server in found for line in _server(server)))


def reload(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The model.")],
    package: Annotated[
        Path | None,
        typer.Argument(metavar="[PACKAGE]", help="Folder or archive; defaults to where it was loaded from."),
    ] = None,
    home: Home = Path(".limen"),
) -> None:
    """Load a model's package again as its next version, and wait until that answers or has failed.

    Requests are answered all the time: by the version before until the new one has given right answers.
    """
    from limen.cli.words import CommandError, existing_package
    from limen.serving.messages.lines import AskReload, AskStatus, Reloaded, Status

    path = "" if package is None else str(existing_package(package).absolute())
    servers = _servers(home)
    serving = [s for s in servers if name in {m.name for m in _ask(s, AskStatus(), Status, STATUS_S).models}]
    if not serving:
        raise CommandError(f"no running server serves a model named {name}", "`limen status` lists what is served.")
    outcomes = [_ask(server, AskReload(name, path), Reloaded, RELOAD_S) for server in serving]
    for outcome in outcomes:
        _tell_reload(outcome)
    failed = next((o for o in outcomes if o.failure), None)
    if failed is not None:
        kept = f"; version {failed.replaced} keeps serving" if failed.replaced else ""
        raise CommandError(
            f"version {failed.version} of {name} failed: {failed.failure.removeprefix(f'version {failed.version}: ')}{kept}",
            "`limen status` says what answers; `limen check PACKAGE` shows everything that is wrong with a package.",
        )


def _tell_reload(outcome: Reloaded) -> None:
    if not outcome.failure:
        instead = f" instead of version {outcome.replaced}" if outcome.replaced else ""
        typer.echo(f"version {outcome.version} of {outcome.model} answers{instead}, after {outcome.took_s:.1f} s")


def _servers(home: Path) -> list[ServerFile]:
    from limen.cli.words import CommandError
    from limen.serving.supervision import run_folder

    found = run_folder.find(home)
    if not found:
        raise CommandError(
            f"no server is running with the home {home}",
            "Start one with `limen serve PACKAGE`, or choose another home with --home.",
        )
    return found


def _ask(server: ServerFile, question: msgspec.Struct, kind: type[_Answer], timeout_s: float) -> _Answer:
    """Return what control answers; it may be on its way back, so connecting is tried for a while."""
    import msgspec

    from limen.cli.words import CommandError
    from limen.contracts.errors import InvalidPackage, Reason
    from limen.serving.messages.lines import Refused, ToCommand

    said = _exchange(server, msgspec.json.encode(question) + b"\n", timeout_s)
    answer = msgspec.json.decode(said, type=ToCommand)
    if isinstance(answer, Refused):
        failure = answer.failure
        if failure.reason:
            raise InvalidPackage(failure.message, reason=Reason(failure.reason), violations=failure.violations)
        raise CommandError(failure.message, failure.hint)
    if not isinstance(answer, kind):
        raise CommandError(f"the server with process id {server.pid} gave an unexpected answer")
    return answer


def _exchange(server: ServerFile, data: bytes, timeout_s: float) -> bytes:
    import socket
    import time

    from limen.cli.words import CommandError

    connect_by = time.monotonic() + min(timeout_s, STATUS_S)
    while True:
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(timeout_s)
                connection.connect(server.control)
                connection.sendall(data)
                said = b"".join(iter(lambda: connection.recv(1 << 16), b""))
            if said.endswith(b"\n"):
                return said
            problem = "its control process ended in the meantime"
        except TimeoutError:
            problem = f"its control process has not answered within {timeout_s:g} s"
            connect_by = 0.0
        except OSError as exc:
            problem = f"its control process cannot be reached: {exc.strerror or exc}"
        if time.monotonic() > connect_by or not server.is_running:
            raise CommandError(
                f"the server with process id {server.pid} does not answer: {problem}",
                "It may still be serving models; see its standard error.",
            )
        time.sleep(RETRY_S)


# -- what people see -------------------------------------------------------------------------------------------------------


def _server(status: Status) -> list[str]:
    from limen.cli.words import paint

    lines = [
        "",
        f"  {paint('Limen', '1')} server {status.pid}, {'ready' if status.is_ready else 'not ready'}, up {_time(status.uptime_s)}",
        f"  REST http://{status.http}  gRPC {status.grpc}  metrics http://{status.metrics}/metrics",
        *(f"  {line}" for line in short_lines(status.conditions)),
        *_settings(status.settings),
        "",
    ]
    lines += _tree(status.processes)
    for model in status.models:
        lines += ["", *_model(model)]
    return [*lines, ""]


def _settings(settings: SettingsView) -> list[str]:
    waiting = ", ".join(settings.needs_restart)
    return [f"  settings     {settings.file} has changes that need a restart: {waiting}"] if waiting else []


def _tree(processes: Sequence[ProcessView]) -> list[str]:
    from limen.cli.words import size

    rows = []
    for i, process in enumerate(processes):
        branch = "" if not i else " └─ " if i == len(processes) - 1 else " ├─ "
        restarts = "" if not process.restarts else f"restarted {process.restarts}×"
        rows.append(
            (
                branch + process.name,
                str(process.pid or ""),
                process.phase,
                size(process.rss_bytes) if process.rss_bytes else "–",
                f"up {_time(process.uptime_s)}" if process.uptime_s else "",
                ", ".join(text for text in (restarts, process.note) if text),
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    return [
        f"  {n:<{widths[0]}}  {pid:>{widths[1]}}  {phase:<{widths[2]}}  {rss:>{widths[3]}}  {up:<{widths[4]}}  {rest}".rstrip()
        for n, pid, phase, rss, up, rest in rows
    ]


def _model(model: ModelView) -> list[str]:
    from limen.cli.words import counted, paint

    lines = [f"  {paint(model.name, '1')}"]
    if model.traffic is not None:
        traffic = model.traffic
        times = f"p50 {traffic.p50_ms:.1f} ms, p95 {traffic.p95_ms:.1f} ms, p99 {traffic.p99_ms:.1f} ms"
        lines[0] += f"  {counted(traffic.requests, 'request')}, {counted(traffic.errors, 'error')}, {times}"
        if (recent := traffic.recent) is not None and recent.over_s:
            times = f"p50 {recent.p50_ms:.1f} ms, p95 {recent.p95_ms:.1f} ms, p99 {recent.p99_ms:.1f} ms"
            seen = f"{counted(recent.requests, 'request')}, {counted(recent.errors, 'error')}"
            lines.append(f"    in the last {_time(recent.over_s)}: {seen}" + (f", {times}" if recent.requests else ""))
    for version in model.versions:
        lines += _version(version)
    lines += [f"    {line}" for line in short_lines(model.conditions)]
    return lines


def _version(version: VersionView) -> list[str]:
    from limen.cli.words import counted

    facts = [counted(version.replicas, "replica")] if version.replicas else []
    if version.in_hand or version.waiting or version.leases:
        facts += [f"{version.in_hand} in flight", f"{version.waiting} waiting", counted(version.leases, "lease")]
    if version.waiting:
        facts.append(f"{1000 * version.wait_s:.0f} ms to wait")
    facts.append(f"from {version.origin}")
    lines = [f"    version {version.version}  {version.state:<8}  {', '.join(facts)}"]
    if version.reason:
        lines.append(f"      {version.reason}")
    return lines


def _time(seconds: float) -> str:
    """Return a duration for people: 12 s, 3 min, 2 h 5 min, 4 d 2 h."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"
