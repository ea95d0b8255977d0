"""`limen serve`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Annotated

import typer
from typer.models import OptionInfo

from limen.cli.commands.package import TrustCode
from limen.cli.connection import Config

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limen.app import Ready
    from limen.serving.messages.lines import ModelSummary
    from limen.settings import Settings

REMINDER_S = 10.0
"""Seconds between two lines that say that a server is still starting."""


class PlacementChoice(StrEnum):
    """Where models run."""

    INLINE = "inline"
    """Inside every gateway worker."""
    PROCESS = "process"
    """Each model in its own processes, shared by all workers."""


class EngineChoice(StrEnum):
    """The gRPC engine."""

    GRPCIO = "grpcio"
    """Refuses oversized messages while reading them."""
    NATIVE = "native"
    """pygrpc-native: faster, for trusted callers."""


def _port(text: str, default: int) -> OptionInfo:
    """Return the option of a port."""
    option: OptionInfo = typer.Option(metavar="PORT", min=0, max=65535, help=text, show_default=str(default))
    return option


# What is None is left to the settings (`limen.settings.FLAGS`); a test holds the defaults that the help shows against theirs.
HttpPort = Annotated[int | None, _port("REST port; 0 picks a free one.", 8000)]
GrpcPort = Annotated[int | None, _port("gRPC port; 0 picks a free one.", 8001)]
MetricsPort = Annotated[int | None, _port("Metrics port; 0 picks a free one.", 8003)]
AdminPort = Annotated[int | None, _port("Port of the management API; 0 takes a free one.", 8002)]
Announce = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="File to write the actual addresses to once ready.", show_default="none"),
]


class ControlChoice(StrEnum):
    """Who may change what is loaded."""

    NONE = "none"
    """Callers cannot load or unload models."""
    EXPLICIT = "explicit"
    """Any caller can, over the model repository and logging extensions."""


class FormatChoice(StrEnum):
    """What lines of the log look like."""

    TEXT = "text"
    """For people."""
    JSON = "json"
    """One JSON object per line."""


class LevelChoice(StrEnum):
    """The least serious lines that are written."""

    DEBUG = "debug"
    """Everything."""
    INFO = "info"
    """What happened."""
    WARNING = "warning"
    """Things that may need attention."""
    ERROR = "error"
    """Failures."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("serve", short_help="Serve packages, or the registry, over REST and gRPC.")(serve)


Packages = Annotated[
    list[Path] | None,
    typer.Argument(metavar="[PACKAGE]...", help="Package folders or archives; without any, the registry is served."),
]
Host = Annotated[
    str | None,
    typer.Option(
        metavar="HOST",
        help="Address to listen on; only loopback is allowed without authentication.",
        show_default="127.0.0.1",
    ),
]
WorkerCount = Annotated[
    int | None,
    typer.Option(
        metavar="N", min=1, max=256, help="Number of gateway processes that share the ports.", show_default="1"
    ),
]
Placement = Annotated[
    PlacementChoice | None,
    typer.Option(help="Where models run: in separate processes, or inside every worker.", show_default="process"),
]
ModelControl = Annotated[
    ControlChoice | None,
    typer.Option(help="Whether callers may load and unload models over the protocol.", show_default="none"),
]
GrpcEngine = Annotated[EngineChoice | None, typer.Option(help="The gRPC engine.", show_default="grpcio")]
LogFormat = Annotated[FormatChoice | None, typer.Option(help="Log format: text or json.", show_default="text")]
LogLevel = Annotated[
    LevelChoice | None,
    typer.Option(help="Lowest level of Limen's own log lines: debug, info, warning or error.", show_default="info"),
]
HomeFolder = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Where Limen keeps its files.", show_default=".limen")
]


def serve(
    packages: Packages = None,
    host: Host = None,
    http_port: HttpPort = None,
    grpc_port: GrpcPort = None,
    metrics_port: MetricsPort = None,
    admin_port: AdminPort = None,
    workers: WorkerCount = None,
    placement: Placement = None,
    trust_code: TrustCode = False,
    watch: Annotated[bool, typer.Option("--watch", help="Reload a package when its files change.")] = False,
    model_control: ModelControl = None,
    grpc_engine: GrpcEngine = None,
    config: Config = None,
    announce: Announce = None,
    access_log: Annotated[bool, typer.Option("--access-log", help="Log every request, not only failed ones.")] = False,
    log_format: LogFormat = None,
    log_level: LogLevel = None,
    home: HomeFolder = None,
) -> None:
    """Serve over REST and gRPC until Ctrl-C: packages, each as an endpoint of its own name, or what the registry says.

    Without a package, the endpoints of the registry in the home are served, and the management API that changes them. Every option is
    a setting as well, which the settings file and the environment can give; an option goes before both.
    """
    from limen.cli.words import CommandError, existing_package
    from limen.settings import load_settings

    said = {
        "serve.packages": [str(path) for path in packages or ()] or None,
        "serve.host": host,
        "serve.http_port": http_port,
        "serve.grpc_port": grpc_port,
        "serve.metrics_port": metrics_port,
        "serve.workers": workers,
        "serve.placement": placement,
        "serve.model_control": model_control,
        "serve.watch": watch or None,
        "serve.announce": announce,
        "serve.access_log": access_log or None,
        "grpc.engine": grpc_engine,
        "registry.home": None if home is None else str(home),
        "trust.code": trust_code or None,
        "admin.port": admin_port,
        "log.format": log_format,
        "log.level": log_level,
    }
    settings = _logging(load_settings(config, said))
    for path in settings.serve.packages:
        existing_package(Path(path))
    if settings.serve.watch and not settings.serve.packages:
        raise CommandError(
            "--watch needs at least one package", "A server always follows its registry; --watch is for packages."
        )
    run = _serve_for_programs if settings.log.format == "json" else _serve_for_people
    run(settings)


def _logging(given: Settings) -> Settings:
    """Begin to log as the settings say, and return them."""
    from limen.telemetry import form
    from limen.telemetry.logs import log_to_stderr

    form.choose(given.log, "supervisor")
    log_to_stderr()
    return given


def _serve_for_people(settings: Settings) -> None:
    """Serve, and show on standard output what is served and where."""
    from limen.app import serve as run

    with _patience(", ".join(settings.serve.packages) or f"the registry in {settings.registry.home}") as show:
        run(settings, show, _note)


def _serve_for_programs(settings: Settings) -> None:
    """Serve, and say everything in the log: whoever reads lines of JSON gets nothing else."""
    import logging

    from limen.app import serve as run

    log = logging.getLogger("limen.server")

    def show(ready: Ready) -> None:
        text = "ready: REST http://%s, gRPC %s, metrics http://%s/metrics%s"
        log.info(text, ready.http, ready.grpc, ready.metrics, f", admin http://{ready.admin}" if ready.admin else "")
        if ready.waiting:
            log.warning("not ready: %s", ", ".join(ready.waiting))

    run(settings, show, log.info)


@contextmanager
def _patience(what: str) -> Iterator[Callable[[Ready], None]]:
    """Say what is being started, and now and then that it still is, until what is given has shown that it is ready."""
    typer.echo(f"  Starting: {what}")
    is_ready = Event()

    def remind() -> None:
        began = time.monotonic()
        while not is_ready.wait(REMINDER_S):
            typer.echo(f"  Still starting after {time.monotonic() - began:.0f} s; `limen status` shows what is loading")

    def show(ready: Ready) -> None:
        is_ready.set()
        _show(ready)

    Thread(target=remind, daemon=True).start()
    try:
        yield show
    finally:
        is_ready.set()


def _show(ready: Ready) -> None:
    """Print what is served and where, calmly."""
    from limen._version import __version__
    from limen.cli.words import counted, paint

    http = f"http://{ready.http}"
    lines = ["", f"  {paint('Limen', '1')} {__version__} is ready, {counted(ready.workers, 'worker')}", ""]
    if ready.models:
        lines += [*(f"    {line}" for line in _models(ready.models)), ""]
    lines += [
        f"  docs   {http}/docs",
        f"  REST   {http}",
        f"  gRPC   {ready.grpc}",
        "",
    ]
    if ready.admin:
        lines[-1:-1] = [f"  admin  http://{ready.admin}"]
    first = ready.models[0] if ready.models else None
    if ready.waiting:
        lines += [f"  Not ready: {', '.join(ready.waiting)}; see `limen endpoint list`.", ""]
    if first is None and not ready.waiting:
        lines += [
            "  Nothing to serve yet:",
            "    limen publish PACKAGE --alias champion",
            "    limen endpoint apply endpoint.yaml",
            "",
        ]
    elif first is not None and first.name not in ready.waiting and first.example:
        lines += [
            "  Try it:",
            f"    curl {http}/v1/models/{first.name}:predict -H 'content-type: application/json' \\",
            f"      -d '{first.example}'",
            "",
        ]
    lines += ["  Ctrl-C stops it after in-flight requests are answered.", ""]
    typer.echo("\n".join(lines))


def _note(text: str) -> None:
    """Print what happened later."""
    typer.echo(f"  {text}")


def _models(models: Sequence[ModelSummary]) -> list[str]:
    """Return one line for each model: name, backend, number of fields, title."""
    from limen.cli.words import counted, paint

    rows = [
        (m.name, m.backend, f"{counted(m.inputs, 'input')}, {counted(m.outputs, 'output')}", m.title) for m in models
    ]
    widths = [max((len(row[i]) for row in rows), default=0) for i in range(3)]
    return [
        "  ".join(
            (paint(name.ljust(widths[0]), "1"), backend.ljust(widths[1]), fields.ljust(widths[2]), title)
        ).rstrip()
        for name, backend, fields, title in rows
    ]
