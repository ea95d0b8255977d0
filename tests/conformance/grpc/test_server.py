"""The listener: engines, ports, many callers at once, and stopping."""

import asyncio
import socket
import tempfile

import grpc
import numpy as np
import pytest

from limen.gateway.engine.listeners import sockets_at
from limen.gateway.grpc._generated import open_inference_pb2 as pb
from limen.gateway.grpc.config import GrpcConfig
from limen.gateway.grpc.server import GrpcServer
from limen.storage.sockets import make_socket_folder, remove_socket_folder
from tests.conformance.grpc.plane import Client, raw_request


def test_grpcio_is_the_default_because_it_bounds_what_it_unpacks():
    assert GrpcConfig().engine == "grpcio"


async def test_it_says_which_engine_it_uses(server, config, client):
    assert server[0].engine == config.engine


async def test_callers_get_their_own_answers(server, client):
    channels = [Client(server[1]) for _ in range(8)]

    async def ask(number: int) -> bool:
        data = np.full((1, 30), number, np.float32).tobytes()
        answer = await channels[number % 8].stub.ModelInfer(
            raw_request(request_id=f"r{number}", x=("FP32", [1, 30], data))
        )
        return (answer.id, answer.raw_output_contents[0]) == (f"r{number}", data)

    assert await asyncio.gather(*(ask(number) for number in range(400))) == [True] * 400
    for channel in channels:
        await channel.close()


async def test_it_listens_however_deep_temporary_files_are(plane, config, tmp_path, monkeypatch):
    deep = tmp_path / ("x" * 200)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    sockets = make_socket_folder()
    server = GrpcServer(plane, config, sockets=sockets)
    client = Client(await server.start("127.0.0.1", 0))
    assert (await client.stub.ModelInfer(raw_request(request_id="a"))).id == "a"
    assert tempfile.gettempdir() == str(deep)
    assert list(deep.iterdir()) == []
    await client.close()
    await server.stop(0)
    remove_socket_folder(sockets)


async def test_a_taken_port_is_an_error(plane, config):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OSError, match="cannot listen on 127"):
            await GrpcServer(plane, config).start("127.0.0.1", taken.getsockname()[1])


async def test_workers_can_share_a_port(plane, config):
    shared = GrpcConfig(engine=config.engine)
    first, second = (GrpcServer(plane, shared, shares_port=True) for _ in range(2))
    port = await first.start("127.0.0.1", 0)
    assert await second.start("127.0.0.1", port) == port
    await first.stop(0)
    client = Client(port)
    assert (await client.stub.ServerLive(pb.ServerLiveRequest())).live
    await client.close()
    await second.stop(0)


async def test_stopping_lets_running_calls_finish(server, client_to_stop, plane):
    unary = asyncio.ensure_future(client_to_stop.stub.ModelInfer(raw_request("gated", "u")))
    stream = client_to_stop.stub.ModelStreamInfer()
    await stream.write(raw_request("gated", "s"))
    await plane.entered.acquire()
    await plane.entered.acquire()
    stopping = asyncio.ensure_future(server[0].stop(20))
    await asyncio.sleep(0)  # let it begin
    plane.gate.set()
    assert (await unary).id == "u"
    assert (await stream.read()).infer_response.id == "s"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stream.read()
    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.UNAVAILABLE, "the server is stopping")
    await stopping


async def test_f13_calls_that_come_while_the_server_stops_are_answered_on_a_connection_of_their_own(
    server, client_to_stop, plane
):
    running = asyncio.ensure_future(client_to_stop.stub.ModelInfer(raw_request("gated")))
    await plane.entered.acquire()
    before = peers(server[1])
    stopping = asyncio.ensure_future(server[0].stop(60))
    while peers(server[1]) == before:  # until the client has heard that it is to go elsewhere
        assert (await client_to_stop.stub.ModelInfer(raw_request(request_id="late"), timeout=30)).id == "late"
    assert not (await client_to_stop.stub.ServerReady(pb.ServerReadyRequest(), timeout=30)).ready
    plane.gate.set()
    assert (await running).model_name == "gated"
    await asyncio.wait_for(stopping, 60)


def peers(port: int) -> list[object]:
    """Return who is connected to a port of this process."""
    return sorted(connection.getpeername() for connection in sockets_at(port, are_listening=False))


async def test_stopping_ends_what_does_not_finish_in_time(server, client_to_stop, plane):
    unary = asyncio.ensure_future(client_to_stop.stub.ModelInfer(raw_request("gated")))
    await plane.entered.acquire()
    await asyncio.wait_for(server[0].stop(0.1), 60)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await unary
    assert caught.value.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
    assert plane.waiting == 0


async def test_stopping_twice_or_before_the_start_is_nothing(plane, config):
    server = GrpcServer(plane, config)
    await server.stop(1)
    await server.start("127.0.0.1", 0)
    await server.stop(1)
    await server.stop(1)
