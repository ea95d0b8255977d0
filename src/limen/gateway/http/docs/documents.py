"""The documents of a server: OpenAPI, the docs page, and each model's contract and `.proto`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from limen._version import __version__
from limen.contracts.openapi.document import openapi
from limen.contracts.openapi.examples import contract_document
from limen.contracts.proto.text import proto_text
from limen.gateway.engine.message import JSON, Request, Response
from limen.gateway.engine.routes import Route, Table
from limen.gateway.http.docs.page import docs_page
from limen.serving.dataplane.directory import Directory

_HTML: Final = b"text/html; charset=utf-8"
_TEXT: Final = b"text/plain; charset=utf-8"
_POLICY: Final = (
    b"content-security-policy: default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'\r\n"
    b"referrer-policy: no-referrer\r\n"
)
_MAX_KEPT: Final = 256


class Documents:
    """The handlers of the document paths. What was made is kept until another version answers."""

    def __init__(self, directory: Directory, grpc_target: str) -> None:
        """Describe what a server has; `grpc_target` is the address examples call over gRPC."""
        self._directory = directory
        self._grpc_target = grpc_target
        self._kept: dict[tuple[str, ...], bytes] = {}

    def fixed_routes(self) -> Table:
        """Return the paths that name no model."""
        return {
            "/": {b"GET": self.home},
            "/docs": {b"GET": self.docs},
            "/openapi.json": {b"GET": self.openapi},
        }

    def model_routes(self) -> Table:
        """Return what may follow a model; the version part is understood."""
        return {
            "/v1/models/{m}/contract": {b"GET": self.contract},
            "/v1/models/{m}/openapi.json": {b"GET": self.model_openapi},
            "/v1/models/{m}.proto": {b"GET": self.proto},
        }

    def home(self, request: Request) -> Response:
        """Send people who open the server in a browser to the docs page, and tell programs that it is alive (as KServe V1 does)."""
        if b"text/html" in request.head.headers.get(b"accept", b""):
            return Response(b"", _TEXT, 302, b"location: /docs\r\nvary: accept\r\n")
        return Response(b'{"status":"alive"}', JSON, head=b"vary: accept\r\n")

    def docs(self, request: Request) -> Response:
        """Give the docs page."""
        base = "http://" + request.head.headers[b"host"].decode("latin-1")
        page = self._keep(("docs", base, *self._state()), lambda: self._page(base))
        return Response(page, _HTML, head=_POLICY)

    def openapi(self, request: Request) -> Response:
        """Give the OpenAPI document of the whole server."""
        return Response(self._keep(("openapi", *self._state()), lambda: self._openapi("", "Limen")), JSON)

    def model_openapi(self, request: Request) -> Response:
        """Give the OpenAPI document of one model."""
        name = request.head.route.model
        contract = self._directory.contract(name, request.head.route.version)
        title = contract.title or name
        return Response(self._keep(("openapi", name, *self._state()), lambda: self._openapi(name, title)), JSON)

    def contract(self, request: Request) -> Response:
        """Give the contract of one version."""
        route: Route = request.head.route
        return Response(
            msgspec.json.encode(contract_document(self._directory.contract(route.model, route.version))), JSON
        )

    def proto(self, request: Request) -> Response:
        """Give the typed `.proto` of one version."""
        route: Route = request.head.route
        text = proto_text(self._directory.contract(route.model, route.version), route.model.partition("@")[0])
        return Response(text.encode(), _TEXT)

    def _page(self, base_url: str) -> bytes:
        return docs_page(
            self._directory.served(), __version__, base_url=base_url, grpc_target=self._grpc_target
        ).encode()

    def _openapi(self, name: str, title: str) -> bytes:
        return msgspec.json.encode(openapi(self._directory.served(name), server_version=__version__, title=title))

    def _state(self) -> tuple[str, ...]:
        """Return what tells whether anything that the documents show has changed."""
        return (str(self._directory.changes),)

    def _keep(self, key: tuple[str, ...], make: Callable[[], bytes]) -> bytes:
        found = self._kept.get(key)
        if found is None:
            if len(self._kept) >= _MAX_KEPT:
                self._kept.clear()
            found = self._kept[key] = make()
        return found
