"""The application of the metrics listener: the Prometheus text, and a liveness check.

It listens apart from the gateway, so that numbers can be had while the gateway is full, and so that callers cannot have them.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from typing import Any, Final

from limen.contracts.errors import Internal, LimenError
from limen.gateway.engine.encoding import choose, deflate
from limen.gateway.engine.errors import Refused, error_response
from limen.gateway.engine.message import Answer, Head, Request, Response
from limen.gateway.engine.routes import Route, Router
from limen.telemetry.metrics.exposition import CONTENT_TYPE

LOG = logging.getLogger("limen.gateway")
COMPRESS_FROM_BYTES: Final = 1024


class MetricsApplication:
    """Answers `GET /metrics` and `GET /health`. An `application.Application`."""

    def __init__(self, text: Callable[[], Awaitable[bytes]], hosts: frozenset[str] | None = None) -> None:
        """Serve the text of metrics.

        Args:
            text: makes the text of now.
            hosts: host names a request may be addressed to; any when None.
        """
        self._text = text
        self._hosts = hosts
        self._router = Router(
            {"/metrics": {b"GET": self.metrics}, "/health": {b"GET": self.health}}, {}, lambda _: False
        )
        self._id_prefix = os.urandom(6).hex()
        self._id_count = 0

    async def metrics(self, request: Request) -> Response:
        """Give every metric as Prometheus text."""
        response = Response(await self._text(), CONTENT_TYPE)
        head = request.head
        if head.varies and len(response.body) >= COMPRESS_FROM_BYTES:
            response.head = b"vary: accept-encoding\r\n"
            if head.answer_coding:
                response.body = await asyncio.to_thread(deflate, response.body, head.answer_coding)
                response.head += b"content-encoding: %s\r\n" % head.answer_coding
        return response

    def health(self, request: Request) -> Response:
        """Say that the process answers."""
        return Response(b'{"live":true}')

    def next_id(self) -> str:
        """Return a new request id."""
        self._id_count += 1
        return f"{self._id_prefix}-{self._id_count:x}"

    def admit(self, head: Head) -> None:
        """Find the route of a head, and refuse one that is addressed to somebody else.

        Raises:
            Refused: no host, or one that is not this server.
        """
        host = head.headers.get(b"host")
        if host is None:
            raise Refused(400, "BAD_REQUEST", "the Host header is required")
        if self._hosts is not None and _name_of(host) not in self._hosts:
            raise Refused(421, "MISDIRECTED", "this server does not serve that host")
        try:
            head.route = self._router.resolve(head.target)
        except (Refused, LimenError) as error:
            head.route = error
        if head.varies:
            head.answer_coding = choose(head.headers[b"accept-encoding"])

    def unknown_method(self, target: bytes) -> Refused:
        """Return the refusal of a method that HTTP does not know: of this path like any other method it does not take."""
        try:
            return _wrong_method(self._router.resolve(target))
        except Refused as refused:
            return refused
        except LimenError:
            return Refused(404, "NOT_FOUND", "no such path")

    def handle(self, request: Request) -> Answer:
        """Return the response to a whole request, or what is to become one. Raises nothing."""
        request.id = self.next_id()
        head = request.head
        try:
            route = head.route
            if type(route) is not Route:
                raise route
            handler = route.handlers.get(b"GET" if head.method == b"HEAD" else head.method)
            if handler is None:
                raise _wrong_method(route)
            answer: Any = handler(request)
            return answer if isinstance(answer, Response) else self._wait(request, answer)
        except Exception as exc:  # noqa: BLE001  told apart by told
            return self.settle(request, exc)

    async def _wait(self, request: Request, answer: Awaitable[Response]) -> Response:
        try:
            return await answer
        except Exception as exc:  # noqa: BLE001  told apart by told
            return self.settle(request, exc)

    def settle(self, request: Request, outcome: Response | Exception) -> Response:
        """Return the response to what came of a request. Raises nothing."""
        return outcome if isinstance(outcome, Response) else error_response(self.told(request, outcome), request.id)

    def told(self, request: Request, exc: Exception) -> LimenError | Refused:
        """Return what the caller is told of a failure."""
        if isinstance(exc, (Refused, LimenError)):
            return exc
        LOG.error("unexpected failure in the metrics listener, request_id=%s", request.id, exc_info=exc)
        return Internal()

    def note(self, request: Request, error: LimenError | Refused) -> None:
        """Say nothing: the request log is about models, and whoever scrapes sees what went wrong."""

    def note_success(self, request: Request, status: int) -> None:
        """Say nothing, as above."""


def _name_of(host: bytes) -> str:
    name = host.strip().lower().decode("latin-1")
    stem, colon, port = name.rpartition(":")
    return (stem if colon and port.isdigit() else name).strip("[]")


def _wrong_method(route: Route) -> Refused:
    text = f"this path supports {route.allow.decode()}"
    return Refused(405, "METHOD_NOT_ALLOWED", text, head=b"allow: %s\r\n" % route.allow)
