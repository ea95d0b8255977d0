"""`limen endpoint …`: the public names that callers use."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from limen.cli.conditions import condition_lines
from limen.cli.connection import AsJson, Home, Server, editing, pages, print_json, reading, table, when

if TYPE_CHECKING:
    from limen.app.editing import RegistryEditor
    from limen.client import Management
    from limen.contracts.catalogue import Alias, ModelVersion
    from limen.contracts.endpoint import Endpoint, EndpointStatus
    from limen.contracts.management import EndpointPreview

Name = Annotated[str, typer.Argument(metavar="ENDPOINT", help="The public name.")]
READY_S = 330.0
"""How long `apply` and `alias set` wait for a server to follow; as long as a model may take to load."""
app = typer.Typer(help="Public names that callers use, and the versions behind them.", no_args_is_help=True)


def register(root: typer.Typer) -> None:
    """Add the commands."""
    root.add_typer(app, name="endpoint")


@app.command("apply", short_help="Apply endpoint.yaml after showing what would change.")
def apply(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="endpoint.yaml")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    wait: Annotated[bool, typer.Option(help="Wait until the server serves it.")] = True,
    home: Home = Path(".limen"),
    server: Server = "",
    as_json: AsJson = False,
) -> None:
    """Apply the endpoint that a file describes, after showing what would change."""
    from limen.cli.words import CommandError
    from limen.traffic.endpoints import parse_spec

    if not file.is_file():
        raise CommandError(
            f"no such file: {file}", "The file describes the endpoint; it needs at least `name` and `traffic`."
        )
    spec = parse_spec(file.read_bytes(), str(file))
    with editing(home, server) as management:
        preview = management.preview_endpoint(spec)
        if not as_json:
            _print_preview(preview)
        if preview.changes:
            if not yes and not agreed(is_possible=not as_json):
                raise typer.Exit(1)
            applied = management.apply_endpoint(spec, expected=preview.revision)
            told = _wait(management, applied) if wait else f"{spec.name} has revision {applied.revision}"
            if not as_json:
                typer.echo(told)
        if as_json:
            print_json(management.endpoint(spec.name))


@app.command("list")
def list_endpoints(home: Home = Path(".limen"), server: Server = "", as_json: AsJson = False) -> None:
    """List the endpoints and whether they are ready."""
    with reading(home, server) as management:
        found = [endpoint for page in pages(management.endpoints) for endpoint in page.items]
    if as_json:
        print_json(found)
        return
    rows = [("ENDPOINT", "MODEL", "TRAFFIC", "ANSWERS", "STATE")]
    for endpoint in found:
        spec, status = endpoint.spec, endpoint.status
        traffic = ", ".join(f"{reference} {weight} %" for reference, weight in spec.traffic.items())
        answers = ", ".join(f"version {route.version}" for route in status.routes)
        rows.append((spec.name, spec.model, traffic, answers or "–", _state(endpoint)))
    typer.echo("\n".join(table(rows)) if found else "No endpoints yet; create one with `limen endpoint apply FILE`.")


@app.command("show", short_help="Show the spec and the state of an endpoint.")
def show(name: Name, home: Home = Path(".limen"), server: Server = "", as_json: AsJson = False) -> None:
    """Show an endpoint: its spec, its state and its history."""
    from limen.traffic.endpoints import spec_text

    with reading(home, server) as management:
        endpoint = management.endpoint(name)
        history = management.endpoint_history(name, limit=5).items
    if as_json:
        print_json(endpoint)
        return
    typer.echo(spec_text(endpoint.spec).rstrip())
    typer.echo(f"\nrevision {endpoint.revision}, {_state(endpoint)}")
    for route in endpoint.status.routes:
        typer.echo(f"  {route.weight:>3} %  version {route.version}")
    for version in endpoint.status.versions:
        reason = f": {version.reason}" if version.reason else ""
        typer.echo(f"  version {version.version}  {version.state}{reason}")
    for line in condition_lines(endpoint.status.conditions):
        typer.echo(f"  {line}")
    for change in history:
        what = "removed" if change.spec is None else ", ".join(f"{r} {w} %" for r, w in change.spec.traffic.items())
        typer.echo(f"  {when(change.changed_at)}  revision {change.revision}: {what}")


@app.command("delete", short_help="Remove an endpoint.")
def delete(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    home: Home = Path(".limen"),
    server: Server = "",
    as_json: AsJson = False,
) -> None:
    """Remove an endpoint: its callers are told that there is none."""
    with editing(home, server) as management:
        endpoint = management.endpoint(name)
        if not yes and not agreed(f"Remove {name}? Its callers will get errors.", is_possible=not as_json):
            raise typer.Exit(1)
        management.remove_endpoint(name, expected=endpoint.revision)
    print_json({"name": name}) if as_json else typer.echo(f"removed {name}")


@app.command("schema")
def schema() -> None:
    """Print the JSON Schema of endpoint.yaml, for editors."""
    from limen.traffic.endpoints import endpoint_schema

    print_json(endpoint_schema())


def _print_preview(preview: EndpointPreview) -> None:
    from limen.cli.words import paint

    if not preview.changes:
        typer.echo(f"{preview.name} is up to date (revision {preview.revision})")
        return
    typer.echo(f"{preview.name}: " + ("a new endpoint" if preview.is_new else f"changes revision {preview.revision}"))
    for change in preview.changes:
        if change.before is not None:
            typer.echo(paint(f"  - {change.path}: {_plain(change.before)}", "31"))
        if change.after is not None:
            typer.echo(paint(f"  + {change.path}: {_plain(change.after)}", "32"))


def _plain(value: object) -> str:
    import msgspec

    return msgspec.json.encode(value).decode()


def agreed(question: str = "Apply this?", *, is_possible: bool = True) -> bool:
    """Ask a person, and return whether the answer is yes; without one, say what to do instead."""
    import sys

    from limen.cli.words import CommandError

    if not is_possible or not sys.stdin.isatty():
        raise CommandError(
            "confirmation is needed, and this is not an interactive terminal", "Use --yes to skip the confirmation."
        )
    return typer.confirm(question)


def _wait(management: Management | RegistryEditor, applied: Endpoint) -> str:
    """Wait until the server follows, and return what to tell; or say why it cannot."""
    from limen.cli.words import CommandError

    name, until = applied.spec.name, time.monotonic() + READY_S
    if management.status().server is None:
        return f"{name} has revision {applied.revision}; `limen serve` serves it"
    while time.monotonic() < until:
        endpoint = management.endpoint(name)
        status = endpoint.status
        if endpoint.revision != applied.revision:
            raise CommandError(f"someone else changed {name} in the meantime", "See `limen endpoint show`.")
        if status.observed_revision >= applied.revision and _is_done(status):
            if status.problem and not applied.spec.is_paused:
                kept = ", ".join(f"version {route.version}" for route in status.routes)
                hint = f"It keeps serving {kept}." if kept else "No version answers its requests."
                raise CommandError(f"{name} cannot be brought to its spec: {status.problem}", hint)
            return f"{name} is {_state(endpoint)}, revision {endpoint.revision}"
        time.sleep(0.1)
    raise CommandError(f"{name} is not ready after {READY_S:.0f} s", "Follow it with `limen endpoint show`.")


def _is_done(status: EndpointStatus) -> bool:
    """Whether a server has done what it can for a spec, and how that ended is known."""
    return status.is_settled and (status.is_ready or bool(status.problem))


def open_endpoint(management: Management, version: ModelVersion, alias: str) -> str:
    """Open the endpoint of a model's own name unless an endpoint serves it, and return what to tell once it answers.

    Args:
        management: of the registry.
        version: the version to serve.
        alias: what the endpoint follows; the version itself when empty.
    """
    from limen.contracts.endpoint import EndpointSpec

    if served := _endpoints_of(management, version.model, version.major):
        names = ", ".join(endpoint.spec.name for endpoint in served)
        return f"{version.model} already has an endpoint: {names}"
    name = version.model if version.major == 1 else f"{version.model}.v{version.major}"
    traffic = {alias or str(version.number): 100}
    spec = EndpointSpec(name=name, model=version.model, major=version.major, traffic=traffic)
    return _wait(management, management.apply_endpoint(spec, expected=0))


def without_endpoint(management: Management, model: str) -> str:
    """Return a hint if no endpoint serves a model; nothing if one does."""
    if _endpoints_of(management, model):
        return ""
    return f"No endpoint serves {model} yet: open one with `limen publish … --endpoint` or `limen endpoint apply`."


def _endpoints_of(management: Management, model: str, major: int | None = None) -> list[Endpoint]:
    found = [endpoint for page in pages(management.endpoints) for endpoint in page.items]
    return [e for e in found if e.spec.model == model and major in {None, e.spec.major}]


def wait_for_followers(management: Management | RegistryEditor, alias: Alias, before: int | None = None) -> list[str]:
    """Wait until the endpoints that follow an alias are what it says now, and return what to tell; or say which cannot be.

    Args:
        management: of the registry.
        alias: as it is now.
        before: the version that it named before. The alias goes back to it when its new version is why an endpoint cannot follow:
            a server that starts later serves what works.
    """
    from limen.cli.words import CommandError
    from limen.contracts.errors import Unavailable

    model, until = alias.model, time.monotonic() + READY_S
    name = f"{model}@{alias.alias}"
    if management.status().server is None:
        return []
    try:
        management.reload()  # what is read below is newer than the alias
    except Unavailable as exc:
        what = f"{name} is version {alias.version}, but the state of its endpoints is unknown: {exc.message}"
        raise CommandError(what, "Check later with `limen endpoint list`.") from exc
    while time.monotonic() < until:
        found = [e for page in pages(management.endpoints) for e in page.items if _follows(e, alias)]
        if all(_is_done(e.status) for e in found):
            if bad := [e for e in found if e.status.problem]:
                whys = "; ".join(f"{e.spec.name}: {e.status.problem}" for e in bad)
                is_its_fault = any(e.status.problem.startswith(f"version {alias.version}:") for e in bad)
                if is_its_fault and before not in {None, alias.version}:
                    management.set_alias(model, alias.alias, before or 0, expected=alias.revision)
                    what = f"{name} stays at version {before}: its endpoints cannot move to version {alias.version}: {whys}"
                    raise CommandError(what, f"See `limen endpoint show {bad[0].spec.name}`.")
                what = f"{name} is version {alias.version}, but not every endpoint could move to it: {whys}"
                raise CommandError(what, f"See `limen endpoint show {bad[0].spec.name}` for what answers meanwhile.")
            return [f"{e.spec.name} is ready with version {alias.version}" for e in found]
        time.sleep(0.1)
    what = f"{name} is version {alias.version}, but its endpoints are not ready after {READY_S:.0f} s"
    raise CommandError(what, "Follow them with `limen endpoint list`.")


def _follows(endpoint: Endpoint, alias: Alias) -> bool:
    spec = endpoint.spec
    return (
        spec.model == alias.model and not spec.is_paused and (alias.alias in spec.traffic or alias.alias in spec.ready)
    )


def _state(endpoint: Endpoint) -> str:
    status = endpoint.status
    if endpoint.spec.is_paused:
        return "paused"
    if not status.observed_revision:
        return "not served"
    if status.problem:
        return f"not as specified: {status.problem}"
    if not status.is_ready:
        return "on its way"
    return "ready" if status.is_settled else "ready, updating"
