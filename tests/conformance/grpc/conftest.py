"""Every test here runs on both engines, and each ends with a good request: the server is alive and right."""

from collections.abc import AsyncIterator

import numpy as np
import pytest

from limen.gateway.grpc.config import GrpcConfig
from limen.gateway.grpc.server import GrpcServer
from tests.conformance.grpc.plane import Client, ScriptedPlane, raw_request

MAX_RECEIVE = 1 << 20


@pytest.fixture(params=["native", "grpcio"])
def config(request) -> GrpcConfig:
    return GrpcConfig(engine=request.param, max_receive_bytes=MAX_RECEIVE, max_stream_requests=4, health_poll_s=0.01)


@pytest.fixture
async def plane() -> ScriptedPlane:
    return ScriptedPlane()


@pytest.fixture
async def server(plane: ScriptedPlane, config: GrpcConfig) -> AsyncIterator[tuple[GrpcServer, int]]:
    server = GrpcServer(plane, config)
    port = await server.start("127.0.0.1", 0)
    yield server, port
    await server.stop(0)


@pytest.fixture
async def client(server: tuple[GrpcServer, int]) -> AsyncIterator[Client]:
    client = Client(server[1])
    yield client
    answer = await client.stub.ModelInfer(raw_request(request_id="still-here"), timeout=60)
    assert (answer.id, answer.raw_output_contents[0]) == ("still-here", np.array([1, 2], np.float32).tobytes())
    await client.close()


@pytest.fixture
async def client_to_stop(server: tuple[GrpcServer, int]) -> AsyncIterator[Client]:
    """A client of a server that the test itself stops."""
    client = Client(server[1])
    yield client
    await client.close()
