"""Connections that are used again, and what becomes of a request that finds one closed (F13)."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from limen.client import AsyncClient, RetryPolicy
from limen.client.link import HttpLink
from limen.contracts.errors import Unavailable

ANSWER = b'{"predictions":[{"y":1}],"model_name":"m","model_version":"1"}'
NO_BUDGET = RetryPolicy(budget=0.0, reserve=0)


class Server:
    """Answers so many requests on each connection and then closes it when the next one has come, without a byte."""

    def __init__(self, answers: Sequence[int], last_words: bytes = b"") -> None:
        self._answers = iter(answers)
        self._last_words = last_words
        self.connections = self.requests = 0
        self.attempts: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            for _ in range(next(self._answers, 100)):
                if not await self._read(reader):
                    return
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(ANSWER), ANSWER))
                await writer.drain()
            if await self._read(reader) and self._last_words:
                writer.write(self._last_words)
                await writer.drain()
        finally:
            writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> bool:
        length = 0
        while (line := await reader.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode().lower().partition(":")
            if name == "content-length":
                length = int(value)
            if name == "x-retry-attempt":
                self.attempts.append(value.strip())
        if not line:
            return False
        await reader.readexactly(length)
        self.requests += 1
        return True


@asynccontextmanager
async def listening(server: Server) -> AsyncIterator[str]:
    """Yield the address of a server on a port of the system's choice."""
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    async with listener:
        host, port = listener.sockets[0].getsockname()
        yield f"http://{host}:{port}"


async def test_connections_are_used_again():
    server = Server([])
    async with listening(server) as url, AsyncClient(url) as client:
        for _ in range(5):
            assert (await client.predict("m", {"x": 1})).record == {"y": 1}
    assert (server.connections, server.requests) == (1, 5)


async def test_a_request_that_finds_its_connection_closed_is_sent_again_and_that_is_no_retry():
    server = Server([2, 1])
    async with listening(server) as url, AsyncClient(url, retry=NO_BUDGET) as client:
        for _ in range(4):
            assert (await client.predict("m", {"x": 1})).record == {"y": 1}
    assert (server.connections, server.requests, server.attempts) == (3, 6, [])


async def test_a_server_that_closes_new_connections_is_not_asked_beyond_the_budget():
    server = Server([0] * 9)
    async with listening(server) as url, AsyncClient(url, retry=NO_BUDGET) as client:
        with pytest.raises(Unavailable):
            await client.predict("m", {"x": 1})
    assert server.requests == 1


async def test_an_answer_that_breaks_off_is_no_unanswered_request():
    server = Server([1, 9], last_words=b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{")
    async with listening(server) as url, AsyncClient(url, retry=NO_BUDGET) as client:
        await client.predict("m", {"x": 1})
        with pytest.raises(Unavailable, match="broke"):
            await client.predict("m", {"x": 1})
    assert server.requests == 2


async def test_a_server_that_is_not_there_cannot_be_reached():
    async with listening(Server([])) as url:
        pass
    async with AsyncClient(url, retry=NO_BUDGET) as client:
        with pytest.raises(Unavailable, match="cannot reach"):
            await client.predict("m", {"x": 1})


@pytest.mark.parametrize(
    ("url", "proxy", "loads"),
    [
        ("http://h", "", False),
        ("https://h", "", True),
        ("http://h", "http://p", False),
        ("http://h", "https://p", True),
    ],
)
async def test_certificates_are_loaded_only_where_a_connection_is_encrypted(url, proxy, loads, monkeypatch):
    loaded = []
    make = ssl.create_default_context
    monkeypatch.setattr(ssl, "create_default_context", lambda **options: loaded.append(options) or make(**options))
    monkeypatch.setenv("http_proxy", proxy)
    link = HttpLink(url, {})
    await link._connected().aclose()
    assert bool(loaded) is loads
