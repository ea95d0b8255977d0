"""Handlers of endpoints."""

from __future__ import annotations

import re
from typing import Any

from litestar import Request, Response, delete, get, post, put
from litestar.params import FromPath, FromQuery, JSONBody
from sqlalchemy import Connection

from limen.admin.requests import page_of, window_of
from limen.admin.services import NOTHING, Done, Given, shown
from limen.admin.strictness import declares
from limen.contracts.endpoint import Endpoint, EndpointSpec, EndpointStatus
from limen.contracts.errors import InvalidArgument, Reason, Violation
from limen.contracts.identity import LOCAL
from limen.contracts.management import EndpointPreview, EndpointRevision, Page
from limen.contracts.names import parse_model_name
from limen.management.catalogue import Catalogue
from limen.traffic.endpoint_store import StoredEndpoint
from limen.traffic.endpoints import parse_spec, plain_spec

Caller = Request[Any, Any, Any]
_QUOTED = re.compile(r"\['.*?'\]", re.DOTALL)


@get(
    "/endpoints",
    opt=declares("endpoints.read", "limit", "cursor", gives=Page[Endpoint]),
    summary="Endpoints by name",
)
async def list_endpoints(
    request: Caller, services: Given, limit: FromQuery[str | None] = None, cursor: FromQuery[str | None] = None
) -> Response[bytes]:
    """Return a page of the endpoints, each with its status."""
    window = window_of(request, limit, cursor)
    stored = await services.read(lambda s: s.endpoints.list(after=window.after, limit=window.limit + 1))
    statuses = services.statuses()
    found = [_endpoint(s, statuses.get(s.spec.name)) for s in stored]
    return shown(page_of(request, window, found, [endpoint.spec.name for endpoint in found]))


@get(
    "/endpoints/{e:str}",
    opt=declares("endpoints.read", gives=Endpoint),
    summary="One endpoint",
)
async def show_endpoint(e: FromPath[str], services: Given) -> Response[bytes]:
    """Return one endpoint with its status."""
    name = parse_model_name(e, "endpoint")
    stored = await services.read(lambda s: s.endpoints.get(name))
    return shown(_endpoint(stored, services.statuses().get(name)))


@put(
    "/endpoints/{e:str}",
    opt=declares("endpoints.apply", gives=Endpoint, may_be_new=True, on_revision=True),
    summary="Apply a spec",
)
async def apply_endpoint(
    request: Caller, e: FromPath[str], data: JSONBody[EndpointSpec], services: Given
) -> Response[bytes]:
    """Apply a spec."""
    spec = _spec(e, data)
    status = services.statuses().get(spec.name)

    def work(connection: Connection, catalogue: Catalogue, expected: int | None) -> Done:
        is_new = catalogue.find(spec.name) is None
        stored = catalogue.apply(connection, spec, expected=expected, by=LOCAL.id)
        return Done(_endpoint(stored, status), 201 if is_new else 200)

    return await services.change(request, work, first=lambda catalogue: catalogue.ensure_can_serve(spec))


@delete(
    "/endpoints/{e:str}",
    opt=declares("endpoints.apply", on_revision=True),
    status_code=200,
    summary="Remove an endpoint",
)
async def remove_endpoint(request: Caller, e: FromPath[str], services: Given) -> Response[bytes]:
    """Remove an endpoint."""
    name = parse_model_name(e, "endpoint")

    def work(connection: Connection, catalogue: Catalogue, expected: int | None) -> Done:
        catalogue.stores.endpoints.remove(connection, name, expected=expected, by=LOCAL.id)
        return NOTHING

    return await services.change(request, work)


@get(
    "/endpoints/{e:str}/history",
    opt=declares("endpoints.read", "limit", "cursor", gives=Page[EndpointRevision]),
    summary="Its history",
)
async def history(
    request: Caller,
    e: FromPath[str],
    services: Given,
    limit: FromQuery[str | None] = None,
    cursor: FromQuery[str | None] = None,
) -> Response[bytes]:
    """Return a page of an endpoint's changes, newest first."""
    name, window = parse_model_name(e, "endpoint"), window_of(request, limit, cursor, of_numbers=True)
    found = await services.read(lambda s: s.endpoints.history(name, before=window.before, limit=window.limit + 1))
    return shown(page_of(request, window, found, [str(change.revision) for change in found]))


@post(
    "/endpoints/{e:str}/preview",
    opt=declares("endpoints.read", gives=EndpointPreview),
    status_code=200,
    summary="Preview applying a spec",
)
async def preview(e: FromPath[str], data: JSONBody[EndpointSpec], services: Given) -> Response[bytes]:
    """Return what applying a spec would change, after all checks that applying it makes."""
    spec = _spec(e, data)
    return shown(await services.read(lambda stores: Catalogue(stores).preview(spec)))


HANDLERS = (list_endpoints, show_endpoint, apply_endpoint, remove_endpoint, history, preview)


def _spec(e: str, given: EndpointSpec) -> EndpointSpec:
    """Return a spec that is sound in itself and is of the endpoint in the path."""
    name = parse_model_name(e, "endpoint")
    if given.name != name:
        raise InvalidArgument.at("name", "must be the name in the path", Reason.INVALID_NAME)
    try:
        return parse_spec(plain_spec(given), "the spec")
    except InvalidArgument as exc:
        raise _without_values(exc) from exc


def _without_values(exc: InvalidArgument) -> InvalidArgument:
    """Return an error for somebody far away: what the author of a file is shown, `…, not 'this'`, is left out."""
    where = (_QUOTED.sub("[?]", v.path) for v in exc.violations)
    what = (v.reason.partition(", not ")[0] for v in exc.violations)
    return InvalidArgument.of([Violation(path, text) for path, text in zip(where, what, strict=True)], exc.reason)


def _endpoint(stored: StoredEndpoint, status: EndpointStatus | None) -> Endpoint:
    return Endpoint(
        spec=stored.spec,
        status=status or EndpointStatus(),
        revision=stored.revision,
        created_at=stored.created_at,
        updated_at=stored.updated_at,
        updated_by=stored.updated_by,
    )
