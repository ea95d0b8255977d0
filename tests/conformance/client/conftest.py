"""Every test here runs through four doors: the synchronous and the asynchronous client, each over REST and gRPC."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import Any

import pytest

from limen.client import Answer, AsyncClient, Client
from limen.gateway.grpc.config import GrpcConfig
from limen.gateway.grpc.server import GrpcServer
from tests.conformance.serving.gateway import Gateway


class Door:
    """A client of one kind over one transport; asynchronous ones are waited for in a loop of the test's own."""

    def __init__(self, url: str, runner: asyncio.Runner | None) -> None:
        self.is_rest = url.startswith("http")
        self._runner = runner
        self._client: Any = Client(url) if runner is None else AsyncClient(url)

    def predict(self, *args: Any, **options: Any) -> Answer:
        answer = self._client.predict(*args, **options)
        return answer if self._runner is None else self._runner.run(answer)

    def is_ready(self, *args: Any) -> bool:
        answer = self._client.is_ready(*args)
        return answer if self._runner is None else self._runner.run(answer)

    def stream(self, *args: Any, at_most: int = 1000, **options: Any) -> list[Answer]:
        """Return the parts of a stream, closed after so many."""
        parts = self._client.stream(*args, **options)
        if self._runner is not None:
            return self._runner.run(_first(parts, at_most))
        found = []
        for part in parts:
            found.append(part)
            if len(found) == at_most:
                break
        parts.close()
        return found

    def close(self) -> None:
        if self._runner is None:
            self._client.close()
        else:
            self._runner.run(self._client.aclose())


async def _first(parts: AsyncGenerator[Answer, None], at_most: int) -> list[Answer]:
    found = []
    async with aclosing(parts):
        async for part in parts:
            found.append(part)
            if len(found) == at_most:
                break
    return found


@pytest.fixture(scope="session")
def addresses(gateway: Gateway) -> Iterator[dict[str, str]]:
    """A gRPC server beside the HTTP one, on the same data plane."""
    server = gateway.do(lambda: GrpcServer(gateway.plane, GrpcConfig()))
    port = gateway.do(lambda: server.start("127.0.0.1", 0))
    yield {"rest": f"http://127.0.0.1:{gateway.port}", "grpc": f"grpc://127.0.0.1:{port}"}
    gateway.do(lambda: server.stop(0))


@pytest.fixture(params=["sync-rest", "sync-grpc", "async-rest", "async-grpc"])
def door(request: pytest.FixtureRequest, addresses: dict[str, str]) -> Iterator[Door]:
    kind, _, transport = request.param.partition("-")
    with asyncio.Runner() as runner:
        door = Door(addresses[transport], runner if kind == "async" else None)
        yield door
        door.close()
