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

T = TypeVar("T")
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
def managing(home: Path, server: str, config: Path | None = None) -> Iterator[Management]:
    """Give a client of the management API for as long as the block runs.

    Args:
        home: whose registry is meant when no server is named.
        server: address of a management API; empty for the server that runs with the home, or else this process.
        config: settings file, where this process does the work.

    Raises:
        CommandError: the server cannot be reached, or there is nothing by the name that was given.
    """
    from limen.cli.words import CommandError
    from limen.contracts.errors import NotFound, Unavailable
    from limen.serving import run_folder

    if server and not server.startswith(("http://", "https://")):
        raise CommandError("--server must begin with http:// or https://", "For example --server http://127.0.0.1:8002")
    running = server or next((f"http://{s.admin}" for s in run_folder.find(home) if s.admin), "")
    try:
        with _there(running) if running else _here(home, config) as management:
            yield management
    except NotFound as exc:
        if exc.violations:
            raise
        raise CommandError(exc.message, "`limen model list` and `limen endpoint list` show what there is.") from exc
    except Unavailable as exc:
        if exc.request_id or not running:
            raise  # somebody has answered
        raise CommandError(f"the server at {running} cannot be reached", "`limen status` shows what runs.") from exc


@contextmanager
def _there(url: str) -> Iterator[Management]:
    from limen.client import Management

    with Management(url) as management:
        yield management


@contextmanager
def _here(home: Path, config: Path | None) -> Iterator[Management]:
    import httpx

    from limen.app.management import management_here
    from limen.client import Management
    from limen.settings import load_settings

    app, close = management_here(load_settings(config, {"registry.home": str(home)}))
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
