"""`limen proto`, `openapi` and `client`: files for callers of a model.

With `--server`, what is named is a model of that server, which is asked for its own documents. Without it, it is a package that
exists, or else a model of the server that runs with the home.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from limen.cli.connection import Home

if TYPE_CHECKING:
    import httpx

    from limen.contracts.contract import Contract

What = Annotated[str, typer.Argument(metavar="NAME|PACKAGE", help="A model of a running server, or a package.")]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE", help="File to write; defaults to standard output.")
]
DEFAULT_SERVER = "http://127.0.0.1:8000"
ServerUrl = Annotated[
    str,
    typer.Option("--server", metavar="URL", help="REST address of a server; defaults to the server of the home."),
]
_TIMEOUT_S = 10.0


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command, summary in (
        (proto, "Write the .proto file of a model."),
        (openapi, "Write the OpenAPI document of a model."),
        (client, "Write a typed Python client of a model."),
    ):
        app.command(command.__name__, short_help=summary)(command)


def proto(what: What, output: Output = None, server: ServerUrl = "", home: Home = Path(".limen")) -> None:
    """Write the .proto file of a model: its own gRPC service with the contract's named fields."""
    from limen.contracts.proto.text import proto_text

    package = _package(what, server)
    _write(_ask(server, home, what, ".proto") if package is None else proto_text(package), output)


def openapi(what: What, output: Output = None, server: ServerUrl = "", home: Home = Path(".limen")) -> None:
    """Write the OpenAPI document of a model: its records and tensors over REST."""
    import msgspec

    from limen._version import __version__
    from limen.contracts.openapi.document import openapi as openapi_document
    from limen.contracts.openapi.model import ServedContract

    package = _package(what, server)
    if package is None:
        found = _ask(server, home, what, "/openapi.json")
    else:
        served = ServedContract(contract=package, version="1", platform="")
        document = openapi_document([served], server_version=__version__, title=package.title or package.name)
        found = msgspec.json.encode(document).decode()
    _write(msgspec.json.format(found, indent=2) + "\n", output)


def client(what: What, output: Output = None, server: ServerUrl = "", home: Home = Path(".limen")) -> None:
    """Write a typed Python client of a model: one file for REST and gRPC, sync and async, that needs no Limen."""
    import msgspec

    from limen.contracts.clients.code import client_code
    from limen.contracts.contract import Contract

    package = _package(what, server)
    if package is None:
        found = msgspec.json.decode(_ask(server, home, what, "/contract"), type=Contract)
        _write(client_code(found, what.partition("@")[0]), output)
    else:
        _write(client_code(package), output)


def _package(what: str, server: str) -> Contract | None:
    """Return the contract of a package, or None when a server is named or what is named is no path."""
    from limen.cli.words import existing_package
    from limen.packaging.archive.package import inspect

    path = Path(what)
    if server:
        return None
    if not path.exists() and len(path.parts) == 1 and path.suffix != ".limen":
        return None
    return inspect(existing_package(path)).manifest.contract


def _ask(given: str, home: Path, name: str, document: str) -> str:
    """Return a document of a model of a running server."""
    from urllib.parse import quote

    import httpx

    from limen.cli.connection import addressed
    from limen.cli.words import CommandError

    server = addressed(given or _server_of(home), DEFAULT_SERVER).rstrip("/")
    try:
        answer = httpx.get(f"{server}/v1/models/{quote(name, safe='@')}{document}", timeout=_TIMEOUT_S)
    except (httpx.HTTPError, httpx.InvalidURL) as exc:
        if given:
            raise CommandError(
                f"no server answers at {server}", "--server takes the REST address; `limen serve` prints it."
            ) from exc
        raise CommandError(
            f"no package {name} found, and no server answers at {server}",
            "Give a package folder, start `limen serve`, or give the address of a server with --server URL.",
        ) from exc
    if answer.status_code == httpx.codes.OK:
        return answer.text
    _ensure_rest(server)
    raise CommandError(
        f"the server at {server} has no such document of {name}: {_said(answer)}", f"{server}/docs lists its models."
    )


def _server_of(home: Path) -> str:
    """Return where the newest server of a home answers; the default address if none runs."""
    from limen.serving.supervision import run_folder

    running = run_folder.find(home)
    return f"http://{running[-1].http}" if running else DEFAULT_SERVER


def _ensure_rest(server: str) -> None:
    """Say so when a server's management API was asked in place of its REST port."""
    import httpx

    from limen.cli.words import CommandError

    try:
        answer = httpx.get(f"{server}/api/v1/status", timeout=_TIMEOUT_S)
        found = answer.json()["server"] if answer.status_code == httpx.codes.OK else None
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return
    if answer.status_code != httpx.codes.OK:
        return
    http = found.get("http", "") if isinstance(found, dict) else ""
    hint = f"The REST port is at http://{http}." if http else "--server takes the REST port, 8000 by default."
    raise CommandError(f"{server} is the management API, not the REST port", hint)


def _said(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["error"])
    except (ValueError, KeyError, TypeError):
        return f"it answers with status {answer.status_code}"


def _write(text: str, output: Path | None) -> None:
    if output is None:
        typer.echo(text, nl=False)
        return
    output.write_text(text, "utf-8")
    typer.echo(output)
