"""`limen import`: a package from another tool's model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from limen.cli.commands.package import SampleFile, Targets, contents, print_notes

if TYPE_CHECKING:
    from limen.authoring.importing import Imported
    from limen.packaging.importers.mlflow_registry import TrackingServer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("import", short_help="Make a package from MLflow, Triton, Hugging Face or a pickle.")(import_)


def import_(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A model file, an MLflow or Hugging Face model folder, a Triton model folder (or triton:REPOSITORY/MODEL), "
            "mlflow:models:/NAME/VERSION or mlflow:models:/NAME@ALIAS.",
        ),
    ],
    name: Annotated[
        str, typer.Option(metavar="NAME", help="Name of the model; defaults to the name in the source.")
    ] = "",
    directory: Annotated[
        Path | None, typer.Option("--dir", "-o", metavar="DIR", help="Folder to create; defaults to the model's name.")
    ] = None,
    sample: SampleFile = None,
    target: Targets = None,
    version: Annotated[
        str, typer.Option(metavar="NUMBER", help="Version of a Triton model; defaults to the newest.")
    ] = "",
    trust_pickle: Annotated[
        bool,
        typer.Option(
            "--trust-pickle",
            help="Load a pickle once, without network or file access, and convert it to a format without code.",
        ),
    ] = False,
    to: Annotated[
        str,
        typer.Option(metavar="FORMAT", help="Format for a scikit-learn pickle: onnx or skops; default: what works."),
    ] = "",
    tracking_uri: Annotated[
        str, typer.Option(metavar="URL", envvar="MLFLOW_TRACKING_URI", help="Address of the MLflow server.")
    ] = "",
) -> None:
    """Make a package folder from a model that another tool keeps.

    Nothing is fetched but from the MLflow server that is configured. A pickle is never packaged: with --trust-pickle it is
    converted, and kept only if it answers as the original does.
    """
    from limen.app.asking import asker
    from limen.authoring.importing import TARGETS, ImportOptions, import_model
    from limen.cli.words import CommandError
    from limen.contracts.errors import InvalidPackage, Reason

    if to and to not in TARGETS:
        raise CommandError(f"--to must be one of {', '.join(TARGETS)}")
    options = ImportOptions(
        name=name,
        folder=directory,
        version=version,
        sample=sample,
        not_inputs=tuple(target or ()),
        trust_pickle=trust_pickle,
        targets=(to,) if to else TARGETS,
        server=_server(tracking_uri),
        ask=asker(is_quiet=True),
    )
    try:
        made = import_model(source, options)
    except InvalidPackage as exc:
        # There is no package yet that `limen check` could say more about.
        raise exc if exc.reason is not Reason.INVALID_PACKAGE else CommandError(exc.message) from exc
    _report(made)


def _server(uri: str) -> TrackingServer | None:
    """Return the tracking server with the credentials that MLflow's own client would use."""
    from limen.packaging.importers.mlflow_registry import TrackingServer

    if not uri:
        return None
    given = {key: os.environ.get(f"MLFLOW_TRACKING_{key.upper()}", "") for key in ("token", "username", "password")}
    return TrackingServer(uri=uri, **given)


def _report(made: Imported) -> None:
    created = made.created
    rows = [(created.artifact, f"{created.format}, loaded by the {created.backend} backend")]
    rows.append(("model.yaml", contents(created)))
    parity = made.parity
    if parity is not None:
        rows.append(("examples.json", "the original's answers, which the package must reproduce"))
    rows.append(("origin.json", f"source: {made.origin['source']}"))
    width = max(len(file) for file, _ in rows)
    typer.echo(f"{created.folder}/  ({made.kind})")
    for file, text in rows:
        typer.echo(f"  {file:<{width}}  {text}")
    if parity is not None:
        typer.echo(f"\nConverted from a pickle: {made.origin['converted']['model']} to {created.format}.")
        difference = f"largest difference {parity.largest_difference:.2g}"
        typer.echo(f"Both give the same answers to the same {parity.rows} rows ({difference}).")
    print_notes(made.notes, created.guesses)
    trust = " --trust-code" if created.needs_trust else ""
    typer.echo(f"\nNext: complete the descriptions and limits in {created.folder / 'model.yaml'}, then")
    typer.echo(f"  limen check {created.folder}{trust}\n  limen serve {created.folder}{trust}")
