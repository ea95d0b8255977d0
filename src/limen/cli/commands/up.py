"""`limen up`: from a trained model to a running endpoint in one command."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from limen.cli.commands import package as packages
from limen.cli.commands import serve as server
from limen.cli.connection import Home

if TYPE_CHECKING:
    from limen.authoring.derived import Derived, DerivedPackage

LOOK_S = 1.0
"""How often the model is looked at."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("up", short_help="Package a trained model, check it and serve it, in one command.")(up)


def up(
    model: Annotated[
        Path,
        typer.Argument(metavar="MODEL", help="A trained model: a file, another tool's model folder, or a package."),
    ],
    sample: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Example data with a header: names, types, examples.")
    ] = None,
    name: Annotated[str, typer.Option(metavar="NAME", help="Name of the model; defaults to the file's name.")] = "",
    trust_code: packages.TrustCode = False,
    trust_pickle: Annotated[
        bool, typer.Option("--trust-pickle", help="Load a pickle once, in a sandbox, and convert it.")
    ] = False,
    http_port: server.HttpPort = None,
    grpc_port: server.GrpcPort = None,
    metrics_port: server.MetricsPort = None,
    announce: server.Announce = None,
    home: Home = Path(".limen"),
) -> None:
    """Package a trained model, check it and serve it; load it again whenever it is trained again.

    The package is made in the home (`.limen/up/NAME`). Edit its model.yaml there while the server runs: it is loaded again, and stays
    as you edited it when the model changes. A package is served as it is.
    """
    from limen.cli.words import MANIFEST_NAME, CommandError
    from limen.settings import trusts_code

    trust_code = trusts_code(is_asked=trust_code)
    if not model.exists():
        raise CommandError(f"nothing found at {model}", "Give the file your training script saved.")
    folder, derived = model, None
    if model.suffix != ".limen" and not (model / MANIFEST_NAME).is_file():
        derived = _derived(model, sample, name, home, trust_pickle=trust_pickle)
        folder = derived.folder
        made = _make(derived)
        _print_made(derived, made)
        if made.created.needs_trust and not trust_code:
            raise _untrusted(model)
    packages.check(folder, trust_code=trust_code, home=home)
    if derived is not None:
        threading.Thread(target=_follow, args=(derived,), daemon=True).start()
    server.serve(
        [folder],
        http_port=http_port,
        grpc_port=grpc_port,
        metrics_port=metrics_port,
        trust_code=trust_code,
        watch=True,
        announce=announce,
        log_level=server.LevelChoice.WARNING,
        home=home,
    )


def _derived(model: Path, sample: Path | None, name: str, home: Path, *, trust_pickle: bool) -> DerivedPackage:
    from limen.app.asking import asker
    from limen.authoring.derived import DerivedPackage
    from limen.authoring.importing import ImportOptions
    from limen.contracts.names import parse_model_name
    from limen.packaging.importers.draft import model_name

    called = parse_model_name(name, "--name") if name else model_name(model.stem if model.is_file() else model.name)
    options = ImportOptions(name=called, sample=sample, trust_pickle=trust_pickle, ask=asker(is_quiet=True))
    return DerivedPackage(model, home / "up" / called, options)


def _make(derived: DerivedPackage) -> Derived:
    from limen.cli.words import CommandError
    from limen.contracts.errors import InvalidPackage, Reason

    try:
        return derived.make()
    except InvalidPackage as exc:
        # There is no package yet that `limen check` could say more about.
        raise exc if exc.reason is not Reason.INVALID_PACKAGE else CommandError(exc.message) from exc


def _print_made(derived: DerivedPackage, made: Derived) -> None:
    from limen.cli.words import counted

    created = made.created
    fields = f"{counted(created.inputs, 'input')}, {counted(created.outputs, 'output')}"
    typer.echo(f"{derived.folder}: {created.format}, {fields}")
    if made.is_kept:
        typer.echo("  - model.yaml has been edited and is kept")
    for note in made.notes:
        typer.echo(f"  - {note}")
    typer.echo()


def _untrusted(model: Path) -> Exception:
    from limen.cli.words import CommandError

    return CommandError(f"{model} is Python code and runs with your permissions", "Read it, then add --trust-code.")


def _follow(derived: DerivedPackage) -> None:
    """Make the package anew whenever the model changes. The server follows the package."""
    from limen.contracts.errors import LimenError

    while True:
        time.sleep(LOOK_S)
        if not derived.has_changed():
            continue
        try:
            derived.make()
        except (LimenError, OSError) as exc:
            typer.echo(f"  {derived.source} has changed and cannot be used: {exc}")
