"""`limen publish`, `limen model …` and `limen alias …`: models, versions and aliases of a registry."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from limen.cli.commands.endpoint import open_endpoint, wait_for_followers, without_endpoint
from limen.cli.commands.package import TrustCode
from limen.cli.connection import (
    AsJson,
    Config,
    Home,
    Server,
    editing,
    managing,
    pages,
    print_json,
    reading,
    table,
    when,
)

if TYPE_CHECKING:
    from limen.client.management import PublishOptions
    from limen.contracts.catalogue import Evidence, ModelVersion
    from limen.contracts.management import Published

Name = Annotated[str, typer.Argument(metavar="MODEL", help="The model.")]
Number = Annotated[int, typer.Argument(metavar="VERSION", help="Number of the version.", min=1)]
model_app = typer.Typer(help="Models and versions of the registry.", no_args_is_help=True)
alias_app = typer.Typer(help="Movable names for versions, such as champion.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("publish", short_help="Register a package as the next version of its model.")(publish)
    app.add_typer(model_app, name="model")
    app.add_typer(alias_app, name="alias")


def publish(
    package: Annotated[Path, typer.Argument(metavar="PACKAGE", help="Package folder or archive.")],
    alias: Annotated[str, typer.Option(metavar="NAME", help="Alias to point at the version.")] = "",
    endpoint: Annotated[
        bool, typer.Option("--endpoint", help="Open an endpoint for the model if it has none yet.")
    ] = False,
    tag: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="Tag of the version; repeatable.")] = None,
    number: Annotated[
        int, typer.Option(metavar="N", min=0, help="Version number to require; 0 takes the next one.")
    ] = 0,
    same_answers: Annotated[
        bool,
        typer.Option("--same-answers", help="Refuse the version if it answers its predecessor's examples differently."),
    ] = False,
    trust_code: TrustCode = False,
    source: Annotated[str, typer.Option(help="Lineage: the run or model it comes from.")] = "",
    data: Annotated[str, typer.Option(help="Lineage: the data it was trained on.")] = "",
    code: Annotated[str, typer.Option(help="Lineage: the code that trained it, such as a commit hash.")] = "",
    home: Home = Path(".limen"),
    server: Server = "",
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Register a package as the next version of its model, after everything that can be known of it has been looked at.

    The same content is the same version, however often it is published.
    """
    from limen.cli.words import CommandError, existing_package
    from limen.contracts.catalogue import Lineage
    from limen.packaging.archive.package import build, inspect

    tags: dict[str, str] = {}
    for given in tag or ():
        key, equals, value = given.partition("=")
        if not equals or not key:
            raise CommandError(f"--tag {given} is not KEY=VALUE", "Write it as --tag team=risk.")
        tags[key] = value
    options: PublishOptions = {"alias": alias, "tags": tags, "lineage": Lineage(source=source, data=data, code=code)}
    if number:
        options["number"] = number
    if same_answers:
        options["same_answers"] = True
    path = existing_package(package)
    with tempfile.TemporaryDirectory(prefix="limen-publish-") as folder:
        archive = build(path, Path(folder)).path if path.is_dir() else path
        name = inspect(archive).manifest.contract.name
        with managing(home, server, config, create=True, trust_code=trust_code) as management:
            done = management.publish(name, archive, **options)
            print_json(done) if as_json else _print_published(done, alias)
            told = open_endpoint(management, done.version, alias) if endpoint else without_endpoint(management, name)
    if told and not as_json:
        typer.echo(told)


@model_app.command("list")
def list_models(home: Home = Path(".limen"), server: Server = "", as_json: AsJson = False) -> None:
    """List the models, with their newest version and aliases."""
    with reading(home, server) as management:
        models = [model for page in pages(management.models) for model in page.items]
    if as_json:
        print_json(models)
        return
    rows = [("MODEL", "NEWEST", "VERSIONS", "ALIASES", "TITLE")]
    for model in models:
        aliases = ", ".join(f"{alias} → {number}" for alias, number in sorted(model.aliases.items()))
        rows.append((model.name, str(model.latest or "–"), str(model.versions), aliases, model.title))
    typer.echo(
        "\n".join(table(rows)) if models else "The registry has no models yet; add one with `limen publish PACKAGE`."
    )


@model_app.command("show")
def show_model(
    name: Name,
    version: Annotated[
        str, typer.Argument(metavar="[VERSION]", help="Number or alias; defaults to all versions.")
    ] = "",
    home: Home = Path(".limen"),
    server: Server = "",
    as_json: AsJson = False,
) -> None:
    """Show a model's versions, or one version with its evidence."""
    with reading(home, server) as management:
        if version:
            found = management.version(name, version)
            evidence = management.evidence(name, found.number, limit=500).items
            print_json({"version": found, "evidence": evidence}) if as_json else _print_version(found, evidence)
            return
        versions = [
            v
            for page in pages(lambda **options: management.versions(name, include_retired=True, **options))
            for v in page.items
        ]
    if as_json:
        print_json(versions)
        return
    rows = [("VERSION", "MAJOR", "ALIASES", "PUBLISHED", "DIGEST", "")]
    for v in versions:
        state = f"retired: {v.retired_reason}" if v.is_retired else ""
        rows.append((str(v.number), str(v.major), ", ".join(v.aliases), when(v.created_at), v.digest[:12], state))
    typer.echo("\n".join(table(rows)))


@model_app.command("retire")
def retire(
    name: Name,
    version: Number,
    reason: Annotated[str, typer.Option(help="The reason, kept in the history.")] = "",
    home: Home = Path(".limen"),
    server: Server = "",
    as_json: AsJson = False,
) -> None:
    """Retire a version; it stays in the registry and can be restored."""
    with editing(home, server) as management:
        done = management.retire(name, version, reason)
    print_json(done) if as_json else typer.echo(f"version {version} of {name} is retired")


@model_app.command("delete", hidden=True, context_settings={"ignore_unknown_options": True})
def delete(_: Annotated[list[str] | None, typer.Argument(hidden=True)] = None) -> None:
    """Say what to use instead."""
    from limen.cli.words import CommandError

    raise CommandError(
        "versions cannot be deleted, so that every past answer can be explained",
        "To stop using a version, run `limen model retire MODEL VERSION`.",
    )


@model_app.command("restore")
def restore(
    name: Name, version: Number, home: Home = Path(".limen"), server: Server = "", as_json: AsJson = False
) -> None:
    """Restore a retired version."""
    with editing(home, server) as management:
        done = management.restore(name, version)
    print_json(done) if as_json else typer.echo(f"version {version} of {name} is restored")


@model_app.command("tag")
def tag(
    name: Name,
    tags: Annotated[list[str], typer.Argument(metavar="KEY=VALUE", help="Tag to set; KEY= removes it.")],
    version: Annotated[int, typer.Option(metavar="N", min=0, help="Version to tag; 0 tags the model.")] = 0,
    home: Home = Path(".limen"),
    server: Server = "",
    as_json: AsJson = False,
) -> None:
    """Set or remove tags of a model or a version."""
    from limen.cli.words import CommandError

    changes: dict[str, str | None] = {}
    for given in tags:
        key, equals, value = given.partition("=")
        if not equals or not key:
            raise CommandError(f"{given} is not KEY=VALUE", "KEY= removes a tag.")
        changes[key] = value or None
    with editing(home, server) as management:
        found = management.tag_version(name, version, changes) if version else management.tag_model(name, changes)
    text = ", ".join(f"{key}={value}" for key, value in sorted(found.tags.items())) or "no tags"
    print_json(found) if as_json else typer.echo(text)


@model_app.command("archive")
def archive(
    name: Name,
    version: Number,
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="File to write.")] = None,
    home: Home = Path(".limen"),
    server: Server = "",
    as_json: AsJson = False,
) -> None:
    """Write the archive of a version to a file."""
    from limen.cli.words import CommandError

    target = output or Path(f"{name}-{version}.limen")
    if target.is_dir() or not target.parent.is_dir():
        raise CommandError(f"cannot write {target}: no such folder", "Choose the file with --output FILE.")
    with managing(home, server) as management:
        path = management.archive(name, version, target)
    print_json({"path": str(path)}) if as_json else typer.echo(str(path))


@alias_app.command("set")
def set_alias(
    name: Name,
    alias: Annotated[str, typer.Argument(metavar="ALIAS", help="Such as champion.")],
    version: Number,
    wait: Annotated[
        bool, typer.Option(help="Wait until every endpoint that follows the alias is ready with the version.")
    ] = True,
    home: Home = Path(".limen"),
    server: Server = "",
    as_json: AsJson = False,
) -> None:
    """Point an alias at a version; endpoints that follow the alias go to that version.

    When one of them cannot, the alias goes back to the version it named before.
    """
    with editing(home, server) as management:
        before = management.model(name).aliases.get(alias)
        done = management.set_alias(name, alias, version)
        told = wait_for_followers(management, done, before) if wait else []
    if as_json:
        print_json(done)
        return
    moved = f", instead of version {before}" if before not in {None, version} else ""
    typer.echo("\n".join([f"{name}@{alias} is version {version}{moved}", *told]))


@alias_app.command("list")
def list_aliases(name: Name, home: Home = Path(".limen"), server: Server = "", as_json: AsJson = False) -> None:
    """List the aliases of a model."""
    with reading(home, server) as management:
        found = [a for page in pages(lambda **options: management.aliases(name, **options)) for a in page.items]
    if as_json:
        print_json(found)
        return
    rows = [("ALIAS", "VERSION", "SINCE"), *((a.alias, str(a.version), when(a.updated_at)) for a in found)]
    typer.echo("\n".join(table(rows)) if found else f"{name} has no aliases.")


@alias_app.command("remove")
def remove_alias(
    name: Name,
    alias: Annotated[str, typer.Argument(metavar="ALIAS", help="Such as champion.")],
    home: Home = Path(".limen"),
    server: Server = "",
    as_json: AsJson = False,
) -> None:
    """Remove an alias that no endpoint follows."""
    with editing(home, server) as management:
        management.remove_alias(name, alias)
    print_json({"model": name, "alias": alias}) if as_json else typer.echo(f"removed {name}@{alias}")


def _print_published(done: Published, alias: str) -> None:
    version = done.version
    named = f", {version.model}@{alias}" if alias else ""
    known = "" if done.is_new else " already"
    typer.echo(
        f"{version.model} is version {version.number}{known}{named}  (major {version.major}, {version.digest[:12]})"
    )
    for evidence in done.evidence if done.is_new else ():
        typer.echo(f"  {_evidence_line(evidence)}")


def _print_version(version: ModelVersion, evidence: tuple[Evidence, ...]) -> None:
    lineage = version.lineage
    facts = {
        "digest": version.digest,
        "major": str(version.major),
        "backend": version.backend,
        "aliases": ", ".join(version.aliases),
        "tags": ", ".join(f"{key}={value}" for key, value in sorted(version.tags.items())),
        "source": lineage.source,
        "data": lineage.data,
        "code": lineage.code,
        "compared with": f"version {lineage.parent}" if lineage.parent else "",
        "signed by": version.signer,
        "published": when(version.created_at),
        "retired": (version.retired_reason or "yes") if version.is_retired else "",
    }
    typer.echo(f"{version.model} version {version.number}")
    for key, value in facts.items():
        if value:
            typer.echo(f"  {key:<14}{value}")
    for found in evidence:
        typer.echo(f"  {_evidence_line(found)}")


def _evidence_line(evidence: Evidence) -> str:
    from limen.cli.words import paint
    from limen.contracts.catalogue import EvidenceKind, Verdict

    colours = {Verdict.PASS: "32", Verdict.FAIL: "31;1", Verdict.INCONCLUSIVE: "33"}
    word, colour = evidence.verdict.value, colours[evidence.verdict]
    if evidence.kind is EvidenceKind.BEHAVIOUR and evidence.verdict is Verdict.FAIL:
        # A better model answers differently: that is told, and refused by --same-answers only.
        word, colour = "DIFFERS", "33"
    verdict = paint(f"{word:<13}", colour)
    return f"{verdict} {evidence.kind.value:<14}{evidence_text(evidence)}".rstrip()


def evidence_text(evidence: Evidence) -> str:
    """Return what a piece of evidence says in a few words; nothing when it is of a kind that we know nothing of."""
    from limen.contracts.catalogue import EvidenceKind

    body = evidence.body if isinstance(evidence.body, dict) else {}
    against = f" version {body['against']}" if "against" in body else ""
    match evidence.kind:
        case EvidenceKind.SCAN:
            return f"known formats and no pickles; loaded in {body.get('load_s', 0):.2f} s in a separate process"
        case EvidenceKind.COMPATIBILITY:
            changed = [finding["path"] for finding in body.get("findings", ())]
            return f"does not break callers of{against}{_first(changed)}" if changed else f"the contract of{against}"
        case EvidenceKind.GOLDEN:
            if not body.get("compared") and not body.get("differences"):
                return "no example has an answer to compare; `limen check --record` saves answers"
            return f"{_compared(body)} as recorded in the package{_first(body.get('differences', ()))}"
        case EvidenceKind.BEHAVIOUR:
            return f"{_compared(body)} of{against} as before{_first(body.get('differences', ()))}"
        case _:
            return str(body.get("text", ""))


def _compared(body: dict[str, Any]) -> str:
    """Return how many examples were answered rightly, of those that say what is right."""
    different = {str(line).partition(".")[0].partition(":")[0] for line in body.get("differences", ())}
    compared = body.get("compared", 0)
    return f"{max(compared - len(different), 0)} of {compared} examples answered"


def _first(lines: Sequence[str]) -> str:
    """Return the first of several things, and how many more there are."""
    if not lines:
        return ""
    return f": {lines[0]}" + (f" (and {len(lines) - 1} more)" if len(lines) > 1 else "")
