"""`limen init`, `check`, `build`, `inspect` and `schema`: creating and checking packages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from limen.cli.connection import Home, Server

if TYPE_CHECKING:
    from limen.authoring.check import Step
    from limen.authoring.scaffolding import Created
    from limen.contracts.contract import Example, Field
    from limen.packaging.archive.package import Inspection

NAME_WIDTH: Final = 28
FACT_WIDTH: Final = 14
TrustCode = Annotated[bool, typer.Option("--trust-code", help="Allow packages to run the Python code they contain.")]
MAX_GUESSES: Final = 30
SampleFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Example data: CSV, JSON, JSON lines, Parquet, Feather or NumPy arrays."),
]
Targets = Annotated[
    list[str] | None,
    typer.Option(metavar="COLUMN", help="Column of the sample that is not an input of the model; repeatable."),
]
Folder = Annotated[Path, typer.Argument(metavar="PACKAGE", help="Package folder or archive.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command, summary in (
        (init, "Make a package from a trained model."),
        (check, "Report everything that is wrong with a package."),
        (build, "Pack a package into one file, named by its content."),
        (inspect, "Show the contents of a package."),
        (schema, "Print the JSON Schema of model.yaml."),
    ):
        app.command(command.__name__, short_help=summary)(command)


def init(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the model and of the folder to create.")],
    source: Annotated[Path, typer.Option("--from", metavar="FILE", help="The trained artifact.")],
    sample: SampleFile = None,
    target: Targets = None,
    like: Annotated[
        str,
        typer.Option(
            metavar="KNOWN",
            help="Existing contract to keep: NAME@ALIAS or NAME/VERSION in the registry, or a package.",
        ),
    ] = "",
    directory: Annotated[
        Path | None, typer.Option("--dir", metavar="DIR", help="Folder to create; defaults to NAME.")
    ] = None,
    home: Home = Path(".limen"),
    server: Server = "",
) -> None:
    """Make a package folder from a trained model: the file itself, and a model.yaml to complete.

    Names, types and shapes come from the model's own file; a sample of the data adds what the file does not say.
    """
    from limen.app.asking import asker
    from limen.authoring.retraining import Known
    from limen.authoring.scaffolding import create_package
    from limen.cli.commands.diff import contract_of
    from limen.cli.words import CommandError
    from limen.contracts.errors import InvalidPackage, Reason
    from limen.packaging.manifest.values import MANIFEST_NAME

    try:
        made = create_package(
            name,
            source,
            directory or Path(name),
            sample,
            target or (),
            like=Known(like, contract_of(like, home, server)) if like else None,
            ask=asker(is_quiet=True),
        )
    except InvalidPackage as exc:
        # There is no package yet that `limen check` could say more about.
        raise exc if exc.reason is not Reason.INVALID_PACKAGE else CommandError(exc.message) from exc
    width = max(len(made.artifact), len(MANIFEST_NAME))
    trust = " --trust-code" if made.needs_trust else ""
    # The answers of code are recorded once somebody trusts it.
    recording = " --record" if made.needs_trust and sample is not None else ""
    typer.echo(f"{made.folder}/")
    typer.echo(f"  {made.artifact:<{width}}  {made.format}, loaded by the {made.backend} backend")
    typer.echo(f"  {MANIFEST_NAME:<{width}}  {contents(made)}")
    print_notes(made.notes, made.guesses)
    typer.echo(f"\nNext: complete the descriptions, limits and examples in {made.folder / MANIFEST_NAME}, then")
    typer.echo(f"  limen check {made.folder}{trust}{recording}\n  limen serve {made.folder}{trust}")


def contents(made: Created) -> str:
    """Return what the new model.yaml holds, for people."""
    from limen.cli.words import counted

    answers = f", {counted(made.answered, 'example')} with the model's answers" if made.answered else ""
    return f"{counted(made.inputs, 'input')}, {counted(made.outputs, 'output')}{answers}"


def print_notes(notes: Sequence[str], guesses: Mapping[str, str]) -> None:
    """Say what was left out, renamed and guessed, a line each."""
    if notes:
        typer.echo("\nNotes:")
        for note in notes:
            typer.echo(f"  - {note}")
    if guesses:
        typer.echo("\nGuessed from the sample; correct any mistakes in model.yaml:")
        for field, why in list(guesses.items())[:MAX_GUESSES]:
            typer.echo(f"  - {field}: {why}")
        if (more := len(guesses) - MAX_GUESSES) > 0:
            typer.echo(f"  - and {more} more, each marked in model.yaml")


def check(
    package: Folder,
    trust_code: TrustCode = False,
    data: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Real data: report which rows would be refused, and why.")
    ] = None,
    record: Annotated[
        bool, typer.Option("--record", help="Record the model's current answers to its examples.")
    ] = False,
    home: Home = Path(".limen"),
) -> None:
    """Find everything that is wrong with a package before anyone calls it.

    Looks at the manifest, the files, the model's true format and tensors, its answers to the examples, alone and in a batch,
    and the documents that callers will read. With --data also at whether the contract fits data that callers have.
    """
    import asyncio

    from limen.authoring.check import check_package
    from limen.authoring.real_data import judge
    from limen.cli.words import CommandError, existing_package, next_step, problem
    from limen.settings import trusts_code

    trust_code = trusts_code(is_asked=trust_code)
    if record and not package.is_dir():
        raise CommandError("--record needs a package folder; an archive cannot be changed", "Give the package folder.")
    report = asyncio.run(check_package(existing_package(package), home, trust_code=trust_code))
    for step in report.steps:
        print_step(step)
    judged = judge(report.package.manifest.contract, data) if data is not None and report.package is not None else None
    if judged is not None:
        print_step(judged.step())
    typer.echo()
    if not report.ok:
        mistakes = [text for step in report.steps for text in step.problems]
        problem(f"{package} is not fit to serve", hint=next_step(report.refusal, mistakes))
        raise typer.Exit(1)
    typer.echo(f"{package} is fit to serve.")
    if record:
        _record(package, judged.accepted if judged is not None else (), trust_code=trust_code)
    if judged is not None and judged.refused:
        problem(
            f"{package} refuses rows of {data}",
            hint="Edit model.yaml if the rows are right; otherwise correct the data.",
        )
        raise typer.Exit(1)


def _record(folder: Path, examples: Sequence[Example], *, trust_code: bool) -> None:
    """Write golden answers into a package, and say what they are."""
    from limen.app.asking import asker
    from limen.authoring.golden import record
    from limen.cli.words import counted

    done = record(folder, asker(), trust_code=trust_code, examples=examples)
    if done.answered:
        typer.echo(
            f"Recorded {counted(done.answered, 'answer')}. They are the model's current answers, not necessarily right ones: review them."
        )
    elif not done.notes:
        typer.echo(f"Nothing to record: {counted(done.kept, 'example')} already had an answer.")
    for note in done.notes:
        typer.echo(f"  - {note}")


def build(
    package: Annotated[Path, typer.Argument(metavar="DIR", help="Package folder.")],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="PATH", help="Folder for the archive, or a file ending in .limen."),
    ] = Path("dist"),
) -> None:
    """Make one file of a package, named by its content: the same content always gives the same digest and the same bytes."""
    from limen.cli.words import existing_package, size
    from limen.packaging.archive.package import SUFFIX
    from limen.packaging.archive.package import build as build_archive

    if output.suffix == SUFFIX and not output.is_dir():
        built = build_archive(existing_package(package), output.parent, output.name)
    else:
        built = build_archive(existing_package(package), output)
    typer.echo(f"{built.path}  {size(built.size)}\nsha256 {built.digest}")
    if built.is_signed:
        typer.echo(f"signature {built.path.name}.sig")


def inspect(
    package: Annotated[
        str,
        typer.Argument(
            metavar="PACKAGE", help="Package folder or archive, or NAME/VERSION or NAME@ALIAS in the registry."
        ),
    ],
    home: Home = Path(".limen"),
    server: Server = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what a package holds, without loading the model."""
    import msgspec

    from limen.cli.words import paint, size

    found = _inspected(package, home, server)
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(found.plain()), indent=2))
        return
    manifest = found.manifest
    contract = manifest.contract
    facts = {
        "major": str(contract.major) if contract.major > 1 else "",
        "title": contract.title,
        "description": contract.description,
        "owner": contract.owner,
        "licence": contract.licence,
        "task": contract.task,
        "tags": ", ".join(contract.tags),
        "backend": f"{manifest.backend} ({manifest.artifact})",
        "digest": found.digest,
    }
    typer.echo(paint(contract.name, "1"))
    for key, value in facts.items():
        if value:
            typer.echo(f"  {key:<12}{value}")
    for title, fields in (("inputs", contract.inputs), ("outputs", contract.outputs)):
        _print_rows(title, [(field.name, field.type + _shape(field), field.unit) for field in fields])
    plain = found.plain()["manifest"]
    batching = plain["contract"]["batching"]
    # As model.yaml says it: `batching: none`.
    batching = batching if batching.pop("is_batched") else {"none": None}
    run = {"batching": batching, "serving": plain["serving"], "fallback": plain["fallback"] or {}}
    for title, settings in run.items():
        if settings:
            _print_rows(title, [(key, value, "") for key, value in _leaves(settings)])
    _print_rows("files", [(file.path, size(file.size), "") for file in found.files])


def _inspected(text: str, home: Path, server: str) -> Inspection:
    """Return what the package holds that a word of the command line names."""
    from tempfile import TemporaryDirectory

    from limen.cli.connection import managing, registered
    from limen.cli.words import existing_package
    from limen.packaging.archive.package import inspect as inspect_package

    named = registered(text)
    if named is None:
        return inspect_package(existing_package(Path(text)))
    with managing(home, server) as management, TemporaryDirectory(prefix="limen-inspect-") as place:
        version = management.version(*named)
        return inspect_package(management.archive(version.model, version.number, Path(place) / "package.limen"))


def schema() -> None:
    """Print the JSON Schema of model.yaml, for editors."""
    import msgspec

    from limen.packaging.manifest.schema import manifest_schema

    typer.echo(msgspec.json.format(msgspec.json.encode(manifest_schema()), indent=2))


def _shape(field: Field) -> str:
    return "[" + ", ".join(map(str, field.shape)) + "]" if field.shape else ""


def _print_rows(title: str, rows: Sequence[tuple[str, str, str]]) -> None:
    """Print a name and two facts a row; a long name makes its column wider instead of running into the next."""
    name_width = max([NAME_WIDTH, *(len(name) + 2 for name, _, _ in rows)])
    fact_width = max([FACT_WIDTH, *(len(fact) + 2 for _, fact, other in rows if other)])
    typer.echo(f"  {title}")
    for name, fact, other in rows:
        typer.echo(f"    {name:<{name_width}}{fact:<{fact_width}}{other}".rstrip())


def _leaves(settings: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    """Yield settings as `replicas.max` and how the value is written in model.yaml; what is not set is a dash."""
    import msgspec

    for key, value in settings.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{path}{key}.")
        elif isinstance(value, float):
            yield path + key, f"{value:.15g}"
        else:
            yield path + key, "-" if value is None else msgspec.json.encode(value).decode()


def print_step(step: Step) -> None:
    """Print one thing that a check looked at."""
    from limen.cli.words import paint

    mark = paint("note", "33") if step.is_note else paint("ok  ", "32")
    if not step.ok:
        mark = paint("FAIL", "31;1")
    typer.echo(f"  {mark}  {step.name:<11}{step.detail}".rstrip())
    for text in step.problems:
        typer.echo(f"          - {text}")
