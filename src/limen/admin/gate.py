"""What every management request passes before its handler: who it comes from, what it may carry, and whether its body is strict.

There is no login in this release, so the gate keeps browsers out (B82) and answers only to the names of this machine (B22).
"""

from __future__ import annotations

import uuid
from typing import Any, Final

import msgspec
from litestar import Request
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from limen.admin.problems import invalid_body, on_error
from limen.contracts import strict_json
from limen.contracts.errors import InvalidArgument, LimenError, PermissionDenied, Reason, ResourceExhausted
from limen.contracts.names import REQUEST_ID

MAX_JSON_BYTES: Final = 4 << 20
"""The longest JSON body; a spec of an endpoint has about a kibibyte."""
_OWN_SITES: Final = frozenset({"none", "same-origin"})


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
        scope.setdefault("state", {})["request_id"] = request_id

        async def tell(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [(b"x-request-id", request_id.encode()), (b"x-content-type-options", b"nosniff")]
                message["headers"] = [*message.get("headers", []), *own]
            await send(message)

        try:
            self._check(headers)
        except LimenError as exc:
            response = on_error(Request(scope), exc)
            await response.to_asgi_response(app=None, request=Request(scope))(scope, receive, tell)
            return
        await self._app(scope, receive, tell)

    def _check(self, headers: dict[str, str]) -> None:
        host = _name(headers.get("host", ""))
        if self._hosts is not None and host not in self._hosts:
            raise PermissionDenied("this server does not answer for that host")
        origin = headers.get("origin")
        if origin is not None and _name(origin.partition("://")[2]) != host:
            raise PermissionDenied("requests that a browser sends for another site are refused")
        if headers.get("sec-fetch-site", "none") not in _OWN_SITES:
            raise PermissionDenied("requests that a browser sends for another site are refused")


async def before(request: Request[Any, Any, Any]) -> None:
    """Refuse parameters that the path does not take, and a body that is not strict JSON of its type.

    Raises:
        InvalidArgument: with the path of the mistake.
    """
    parameters = request.route_handler.parsed_fn_signature.parameters
    for name in request.query_params:
        if name not in _QUERY.get(str(request.route_handler.name), frozenset(parameters)):
            shown = name if name.isidentifier() and name.isascii() else "?"
            raise InvalidArgument.at(shown, "is not a parameter of this path", Reason.INVALID_PARAMETER)
    data = parameters.get("data")
    if data is None:
        return
    body = await _body(request)
    value = strict_json.parse(body)
    try:
        msgspec.convert(value, data.annotation)
    except msgspec.MsgspecError as exc:
        raise invalid_body(exc) from exc


_QUERY: Final[dict[str, frozenset[str]]] = {"diff": frozenset({"from", "to"})}
"""Where the parameters of a path cannot have the names of arguments."""


async def _body(request: Request[Any, Any, Any]) -> bytes:
    length = request.headers.get("content-length", "0")
    if length.isdecimal() and int(length) > MAX_JSON_BYTES:
        raise ResourceExhausted(f"a JSON body may have at most {MAX_JSON_BYTES} bytes")
    return await request.body()


def _name(host: str) -> str:
    """Return the name in `host:port`."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0].lower() if ":" in host else host.lower()
