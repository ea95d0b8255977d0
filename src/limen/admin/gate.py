"""Checks that every management request passes before the application, and headers that every response carries.

There is no login in this release, so the gate keeps browsers out (B82) and answers only to the names of this machine (B22).
"""

from __future__ import annotations

import uuid
from typing import Final, cast

from litestar import Request
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from limen.admin.pace import paced
from limen.admin.problems import on_error
from limen.contracts.errors import LimenError, NotFound, PermissionDenied
from limen.contracts.names import REQUEST_ID
from limen.contracts.web import FOREIGN_PAGE, is_for_another_site

_INSTEAD: Final = {"HEAD": "GET", "OPTIONS": "NONE"}
_ALWAYS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    # Nothing that is answered is a page, and what authors wrote in a description is never run as one.
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)


class Gate:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, hosts: frozenset[str] | None) -> None:
        """Let requests to these host names in; to any when None."""
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Give the request an id, and refuse what may not come in."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        given = headers.get("x-request-id", "")
        request_id = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        is_head = scope["method"] == "HEAD"
        # HEAD is GET without the body. OPTIONS is for browsers of other sites, and nothing of that is offered: no path knows it.
        scope = cast("Scope", {**scope, "method": _INSTEAD.get(scope["method"], scope["method"])})
        scope.setdefault("state", {})["request_id"] = request_id

        async def tell(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [(b"x-request-id", request_id.encode()), *_ALWAYS]
                message["headers"] = [*(_as_offered(*header) for header in message.get("headers", [])), *own]
            elif message["type"] == "http.response.body" and is_head:
                message["body"] = b""
            await send(message)

        try:
            self._check(scope["path"], headers)
        except LimenError as exc:
            response = on_error(Request(scope), exc)
            await response.to_asgi_response(app=None, request=Request(scope))(scope, receive, tell)
            return
        await self._app(scope, paced(receive), tell)

    def _check(self, path: str, headers: dict[str, str]) -> None:
        host = headers.get("host", "").lower()
        if self._hosts is not None and _name(host) not in self._hosts:
            raise PermissionDenied("this server does not serve that host")
        if is_for_another_site(host, headers.get("origin"), headers.get("sec-fetch-site")):
            raise PermissionDenied(FOREIGN_PAGE)
        if "//" in path or path.endswith("/"):
            # Litestar would take it for the path without: one thing has one path.
            raise NotFound("no such path")


def _as_offered(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    """Return a header as it is, but `Allow` with what is really offered: HEAD where GET is, and no OPTIONS."""
    if name.lower() != b"allow":
        return name, value
    methods = {word.strip() for word in value.split(b",")} - {b"OPTIONS"}
    return name, b", ".join(sorted(methods | ({b"HEAD"} if b"GET" in methods else set())))


def _name(host: str) -> str:
    """Return the name in `host:port`."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if ":" in host else host
