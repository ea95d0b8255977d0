"""`limen registry …`: backup, restore, integrity check, and the choice of the registry that a home follows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from limen.cli.connection import AsJson, Config, Home, print_json, without_registry

if TYPE_CHECKING:
    from limen.cli.words import CommandError
    from limen.serving.sources.adoption import Adoption
    from limen.storage.backup import Backup
    from limen.storage.config import StorageConfig

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of the backup.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]
app = typer.Typer(help="Back up, restore and check the registry.", no_args_is_help=True)


def register(typer_app: typer.Typer) -> None:
    """Add the commands."""
    typer_app.add_typer(app, name="registry")


@app.command("backup")
def backup(folder: Folder, home: Home = Path(".limen"), config: Config = None, as_json: AsJson = False) -> None:
    """Copy the registry to a folder, while servers work with it.

    The same folder can be used again: only what is new is copied.
    """
    from limen.cli.words import counted
    from limen.management.stores import open_registry, utc_now
    from limen.storage.backup import back_up

    where = _where(home, config)
    with without_registry(home, where.database_url):
        stores = open_registry(where, create=False)
    try:
        made = back_up(stores.database, stores.blobs, folder, utc_now())
    finally:
        stores.close()
    if as_json:
        print_json(made)
    else:
        typer.echo(f"{folder} holds the registry at revision {made.revision}: {_counts(made)}")
    if made.lacking:
        raise _lacking(f"could not copy {counted(len(made.lacking), 'blob')}: damaged or lost")


@app.command("restore")
def restore(folder: Folder, home: Home = Path(".limen"), config: Config = None, as_json: AsJson = False) -> None:
    """Bring a registry back from a backup, to where there is none or an empty one.

    The home follows it from then on. Servers with other homes go on with their last plan until `limen registry adopt` is run there.
    """
    from limen.cli.words import counted
    from limen.serving.sources.adoption import adopt
    from limen.storage.backup import bring_back, read_backup
    from limen.storage.blobs import open_blobs

    where, found = _where(home, config), read_backup(folder)
    bring_back(folder, found, where.database_address, open_blobs(where.blobs_address, s3_endpoint=where.s3_endpoint))
    done = adopt(where)
    if as_json:
        print_json(done)
    else:
        when = found.made_at.astimezone().strftime("%Y-%m-%d %H:%M")
        typer.echo(f"the registry is restored to {when}, revision {found.revision}: {_counts(found)}")
    if found.lacking:
        raise _lacking(f"the backup is missing {counted(len(found.lacking), 'blob')}")


@app.command("check")
def check(
    quick: Annotated[bool, typer.Option("--quick", help="Check only that files exist; do not read them.")] = False,
    home: Home = Path(".limen"),
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Say what is damaged or lost: in the database, and of the package of every version."""
    from limen.cli.words import counted, problem
    from limen.serving.sources.registry_check import check_registry
    from limen.storage import causes

    where = _where(home, config)
    with without_registry(home, where.database_url):
        found = check_registry(where, quick=quick)
    if as_json:
        print_json(found)
    else:
        counts = (found.models, "model"), (found.versions, "version"), (found.endpoints, "endpoint")
        typer.echo(
            f"registry {found.registry[:12]}, revision {found.revision}: {', '.join(counted(*c) for c in counts)}"
        )
    if not found.findings:
        if not as_json:
            typer.echo("everything is present" if quick else "everything is present and intact")
        return
    if not as_json:
        lines = [f"{finding.about}: {finding.what}" for finding in found.findings]
        hint = next((step for finding in found.findings if (step := causes.next_step(finding.what))), "")
        problem(f"found {counted(len(lines), 'problem')}", lines, hint=hint)
    raise typer.Exit(1)


@app.command("adopt")
def adopt_command(
    yes: Yes = False, home: Home = Path(".limen"), config: Config = None, as_json: AsJson = False
) -> None:
    """Have this home follow the registry that is there now, though it is another one than before, or has gone back to an earlier state.

    A server that runs on the home follows within seconds.
    """
    from limen.cli.commands.endpoint import agreed
    from limen.serving.sources.adoption import adopt, outlook

    where = _where(home, config)
    found = outlook(where)
    if not found.is_needed:
        print_json(found) if as_json else typer.echo(f"{home} already follows this registry, revision {found.revision}")
        return
    if not as_json:
        typer.echo("\n".join(_told(found)))
    if not yes and not agreed("Follow it?", is_possible=not as_json):
        raise typer.Exit(1)
    done = adopt(where)
    print_json(done) if as_json else typer.echo(
        f"{home} follows registry {done.registry[:12]}, revision {done.revision}"
    )


def _told(found: Adoption) -> list[str]:
    is_other = found.before_registry != found.registry
    which = f"registry {found.registry[:12] or '(a new, empty one)'}" if is_other else "the same registry"
    lines = [
        f"followed so far  registry {found.before_registry[:12] or '(unknown)'}, revision {found.before_revision}",
        f"there now        {which}, revision {found.revision}",
    ]
    lines += [f"  - {name}: no longer served" for name in found.gone]
    lines += [f"  + {name}: newly served" for name in found.new]
    lines += [f"  ~ {name}: changes to this registry's spec" for name in found.changed]
    return lines


def _counts(backup: Backup) -> str:
    from limen.cli.words import counted

    return f"{counted(backup.rows['versions'], 'version')}, {counted(backup.rows['endpoints'], 'endpoint')}"


def _lacking(what: str) -> CommandError:
    from limen.cli.words import CommandError

    return CommandError(
        what, "`limen registry check` lists the affected versions; publish their packages again to repair them."
    )


def _where(home: Path, config: Path | None) -> StorageConfig:
    from limen.settings import load_settings

    return load_settings(config, {"registry.home": str(home)}).registry
