"""Handlers of the server itself."""

from __future__ import annotations

import asyncio
from typing import Any

from litestar import Request, Response, get, post

from limen._version import __version__
from limen.admin.requests import deadline_of
from limen.admin.services import Given, Services, shown
from limen.admin.strictness import declares
from limen.contracts.conditions import ConditionType, holds
from limen.contracts.errors import DeadlineExceeded
from limen.contracts.management import ServerStatus
from limen.management.stores import Stores


@get(
    "/status",
    opt=declares("server.read", gives=ServerStatus),
    summary="The registry and its server",
)
async def status(services: Given) -> Response[bytes]:
    """Return the state of the registry and of the server that works from it."""
    return shown(await _status(services))


@post(
    "/reload",
    opt=declares("server.reload", gives=ServerStatus),
    status_code=200,
    summary="Read the registry now",
)
async def reload(request: Request[Any, Any, Any], services: Given) -> Response[bytes]:
    """Have the server look at the registry now, and try again what could not be had."""
    deadline = deadline_of(request.headers)
    try:
        async with asyncio.timeout(deadline.remaining_s() if deadline.is_set else None):
            await services.reload()
    except TimeoutError:
        raise DeadlineExceeded from None
    return shown(await _status(services))


HANDLERS = (status, reload)


async def _status(services: Services) -> ServerStatus:
    def counted(stores: Stores) -> tuple[int, int, int]:
        return stores.registry.revision(), stores.registry.count(), len(stores.endpoints.list())

    conditions = services.conditions()
    revision, models, endpoints = await services.read(counted)
    return ServerStatus(
        release=__version__,
        revision=revision,
        models=models,
        endpoints=endpoints,
        is_ready=holds(conditions, ConditionType.READY),
        problem="; ".join(c.message for c in conditions if c.needs_attention) if conditions else "no server runs",
        conditions=conditions,
        server=services.server(),
    )
