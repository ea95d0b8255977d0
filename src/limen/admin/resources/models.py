"""Handlers of models, aliases and comparisons of versions."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Request, Response, delete, get, patch, put
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from sqlalchemy import Connection

from limen.admin.requests import page_of, tags_of, window_of
from limen.admin.services import NOTHING, Done, Given, shown
from limen.admin.strictness import declares
from limen.contracts.catalogue import Alias, Model
from limen.contracts.errors import InvalidArgument, Reason
from limen.contracts.identity import LOCAL
from limen.contracts.management import AliasTarget, Page, TagChanges, VersionDiff
from limen.contracts.names import is_reference, parse_alias, parse_model_name
from limen.management.catalogue import Catalogue

Caller = Request[Any, Any, Any]


@get(
    "/models",
    opt=declares("models.read", "limit", "cursor", "tag", gives=Page[Model]),
    summary="Models by name",
)
async def list_models(
    request: Caller,
    services: Given,
    limit: FromQuery[str | None] = None,
    cursor: FromQuery[str | None] = None,
    tag: FromQuery[list[str] | None] = None,
) -> Response[bytes]:
    """Return a page of the models."""
    window, tags = window_of(request, limit, cursor), tags_of(tag)
    found = await services.read(lambda s: s.registry.models(after=window.after, limit=window.limit + 1, tags=tags))
    return shown(page_of(request, window, found, [model.name for model in found]))


@get(
    "/models/{m:str}",
    opt=declares("models.read", gives=Model),
    summary="One model",
)
async def show_model(m: FromPath[str], services: Given) -> Response[bytes]:
    """Return one model."""
    name = parse_model_name(m, "model")
    return shown(await services.read(lambda s: s.registry.model(name)))


@patch(
    "/models/{m:str}",
    opt=declares("models.tag", gives=Model, on_revision=True),
    summary="Set tags of a model",
)
async def tag_model(request: Caller, m: FromPath[str], data: JSONBody[TagChanges], services: Given) -> Response[bytes]:
    """Set tags, and remove those that are null."""
    name = parse_model_name(m, "model")
    return await services.change(
        request,
        lambda c, catalogue, expected: Done(
            catalogue.stores.registry.set_tags(c, name, None, data.tags, expected=expected, by=LOCAL.id)
        ),
    )


@get(
    "/models/{m:str}/diff",
    opt=declares("models.read", "from", "to", gives=VersionDiff),
    summary="Compare two versions",
)
async def diff(
    m: FromPath[str],
    services: Given,
    before: Annotated[str | None, QueryParameter(name="from")] = None,
    after: Annotated[str | None, QueryParameter(name="to")] = None,
) -> Response[bytes]:
    """Return what callers of one version would notice of another."""
    name = parse_model_name(m, "model")
    old, new = _reference(before, "from"), _reference(after, "to")
    return shown(await services.read(lambda stores: Catalogue(stores).diff(name, old, new)))


@get(
    "/models/{m:str}/aliases",
    opt=declares("models.read", "limit", "cursor", gives=Page[Alias]),
    summary="Aliases of a model",
)
async def list_aliases(
    request: Caller,
    m: FromPath[str],
    services: Given,
    limit: FromQuery[str | None] = None,
    cursor: FromQuery[str | None] = None,
) -> Response[bytes]:
    """Return a page of the aliases, by name."""
    name, window = parse_model_name(m, "model"), window_of(request, limit, cursor)
    aliases = await services.read(lambda s: s.registry.aliases(name))
    found = [alias for alias in aliases if alias.alias > window.after][: window.limit + 1]
    return shown(page_of(request, window, found, [alias.alias for alias in found]))


@put(
    "/models/{m:str}/aliases/{a:str}",
    opt=declares("aliases.set", gives=Alias, may_be_new=True, on_revision=True),
    summary="Point an alias at a version",
)
async def set_alias(
    request: Caller, m: FromPath[str], a: FromPath[str], data: JSONBody[AliasTarget], services: Given
) -> Response[bytes]:
    """Point an alias at a version, and with it the endpoints that follow the alias."""
    name, alias = parse_model_name(m, "model"), parse_alias(a)

    def work(connection: Connection, catalogue: Catalogue, expected: int | None) -> Done:
        is_new = alias not in catalogue.stores.registry.model(name).aliases
        made = catalogue.set_alias(connection, name, alias, data.version, expected=expected, by=LOCAL.id)
        return Done(made, 201 if is_new else 200)

    def first(catalogue: Catalogue) -> None:
        catalogue.ensure_alias_can_move(name, alias, data.version)

    return await services.change(request, work, first=first)


@delete(
    "/models/{m:str}/aliases/{a:str}",
    opt=declares("aliases.set", on_revision=True),
    status_code=200,
    summary="Remove an alias",
)
async def remove_alias(request: Caller, m: FromPath[str], a: FromPath[str], services: Given) -> Response[bytes]:
    """Remove an alias that no endpoint follows."""
    name, alias = parse_model_name(m, "model"), parse_alias(a)

    def work(connection: Connection, catalogue: Catalogue, expected: int | None) -> Done:
        catalogue.remove_alias(connection, name, alias, expected=expected, by=LOCAL.id)
        return NOTHING

    return await services.change(request, work)


HANDLERS = (list_models, show_model, tag_model, diff, list_aliases, set_alias, remove_alias)


def _reference(given: str | None, parameter: str) -> str:
    if given is None or not is_reference(given):
        raise InvalidArgument.at(parameter, "must be the number of a version or an alias", Reason.INVALID_PARAMETER)
    return given
