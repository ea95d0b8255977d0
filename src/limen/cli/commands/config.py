"""`limen config check` and `limen config show`: the settings and their origins."""

from __future__ import annotations

from typing import Annotated

import typer

from limen.cli.connection import AsJson, Config, print_json


def register(app: typer.Typer) -> None:
    """Add the commands."""
    commands = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    commands.command("check", short_help="Find every mistake in the settings.")(check)
    commands.command("show", short_help="Print the settings.")(show)
    app.add_typer(
        commands, name="config", short_help="Check and show the settings.", help="Check and show the settings."
    )


def check(config: Config = None) -> None:
    """Find every mistake in the settings file and the environment, and in the keys they name."""
    from limen.cli.words import counted
    from limen.settings import load_settings

    settings = load_settings(config)
    given = sum(entry.origin != "default" for entry in settings.entries)
    trusted = 0
    if settings.trust.keys or settings.trust.revoked:
        from limen.packaging.signing.trust import Trust

        trust = Trust.of(settings.trust)
        trusted = len(trust.keys) + len(trust.authorities)
    typer.echo(f"The settings are valid: {counted(given, 'setting')} given, {counted(trusted, 'key')} trusted.")


def show(
    config: Config = None,
    origin: Annotated[
        bool, typer.Option("--origin", help="Say where each setting comes from, and which are live.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Print every setting as TOML, passwords masked."""
    import msgspec

    from limen.settings import load_settings

    entries = load_settings(config).entries
    if as_json:
        print_json(entries)
        return
    section = ""
    for entry in entries:
        table, _, name = entry.key.partition(".")
        if table != section:
            typer.echo(f"{chr(10) if section else ''}[{table}]")
            section = table
        line = f"{name} = {msgspec.json.encode(entry.value).decode()}"
        facts = f"{entry.origin}, live" if entry.live else entry.origin
        typer.echo(f"{line:<40}  # {facts}" if origin else line)
