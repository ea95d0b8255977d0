"""How a command reaches a registry: through a running server, or in its own process if there is none.

Where a server runs, everything goes through its management API. Where none does, commands read and change the registry themselves by the
same rules (`reading`, `editing`): they answer in a third of the time. Publishing needs the API in any case.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

if TYPE_CHECKING:
    from limen.app.editing import RegistryEditor
    from limen.app.reading import RegistryReader
    from limen.cli.words import CommandError
    from limen.client import Management
    from limen.contracts.errors import NotFound
    from limen.contracts.management import Page
    from limen.serving.supervision.run_folder import ServerFile

T = TypeVar("T")
Door = TypeVar("Door", bound="RegistryReader")
_REGISTERED = re.compile(
    r"(?P<name>[a-z0-9][a-z0-9._-]*)(?:/(?P<number>[1-9][0-9]*)|@(?P<alias>[a-z][a-z0-9_-]*))", re.ASCII
)
START_S = 60.0
"""How long a server may take until it can be asked."""
_LOOK_S = 0.05
_PROBE_S = 2.0
"""How long a port may take to say what it is."""


def _chosen_home(context: typer.Context, value: Path) -> Path:
    """Return the home that an option or the environment names, else that of the settings file."""
    source = context.get_parameter_source("home")
    if source is not None and source.name != "DEFAULT":
        return value
    from limen.settings import find_home

    return find_home(context.params.get("config"))


Home = Annotated[
    Path,
    typer.Option(metavar="DIR", envvar="LIMEN_HOME", callback=_chosen_home, help="Where Limen keeps its files."),
]
Server = Annotated[
    str,
    typer.Option(
        metavar="URL",
        envvar="LIMEN_SERVER",
        help="Management API address of a server; defaults to the server of the home.",
    ),
]
Config = Annotated[
    Path | None,
    # Read first: the file may say where the home is.
    typer.Option(
        metavar="FILE",
        envvar="LIMEN_CONFIG",
        is_eager=True,
        help="Settings file; defaults to ./limen.toml if it exists.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def registered(text: str) -> tuple[str, str] | None:
    """Return the model and the number or alias in NAME/VERSION or NAME@ALIAS; None for anything else, such as a path that exists."""
    found = _REGISTERED.fullmatch(text)
    if found is None or Path(text).exists():
        return None
    return found["name"], found["number"] or found["alias"]


@contextmanager
def reading(home: Path, server: str) -> Iterator[Management | RegistryReader]:
    """Give what shows a registry for as long as the block runs: the server that runs with it, or the registry itself.

    Raises:
        CommandError: as `managing`.
    """
    from limen.serving.supervision import run_folder

    if server or any(s.admin for s in run_folder.find(home)):
        with managing(home, server) as management:
            yield management
        return
    from limen.app.reading import RegistryReader

    with _opened(home, RegistryReader) as reader:
        yield reader


@contextmanager
def editing(home: Path, server: str) -> Iterator[Management | RegistryEditor]:
    """Give what changes a registry for as long as the block runs: as `reading`.

    Raises:
        CommandError: as `managing`.
    """
    from limen.serving.supervision import run_folder

    if server or any(s.admin for s in run_folder.find(home)):
        with managing(home, server) as management:
            yield management
        return
    from limen.app.editing import RegistryEditor

    with _opened(home, RegistryEditor) as editor:
        yield editor


@contextmanager
def _opened(home: Path, kind: type[Door]) -> Iterator[Door]:
    from limen.contracts.errors import NotFound
    from limen.settings import load_settings

    settings = load_settings(None, {"registry.home": str(home)})
    with without_registry(home, settings.registry.database_url):
        door = kind.open(settings.registry)
    try:
        yield door
    except NotFound as exc:
        if exc.violations:
            raise
        raise _nothing_there(exc) from exc
    finally:
        door.close()


@contextmanager
def without_registry(home: Path, database_url: str) -> Iterator[None]:
    """Say what to do when the block finds no registry."""
    from limen.cli.words import CommandError
    from limen.contracts.errors import NotFound

    try:
        yield
    except NotFound as exc:
        where = "at registry.database_url" if database_url else f"in {home}"
        raise CommandError(f"no registry {where} yet", "Create one with `limen publish PACKAGE`.") from exc


def _nothing_there(exc: NotFound) -> CommandError:
    from limen.cli.words import CommandError

    return CommandError(exc.message, "`limen model list` and `limen endpoint list` show what exists.")


@contextmanager
def managing(
    home: Path, server: str, config: Path | None = None, *, create: bool = False, trust_code: bool = False
) -> Iterator[Management]:
    """Give a client of the management API for as long as the block runs.

    Args:
        home: whose registry is meant when no server is named.
        server: address of a management API; empty for the server that runs with the home, or else this process.
        config: settings file, where this process does the work.
        create: make the registry when there is none.
        trust_code: packages may bring Python code, where this process does the work; a server has settings of its own.

    Raises:
        CommandError: cannot reach the server, or there is nothing by the name that was given.
    """
    from limen.cli.words import CommandError
    from limen.contracts.errors import LimenError, NotFound, Unavailable
    from limen.serving.supervision import run_folder

    servers = run_folder.find(home)
    if server:
        _ensure_management(addressed(server, "http://127.0.0.1:8002"), servers)
    own = next((s for s in servers if s.admin), None)
    if own is not None and not server:
        _until_open(own)
    running = server or (f"http://{own.admin}" if own is not None else "")
    try:
        with _there(running) if running else _here(home, config, create=create, trust_code=trust_code) as management:
            yield management
    except LimenError as exc:
        if server and not exc.violations and _is_rest(server):
            raise CommandError(
                f"{server} is the REST port of a server, not its management API",
                "The management API has its own port, 8002 by default; a server of packages has none.",
            ) from exc
        if isinstance(exc, NotFound) and not exc.violations:
            raise _nothing_there(exc) from exc
        if isinstance(exc, Unavailable) and running and not exc.request_id:  # with one, somebody has answered
            raise CommandError(
                f"cannot reach the server at {running}", "See `limen status` for running servers."
            ) from exc
        raise


def _until_open(server: ServerFile) -> None:
    """Wait until the management API of a server that is just starting can be called; it is asked even if that takes too long."""
    import socket
    import time

    host, _, port = server.admin.rpartition(":")
    end = time.monotonic() + START_S
    while server.is_running and time.monotonic() < end:
        try:
            socket.create_connection((host.strip("[]"), int(port)), _PROBE_S).close()
        except OSError:
            time.sleep(_LOOK_S)
        else:
            return


def addressed(url: str, example: str) -> str:
    """Return what `--server` says if it is an address."""
    from limen.cli.words import CommandError

    if not url.startswith(("http://", "https://")):
        raise CommandError("--server must start with http:// or https://", f"For example: --server {example}")
    return url


def _ensure_management(url: str, servers: Sequence[ServerFile]) -> None:
    """Say so when an address is another port of a server that runs here."""
    from urllib.parse import urlsplit

    from limen.cli.words import CommandError

    place = urlsplit(url).netloc.replace("localhost", "127.0.0.1")
    for server in servers:
        ports = {server.http: "REST", server.grpc: "gRPC", server.metrics: "metrics"}
        if place in ports:
            hint = (
                f"The management API is at http://{server.admin}."
                if server.admin
                else "It serves packages, so it has no management API."
            )
            raise CommandError(f"{url} is the {ports[place]} port, not the management API", hint)


def _is_rest(url: str) -> bool:
    """Whether a REST port answers at an address, and no management API."""
    import httpx

    def answers(path: str) -> bool:
        return httpx.get(url.rstrip("/") + path, timeout=_PROBE_S).status_code == httpx.codes.OK

    try:
        return answers("/v2/health/live") and not answers("/api/v1/status")
    except (httpx.HTTPError, httpx.InvalidURL):
        return False


@contextmanager
def _there(url: str) -> Iterator[Management]:
    from limen.client import Management

    with Management(url) as management:
        yield management


@contextmanager
def _here(home: Path, config: Path | None, *, create: bool, trust_code: bool) -> Iterator[Management]:
    import httpx

    from limen.app.management import management_here
    from limen.client import Management
    from limen.settings import load_settings

    settings = load_settings(config, {"registry.home": str(home)} | ({"trust.code": True} if trust_code else {}))
    with without_registry(home, settings.registry.database_url):
        app, close = management_here(settings, create=create)
    try:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        with Management("http://127.0.0.1", transport=transport) as management:
            yield management
    finally:
        close()


def print_json(value: object) -> None:
    """Print a value for programs."""
    import msgspec

    typer.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Return rows as lines with their columns under each other."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))] if rows else []
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def when(at: object) -> str:
    """Return a point in time for people, in their own zone."""
    from datetime import datetime

    return at.astimezone().strftime("%Y-%m-%d %H:%M") if isinstance(at, datetime) else ""


def pages(fetch: Callable[..., Page[T]]) -> Iterator[Page[T]]:
    """Yield every page of a list; `fetch` takes `cursor`."""
    page = fetch()
    yield page
    while page.next:
        page = fetch(cursor=page.next)
        yield page
