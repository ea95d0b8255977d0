"""`limen diff`: the effect of a new contract on callers of the old one.

Exit status: 0 when callers can go on as they are, or the new one has a major of its own; 1 when it would break them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from limen.cli.connection import Home, Server, reading, registered

if TYPE_CHECKING:
    from limen.contracts.compatibility.findings import Compatibility, Finding
    from limen.contracts.contract import Contract

_WIDTH = 12
"""Columns of the word that says what a finding means."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("diff", short_help="Show whether a new contract breaks callers.")(diff)


def diff(
    old: Annotated[
        str,
        typer.Argument(
            metavar="OLD", help="The contract in use: a package, or NAME/VERSION or NAME@ALIAS in the registry."
        ),
    ],
    new: Annotated[str, typer.Argument(metavar="NEW", help="The contract to replace it, in the same form.")],
    home: Home = Path(".limen"),
    server: Server = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Tell whether a new contract breaks callers of an old one, and why.

    Judges records, tensors and the typed Protobuf messages together. Ends with status 1 when callers would break within a major.
    """
    from limen.cli.words import problem
    from limen.contracts.compatibility.compare import compare

    before, after = contract_of(old, home, server), contract_of(new, home, server)
    found = compare(before, after)
    if as_json:
        _print_json(before, after, found)
    else:
        _print_findings(found)
    if found.breaks_callers:
        if not as_json:
            problem(f"{new} breaks callers of {old}", hint=_way_out(before, after))
        raise typer.Exit(1)
    if not as_json:
        typer.echo(_conclusion(new, old, after, found))


def contract_of(text: str, home: Path, server: str) -> Contract:
    """Return the contract that a word of the command line names: a package, or a version of the registry."""
    from limen.cli.words import existing_package
    from limen.packaging.archive.package import inspect

    named = registered(text)
    if named is None:
        return inspect(existing_package(Path(text))).manifest.contract
    with reading(home, server) as management:
        return management.version(*named).contract


def _print_findings(found: Compatibility) -> None:
    from limen.cli.words import counted, paint
    from limen.contracts.compatibility.findings import Change

    colours = {Change.BREAKING: "31;1", Change.NOTE: "33", Change.COMPATIBLE: "32"}
    for change, colour in colours.items():
        for finding in (f for f in found.findings if f.change is change):
            typer.echo(f"{paint(f'{change:<{_WIDTH}}', colour)}{_where(finding)}")
            typer.echo(f"{'':<{_WIDTH}}{finding.reason}")
    if found.findings:
        tally = {change: sum(f.change is change for f in found.findings) for change in colours}
        parts = [
            counted(count, change) if change is Change.NOTE else f"{count} {change}"
            for change, count in tally.items()
            if count
        ]
        typer.echo(f"\n{counted(len(found.findings), 'difference')}: {', '.join(parts)}")


def _where(finding: Finding) -> str:
    surfaces = ", ".join(finding.surfaces)
    return f"{finding.path} ({surfaces})" if surfaces else finding.path


def _conclusion(new: str, old: str, after: Contract, found: Compatibility) -> str:
    from limen.contracts.compatibility.findings import Change

    if found.old_major != found.new_major:
        endpoint = f" such as {after.name}.v{after.major}" if after.major > 1 else ""
        return (
            f"{new} has a different major, so it gets a separate endpoint{endpoint}; "
            f"callers of major {found.old_major} are not affected."
        )
    if not found.findings:
        return "The contracts are the same."
    notes = "; tell them about the notes" if found.verdict is Change.NOTE else ""
    return f"{new} does not break callers of {old}{notes}."


def _way_out(before: Contract, after: Contract) -> str:
    if before.name != after.name:
        return "These packages belong to different models. Versions of one model share one name."
    major = before.major + 1
    return (
        f"Undo the breaking changes, or set `major: {major}` in its model.yaml: it is then served next to "
        f"the old one, at the separate endpoint {after.name}.v{major}."
    )


def _print_json(before: Contract, after: Contract, found: Compatibility) -> None:
    import msgspec

    body = {
        "old": {"name": before.name, "major": before.major},
        "new": {"name": after.name, "major": after.major},
        "verdict": found.verdict,
        "breaks_callers": found.breaks_callers,
        "findings": found.findings,
    }
    typer.echo(msgspec.json.format(msgspec.json.encode(body), indent=2))
