"""Handlers of the server itself."""

from __future__ import annotations

from litestar import Response, get, post
from litestar.openapi.datastructures import ResponseSpec

from limen import __version__
from limen.admin.services import Services, shown
from limen.contracts.management import ServerStatus
from limen.serving.stores import Stores


@get("/status", responses={200: ResponseSpec(ServerStatus)}, summary="The registry and its server")
async def status(services: Services) -> Response[bytes]:
    """Return the state of the registry and of the server that works from it."""
    return shown(await _status(services))


@post("/reload", status_code=200, responses={200: ResponseSpec(ServerStatus)}, summary="Look at the registry now")
async def reload(services: Services) -> Response[bytes]:
    """Have the server look at the registry now, and try again what could not be had."""
    await services.reload()
    return shown(await _status(services))


HANDLERS = (status, reload)


async def _status(services: Services) -> ServerStatus:
    def counted(stores: Stores) -> tuple[int, int, int]:
        return stores.registry.revision(), stores.registry.count(), len(stores.endpoints.list())

    revision, models, endpoints = await services.read(counted)
    return ServerStatus(
        release=__version__,
        revision=revision,
        models=models,
        endpoints=endpoints,
        is_ready=services.is_ready(),
        problem=services.problem(),
        server=services.server(),
    )
