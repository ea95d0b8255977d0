"""Connections that nobody uses, bytes that are held, and what a caller may pack its messages in."""

import asyncio
import socket
import sys
import time

import grpc
import pytest

from limen.gateway.engine.held_bytes import HeldBytes
from limen.gateway.grpc.census import Census
from limen.gateway.grpc.config import GrpcConfig
from limen.gateway.grpc.server import GrpcServer
from tests.conformance.grpc.plane import Client, raw_request

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells about connections")
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000")
SHORT = {"handshake_timeout_s": 1.0, "max_connection_idle_s": 1.0}


async def until(fact, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < end, "it did not come to that"
        await asyncio.sleep(0.05)


async def test_open_connections_are_counted(server, client):
    census: Census = server[0].census
    await client.stub.ModelInfer(raw_request(x=("FP32", [1, 30], bytes(120))))
    census.look(time.monotonic())
    assert census.open >= 1


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("limen.gateway.grpc.census.LOOK_S", 0.2)


@pytest.mark.parametrize(("said", "why"), [(b"", "slow"), (PREFACE[:10], "slow"), (PREFACE, "idle")])
async def test_connections_that_nobody_uses_are_closed_and_counted(plane, config, said, why):
    server = GrpcServer(plane, GrpcConfig(engine=config.engine, **SHORT))
    port = await server.start("127.0.0.1", 0)
    try:
        with socket.create_connection(("127.0.0.1", port)) as silent:
            silent.sendall(said)
            await until(lambda: server.census.open == 1)
            await until(lambda: server.census.open == 0)
        assert {k: n for k, n in server.census.ended.items() if n} == {why: 1}
    finally:
        await server.stop(0)


async def test_a_caller_who_leaves_by_itself_is_not_counted_as_ended(server):
    census: Census = server[0].census
    before = dict(census.ended)
    client = Client(server[1])
    await client.stub.ModelInfer(raw_request(x=("FP32", [1, 30], bytes(120))))
    census.look(time.monotonic())
    await client.close()
    await asyncio.sleep(0.1)
    census.look(time.monotonic())
    assert census.ended == before


@pytest.mark.slow
async def test_a_connection_in_use_is_not_closed(plane, config):
    server = GrpcServer(plane, GrpcConfig(engine=config.engine, handshake_timeout_s=1.0, max_connection_idle_s=5.0))
    client = Client(await server.start("127.0.0.1", 0))
    until_s = time.monotonic() + 7
    while time.monotonic() < until_s:
        await client.stub.ModelInfer(raw_request(x=("FP32", [1, 30], bytes(120))))
        await asyncio.sleep(0.5)
    assert not any(server.census.ended.values())
    await client.close()
    await server.stop(0)


async def test_f21_messages_that_do_not_fit_are_refused_and_small_ones_are_not(plane, config):
    held = HeldBytes(1 << 20)
    server = GrpcServer(plane, GrpcConfig(engine=config.engine), held=held)
    client = Client(await server.start("127.0.0.1", 0))
    rows = 4000
    large = raw_request(x=("FP32", [rows, 30], bytes(120 * rows)))
    held.take((1 << 20) - 1000)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await client.stub.ModelInfer(large)
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "large requests" in refused.value.details()
    await client.stub.ModelInfer(raw_request(x=("FP32", [1, 30], bytes(120))))
    assert held.refused == 1
    held.give((1 << 20) - 1000)
    assert held.now == 0
    await client.close()
    await server.stop(0)


async def test_messages_may_be_packed_with_gzip_and_with_grpcio_with_deflate_too(server, config):
    for packing in (grpc.Compression.Gzip, grpc.Compression.Deflate):
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server[1]}", compression=packing) as channel:
            ask = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
            message = raw_request(x=("FP32", [1, 30], bytes(120))).SerializeToString()
            if packing is grpc.Compression.Deflate and config.engine == "native":
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await ask(message)
                assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
            else:
                assert await ask(message)
