"""Handlers of endpoints."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Request, Response, delete, get, post, put
from litestar.openapi.datastructures import ResponseSpec

from limen.admin.requests import page_of, window_of
from limen.admin.services import ANYBODY, Services, shown
from limen.contracts.endpoint import Endpoint, EndpointSpec, EndpointStatus
from limen.contracts.errors import InvalidArgument, Reason
from limen.contracts.management import EndpointPreview, EndpointRevision, Page
from limen.contracts.names import parse_model_name
from limen.traffic.endpoint_store import StoredEndpoint
from limen.traffic.endpoints import parse_spec, plain_spec

Caller = Request[Any, Any, Any]


@get("/endpoints", responses={200: ResponseSpec(Page[Endpoint])}, summary="Endpoints by name")
async def list_endpoints(
    request: Caller, services: Services, limit: str | None = None, cursor: str | None = None
) -> Response[bytes]:
    """Return a page of the endpoints, each with its status."""
    window = window_of(request, limit, cursor)
    stored = await services.read(lambda s: s.endpoints.list(after=window.after, limit=window.limit + 1))
    statuses = services.statuses()
    found = [_endpoint(s, statuses.get(s.spec.name)) for s in stored]
    return shown(page_of(request, window, found, [endpoint.spec.name for endpoint in found]))


@get("/endpoints/{e:str}", responses={200: ResponseSpec(Endpoint)}, summary="One endpoint")
async def show_endpoint(e: str, services: Services) -> Response[bytes]:
    """Return one endpoint with its status."""
    name = parse_model_name(e, "endpoint")
    stored = await services.read(lambda s: s.endpoints.get(name))
    return shown(_endpoint(stored, services.statuses().get(name)))


@put(
    "/endpoints/{e:str}",
    responses={200: ResponseSpec(Endpoint), 201: ResponseSpec(Endpoint, description="It is new.")},
    summary="Make a spec the one that holds",
)
async def apply_endpoint(request: Caller, e: str, data: EndpointSpec, services: Services) -> Response[bytes]:
    """Make a spec the one that holds."""
    spec = _spec(e, data)
    statuses = services.statuses()
    return await services.change(
        request,
        lambda c, catalogue, seen: catalogue.apply(c, spec, expected=seen.expected, by=ANYBODY),
        answer=lambda stored: _endpoint(stored, statuses.get(spec.name)),
        status=lambda stored: 201 if stored.created_at == stored.updated_at else 200,
    )


@delete("/endpoints/{e:str}", status_code=200, summary="Take an endpoint away")
async def remove_endpoint(request: Caller, e: str, services: Services) -> Response[bytes]:
    """Take an endpoint away."""
    name = parse_model_name(e, "endpoint")
    return await services.change(
        request,
        lambda c, catalogue, seen: catalogue.stores.endpoints.remove(c, name, expected=seen.expected, by=ANYBODY),
    )


@get("/endpoints/{e:str}/history", responses={200: ResponseSpec(Page[EndpointRevision])}, summary="What became of it")
async def history(
    request: Caller, e: str, services: Services, limit: str | None = None, cursor: str | None = None
) -> Response[bytes]:
    """Return a page of an endpoint's changes, newest first."""
    name, window = parse_model_name(e, "endpoint"), window_of(request, limit, cursor)
    found = await services.read(
        lambda s: s.endpoints.history(name, before=int(window.after or 0), limit=window.limit + 1)
    )
    changes = [msgspec.convert(c, EndpointRevision, from_attributes=True) for c in found]
    return shown(page_of(request, window, changes, [str(change.revision) for change in changes]))


@post(
    "/endpoints/{e:str}/preview",
    status_code=200,
    responses={200: ResponseSpec(EndpointPreview)},
    summary="What applying a spec would do",
)
async def preview(e: str, data: EndpointSpec, services: Services) -> Response[bytes]:
    """Return what applying a spec would change, after all checks that applying it makes."""
    spec = _spec(e, data)
    return shown(await services.read(lambda _: services.catalogue.preview(spec)))


HANDLERS = (list_endpoints, show_endpoint, apply_endpoint, remove_endpoint, history, preview)


def _spec(e: str, given: EndpointSpec) -> EndpointSpec:
    """Return a spec that is sound in itself and is of the endpoint in the path."""
    name = parse_model_name(e, "endpoint")
    if given.name != name:
        raise InvalidArgument.at("name", "must be the name in the path", Reason.INVALID_NAME)
    return parse_spec(plain_spec(given), "the spec")


def _endpoint(stored: StoredEndpoint, status: EndpointStatus | None) -> Endpoint:
    return Endpoint(
        spec=stored.spec,
        status=status or EndpointStatus(),
        revision=stored.revision,
        created_at=stored.created_at,
        updated_at=stored.updated_at,
        updated_by=stored.updated_by,
    )
