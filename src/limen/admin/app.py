"""The management API as one ASGI application."""

from __future__ import annotations

from functools import cache, partial
from typing import Any, Final, cast

import msgspec
from litestar import Litestar, Response, Router, get
from litestar.di import Provide
from litestar.types import ASGIApp

from limen._version import __version__
from limen.admin.document import document
from limen.admin.gate import Gate
from limen.admin.problems import on_error
from limen.admin.resources import endpoints, files, models, publishing, status, versions
from limen.admin.services import Services
from limen.admin.strictness import JSON_TYPE, MAX_JSON_BYTES, before, declares

ROOT: Final = "/api/v1"


@get("/openapi.json", opt=declares("server.read", gives=dict[str, Any]), summary="This document")
async def own_document() -> Response[bytes]:
    """Return the description of this API."""
    return Response(_document(), media_type=JSON_TYPE)


HANDLERS: Final = (
    *models.HANDLERS, *versions.HANDLERS, *files.HANDLERS, *publishing.HANDLERS, *endpoints.HANDLERS, *status.HANDLERS,
    own_document,
)  # fmt: skip


@cache
def _document() -> bytes:
    return msgspec.json.encode(document(HANDLERS, ROOT, __version__))


def management_api(services: Services, hosts: frozenset[str] | None = None, *, is_local: bool = False) -> ASGIApp:
    """Return the application.

    Args:
        services: what it works on.
        hosts: host names it answers to; any when None.
        is_local: whether only the person at this machine asks, in the process of a command.
    """

    def given() -> Services:
        return services

    app = Litestar(
        [Router(ROOT, route_handlers=list(HANDLERS))],
        before_request=before,
        dependencies={"services": Provide(given, sync_to_thread=False)},
        exception_handlers={Exception: partial(on_error, tells_places=is_local)},
        openapi_config=None,
        logging_config=None,
        request_max_body_size=MAX_JSON_BYTES,
        signature_types=[Services],
    )
    return cast("ASGIApp", Gate(cast("Any", app), hosts))
