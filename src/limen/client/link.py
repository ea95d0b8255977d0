"""The HTTP connections of a client: the only module that knows httpx. Used by the inference and the management client."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final
from urllib.request import getproxies

import httpx

from limen.client.problems import from_http
from limen.client.retries import RETRY_HEADER, Attempt, Unanswered
from limen.contracts.errors import DeadlineExceeded, Internal, InvalidArgument, LimenError, Unavailable

CONNECT_TIMEOUT_S: Final = 5.0
KEEP_ALIVE_S: Final = 30.0
"""Idle connections are closed after this, before most servers and proxies do it."""
MOST_MS: Final = 10**9
"""The longest time limit that the header can say."""
Content = bytes | AsyncIterator[bytes] | None


class HttpLink:
    """Connections to one server, kept open between requests; opened by the first of them."""

    def __init__(self, url: str, headers: Mapping[str, str], transport: httpx.AsyncBaseTransport | None = None) -> None:
        """Take the address of the server.

        Args:
            url: such as `https://models.example.com`; a path is put before every path.
            headers: sent with every request.
            transport: what carries the requests in place of the network, such as an application in this process.

        Raises:
            InvalidArgument: the address is not one.
        """
        try:
            self._url = httpx.URL(url)
        except httpx.InvalidURL as exc:
            raise InvalidArgument.at("url", "is not a URL") from exc
        self._headers = dict(headers)
        self._transport = transport
        self._client: httpx.AsyncClient | None = None

    async def send(
        self,
        method: str,
        path: str,
        attempt: Attempt,
        *,
        content: Content = None,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | list[tuple[str, str]] | None = None,
    ) -> httpx.Response:
        """Return the whole answer.

        Raises:
            LimenError: what the server told, or `Unavailable` when it could not be reached.
        """
        async with self._open(method, path, attempt, content, headers, params) as response:
            await response.aread()
            return response

    async def receive(
        self,
        method: str,
        path: str,
        attempt: Attempt,
        *,
        content: Content = None,
        headers: Mapping[str, str] | None = None,
        started: Callable[[httpx.Response], None] | None = None,
    ) -> AsyncGenerator[bytes, None]:
        """Yield the body of an answer as it comes; closing this closes the connection.

        Args:
            method: the method.
            path: the path, already quoted.
            attempt: which try it is and until when.
            content: the body.
            headers: further headers.
            started: is told the answer's head.

        Raises:
            LimenError: as `send`, before the first piece or between two.
        """
        async with self._open(method, path, attempt, content, headers, None) as response:
            if started is not None:
                started(response)
            async with aclosing(response.aiter_bytes()) as pieces:  # type: ignore[type-var]  # a generator by another name
                async for piece in pieces:
                    yield piece

    async def aclose(self) -> None:
        """Close all connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()
        elif self._transport is not None:
            await self._transport.aclose()

    @asynccontextmanager
    async def _open(
        self,
        method: str,
        path: str,
        attempt: Attempt,
        content: Content,
        headers: Mapping[str, str] | None,
        params: Any,
    ) -> AsyncGenerator[httpx.Response, None]:
        client = self._client or self._connected()
        watch = _Watch()
        sent = {**(headers or {}), **_attempt_headers(attempt)}
        try:
            request = client.build_request(method, path, content=content, headers=sent, params=params)
            request.extensions["trace"] = watch.note
            response = await client.send(request, stream=True)
            try:
                if response.is_error:
                    raise from_http(response.status_code, response.headers, await response.aread())
                yield response
            finally:
                await response.aclose()
        except httpx.HTTPError as exc:
            raise watch.told(exc) from exc

    def _connected(self) -> httpx.AsyncClient:
        self._client = httpx.AsyncClient(
            base_url=self._url,
            headers=self._headers,
            transport=self._transport,
            # Certificates take 45 ms to load, which a plain connection need not wait for.
            verify=_speaks_tls(self._url),
            # The call's own time limit is kept by whoever makes it; only a host that never answers is given up sooner.
            timeout=httpx.Timeout(None, connect=CONNECT_TIMEOUT_S),
            limits=httpx.Limits(max_connections=None, keepalive_expiry=KEEP_ALIVE_S),
        )
        return self._client


def _speaks_tls(url: httpx.URL) -> bool:
    """Return whether a connection to an address, or to a proxy on the way, is encrypted."""
    return url.scheme == "https" or any(proxy.startswith("https:") for proxy in getproxies().values())


class _Watch:
    """Notes what happened on the connection of one request."""

    __slots__ = ("is_answered", "is_new")

    def __init__(self) -> None:
        self.is_new = self.is_answered = False

    async def note(self, event: str, _: Mapping[str, Any]) -> None:
        if event.startswith("connection."):
            self.is_new = True
        elif event.endswith("receive_response_headers.complete"):
            self.is_answered = True

    def told(self, exc: httpx.HTTPError) -> LimenError:
        """Return what a failure of the connection means to the caller; its own text may name hosts and files."""
        match exc:
            case httpx.ConnectError() | httpx.ConnectTimeout() | httpx.PoolTimeout() | httpx.ProxyError():
                return Unavailable("cannot reach the server")
            case httpx.TimeoutException():
                return DeadlineExceeded()
            case httpx.UnsupportedProtocol():
                return InvalidArgument.at("url", "must start with http:// or https://")
            case httpx.TransportError() if not self.is_new and not self.is_answered:
                return Unanswered("the server closed the connection before it answered")
            case httpx.TransportError():
                return Unavailable("the connection broke before the answer was complete")
            case _:
                return Internal("the answer cannot be read")


def _attempt_headers(attempt: Attempt) -> dict[str, str]:
    headers = {RETRY_HEADER: str(attempt.number)} if attempt.number else {}
    if not math.isinf(attempt.ends_at):
        headers["x-request-timeout-ms"] = str(min(max(1, math.ceil(attempt.remaining_s() * 1000)), MOST_MS))
    return headers
