"""The management API as one ASGI application."""

from __future__ import annotations

from typing import Any, cast

from litestar import Litestar, Router
from litestar.di import Provide
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.types import ASGIApp

from limen import __version__
from limen.admin import endpoints, models, publishing, status, versions
from limen.admin.gate import Gate, before
from limen.admin.problems import on_error
from limen.admin.services import Services

ROOT = "/api/v1"


def management_api(services: Services, hosts: frozenset[str] | None = None) -> ASGIApp:
    """Return the application.

    Args:
        services: what it works on.
        hosts: host names it answers to; any when None.
    """

    def given() -> Services:
        return services

    handlers = (*models.HANDLERS, *versions.HANDLERS, *publishing.HANDLERS, *endpoints.HANDLERS, *status.HANDLERS)
    app = Litestar(
        [Router(ROOT, route_handlers=list(handlers))],
        before_request=before,
        dependencies={"services": Provide(given, sync_to_thread=False)},
        exception_handlers={Exception: on_error},
        openapi_config=OpenAPIConfig(
            title="Limen management API",
            version=__version__,
            path=ROOT,
            render_plugins=[JsonRenderPlugin(path="/openapi.json")],
        ),
        logging_config=None,
        request_max_body_size=None,
        signature_types=[Services],
    )
    return cast("ASGIApp", Gate(cast("Any", app), hosts))
