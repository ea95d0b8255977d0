"""How a command reaches a registry: through the server that runs with it, or in its own process when none does.

Either way it is a client of the same management API, so that there is one way in and one set of rules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

if TYPE_CHECKING:
    from limen.client import Management
    from limen.contracts.management import Page
    from limen.serving.run_folder import ServerFile

T = TypeVar("T")
_PROBE_S = 2.0
"""How long a port may take to say what it is."""
Home = Annotated[Path, typer.Option(metavar="DIR", envvar="LIMEN_HOME", help="Where Limen keeps its files.")]
Server = Annotated[
    str,
    typer.Option(
        metavar="URL", envvar="LIMEN_SERVER", help="Management API of a server; that of the home if none is given."
    ),
]
Config = Annotated[
    Path | None, typer.Option(metavar="FILE", envvar="LIMEN_CONFIG", help="Settings file; ./limen.toml if there.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print it for programs.")]


@contextmanager
def managing(home: Path, server: str, config: Path | None = None, *, create: bool = False) -> Iterator[Management]:
    """Give a client of the management API for as long as the block runs.

    Args:
        home: whose registry is meant when no server is named.
        server: address of a management API; empty for the server that runs with the home, or else this process.
        config: settings file, where this process does the work.
        create: make the registry when there is none.

    Raises:
        CommandError: the server cannot be reached, or there is nothing by the name that was given.
    """
    from limen.cli.words import CommandError
    from limen.contracts.errors import LimenError, NotFound, Unavailable
    from limen.serving import run_folder

    servers = run_folder.find(home)
    if server:
        _ensure_management(addressed(server, "http://127.0.0.1:8002"), servers)
    running = server or next((f"http://{s.admin}" for s in servers if s.admin), "")
    try:
        with _there(running) if running else _here(home, config, create=create) as management:
            yield management
    except LimenError as exc:
        if server and not exc.violations and _is_rest(server):
            raise CommandError(
                f"{server} is the REST port of a server and not its management API",
                "The management API has a port of its own, 8002 if none was chosen; a server of packages has none.",
            ) from exc
        if isinstance(exc, NotFound) and not exc.violations:
            raise CommandError(exc.message, "`limen model list` and `limen endpoint list` show what there is.") from exc
        if isinstance(exc, Unavailable) and running and not exc.request_id:  # with one, somebody has answered
            raise CommandError(f"the server at {running} cannot be reached", "`limen status` shows what runs.") from exc
        raise


def addressed(url: str, example: str) -> str:
    """Return what `--server` says if it is an address."""
    from limen.cli.words import CommandError

    if not url.startswith(("http://", "https://")):
        raise CommandError("--server must begin with http:// or https://", f"For example --server {example}")
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
                else "It serves packages: it has none."
            )
            raise CommandError(f"{url} is the {ports[place]} port and not the management API", hint)


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
def _here(home: Path, config: Path | None, *, create: bool) -> Iterator[Management]:
    import httpx

    from limen.app.management import management_here
    from limen.cli.words import CommandError
    from limen.client import Management
    from limen.contracts.errors import NotFound
    from limen.settings import load_settings

    settings = load_settings(config, {"registry.home": str(home)})
    try:
        app, close = management_here(settings, create=create)
    except NotFound as exc:
        where = "at registry.database_url" if settings.registry.database_url else f"in {home}"
        raise CommandError(f"there is no registry {where} yet", "`limen publish PACKAGE` makes one.") from exc
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
