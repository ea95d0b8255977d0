"""Handlers of models, aliases and what versions differ in."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Request, Response, delete, get, patch, put
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import Parameter

from limen.admin.requests import page_of, tags_of, window_of
from limen.admin.services import ANYBODY, Services, shown
from limen.contracts.catalogue import Alias, Model
from limen.contracts.errors import InvalidArgument, Reason
from limen.contracts.management import AliasTarget, Page, TagChanges, VersionDiff
from limen.contracts.names import parse_alias, parse_model_name

Caller = Request[Any, Any, Any]


@get("/models", responses={200: ResponseSpec(Page[Model])}, summary="Models by name")
async def list_models(
    request: Caller,
    services: Services,
    limit: str | None = None,
    cursor: str | None = None,
    tag: list[str] | None = None,
) -> Response[bytes]:
    """Return a page of the models."""
    window, tags = window_of(request, limit, cursor), tags_of(tag)
    found = await services.read(lambda s: s.registry.models(after=window.after, limit=window.limit + 1, tags=tags))
    return shown(page_of(request, window, found, [model.name for model in found]))


@get("/models/{m:str}", responses={200: ResponseSpec(Model)}, summary="One model")
async def show_model(m: str, services: Services) -> Response[bytes]:
    """Return one model."""
    name = parse_model_name(m, "model")
    return shown(await services.read(lambda s: s.registry.model(name)))


@patch("/models/{m:str}", responses={200: ResponseSpec(Model)}, summary="Set tags of a model")
async def tag_model(request: Caller, m: str, data: TagChanges, services: Services) -> Response[bytes]:
    """Set tags, and remove those that are null."""
    name = parse_model_name(m, "model")
    return await services.change(
        request,
        lambda c, catalogue, seen: catalogue.stores.registry.set_tags(
            c, name, None, data.tags, expected=seen.expected, by=ANYBODY
        ),
    )


@get("/models/{m:str}/diff", name="diff", responses={200: ResponseSpec(VersionDiff)}, summary="Two versions compared")
async def diff(
    m: str,
    services: Services,
    before: Annotated[str | None, Parameter(query="from")] = None,
    after: Annotated[str | None, Parameter(query="to")] = None,
) -> Response[bytes]:
    """Return what callers of one version would notice of another."""
    name = parse_model_name(m, "model")
    for parameter, given in (("from", before), ("to", after)):
        if not given:
            raise InvalidArgument.at(parameter, "is required: a number or an alias", Reason.INVALID_PARAMETER)
    return shown(await services.read(lambda _: services.catalogue.diff(name, str(before), str(after))))


@get("/models/{m:str}/aliases", responses={200: ResponseSpec(Page[Alias])}, summary="Aliases of a model")
async def list_aliases(
    request: Caller, m: str, services: Services, limit: str | None = None, cursor: str | None = None
) -> Response[bytes]:
    """Return a page of the aliases, by name."""
    name, window = parse_model_name(m, "model"), window_of(request, limit, cursor)
    aliases = await services.read(lambda s: s.registry.aliases(name))
    found = [alias for alias in aliases if alias.alias > window.after][: window.limit + 1]
    return shown(page_of(request, window, found, [alias.alias for alias in found]))


@put(
    "/models/{m:str}/aliases/{a:str}",
    responses={200: ResponseSpec(Alias), 201: ResponseSpec(Alias, description="It is new.")},
    summary="Have an alias name a version",
)
async def set_alias(request: Caller, m: str, a: str, data: AliasTarget, services: Services) -> Response[bytes]:
    """Have an alias name a version, and with it the endpoints that follow the alias."""
    name, alias = parse_model_name(m, "model"), parse_alias(a)
    return await services.change(
        request,
        lambda c, catalogue, seen: catalogue.set_alias(
            c, name, alias, data.version, expected=seen.expected, by=ANYBODY
        ),
        status=lambda made: 201 if made.revision == 1 else 200,
    )


@delete("/models/{m:str}/aliases/{a:str}", status_code=200, summary="Remove an alias")
async def remove_alias(request: Caller, m: str, a: str, services: Services) -> Response[bytes]:
    """Remove an alias that no endpoint follows."""
    name, alias = parse_model_name(m, "model"), parse_alias(a)
    return await services.change(
        request, lambda c, catalogue, seen: catalogue.remove_alias(c, name, alias, expected=seen.expected)
    )


HANDLERS = (list_models, show_model, tag_model, diff, list_aliases, set_alias, remove_alias)
