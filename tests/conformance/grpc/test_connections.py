"""Connections that nobody uses, bytes that are held, and what a caller may pack its messages in."""

import asyncio
import socket
import sys
import time

import grpc
import pytest

from limen.gateway.engine.held_bytes import HeldBytes
from limen.gateway.grpc import census
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
    found: Census = server[0].census
    await client.stub.ModelInfer(raw_request(x=("FP32", [1, 30], bytes(120))))
    found.look(time.monotonic())
    assert found.open >= 1


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
    found: Census = server[0].census
    before = dict(found.ended)
    client = Client(server[1])
    await client.stub.ModelInfer(raw_request(x=("FP32", [1, 30], bytes(120))))
    found.look(time.monotonic())
    await client.close()
    await asyncio.sleep(0.1)
    found.look(time.monotonic())
    assert found.ended == before


def half_a_message(port: int, size: int, sent: int) -> socket.socket:
    """Begin a call whose message is so large, and send so much of it."""
    connection = socket.create_connection(("127.0.0.1", port))
    connection.settimeout(30)

    def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
        return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload

    def text(value: str) -> bytes:
        return bytes([len(value)]) + value.encode()

    said = {
        ":method": "POST",
        ":scheme": "http",
        ":path": "/inference.GRPCInferenceService/ModelInfer",
        ":authority": "localhost",
        "content-type": "application/grpc",
        "te": "trailers",  # codespell:ignore te
    }
    head = b"".join(b"\x00" + text(name) + text(value) for name, value in said.items())
    connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"") + frame(1, 4, 1, head))
    message = b"\x00" + size.to_bytes(4, "big") + bytes(sent)
    room, stream_room = 65_535, 65_535
    while message:
        piece = message[: min(16_384, room, stream_room)]
        if piece:
            connection.sendall(frame(0, 0, 1, piece))
            message, room, stream_room = message[len(piece) :], room - len(piece), stream_room - len(piece)
            continue
        kind, flags, stream, payload = read_frame(connection)
        if kind == 8:
            more = int.from_bytes(payload, "big")
            room, stream_room = (room, stream_room + more) if stream else (room + more, stream_room)
        elif kind == 4 and not flags:
            window = {payload[i + 1]: payload[i + 2 : i + 6] for i in range(0, len(payload), 6)}.get(4)
            if window is not None:
                stream_room += int.from_bytes(window, "big") - 65_535
            connection.sendall(frame(4, 1, 0, b""))
        elif kind == 6 and not flags:
            connection.sendall(frame(6, 1, 0, payload))
    return connection


def read_frame(connection: socket.socket) -> tuple[int, int, int, bytes]:
    def exactly(size: int) -> bytes:
        found = b""
        while len(found) < size:
            piece = connection.recv(size - len(found))
            assert piece, "the connection was closed"
            found += piece
        return found

    head = exactly(9)
    return head[3], head[4], int.from_bytes(head[5:], "big") & 0x7FFFFFFF, exactly(int.from_bytes(head[:3], "big"))


def is_closed(connection: socket.socket) -> bool:
    """Whether the other side has ended a connection; what it says before is read."""
    connection.setblocking(False)
    try:
        while connection.recv(1 << 16):
            pass
    except BlockingIOError:
        return False
    except ConnectionError:
        return True
    return True


SIZE, SENT = 8 << 20, 3 << 20


async def test_f21_messages_that_are_still_arriving_count_as_held(plane, config):
    held = HeldBytes(64 << 20)
    server = GrpcServer(plane, GrpcConfig(engine=config.engine), held=held)
    port = await server.start("127.0.0.1", 0)
    client = Client(port)
    try:
        with await asyncio.to_thread(half_a_message, port, SIZE, SENT):
            await until(lambda: SENT * 0.9 < held.now < SENT * 1.1)
            # Others are answered meanwhile, and what they have sent is whole.
            large = raw_request(x=("FP32", [4000, 30], bytes(480_000)))
            for _ in range(20):
                await client.stub.ModelInfer(large)
            await asyncio.sleep(0.5)
            assert SENT * 0.9 < held.now < SENT * 1.1
        await until(lambda: held.now == 0)
        assert not any(server.census.ended.values())
    finally:
        await client.close()
        await server.stop(0)


async def test_f21_when_too_much_is_arriving_the_largest_is_closed(plane, config):
    held = HeldBytes(4 << 20)
    server = GrpcServer(plane, GrpcConfig(engine=config.engine), held=held)
    port = await server.start("127.0.0.1", 0)
    client = Client(port)
    try:
        await client.stub.ModelInfer(raw_request(x=("FP32", [1, 30], bytes(120))))
        small, large = [await asyncio.to_thread(half_a_message, port, SIZE, sent) for sent in (SENT // 2, SENT)]
        with small, large:
            await until(lambda: is_closed(large))
            assert not is_closed(small)
            await until(lambda: server.census.ended["crowded"] == 1)
            await until(lambda: held.now < SENT)
        await client.stub.ModelInfer(raw_request(x=("FP32", [1, 30], bytes(120))))
    finally:
        await client.close()
        await server.stop(0)


async def test_a_message_that_never_becomes_whole_ends_its_connection(plane, config):
    server = GrpcServer(plane, GrpcConfig(engine=config.engine, message_timeout_s=1.0))
    port = await server.start("127.0.0.1", 0)
    try:
        with await asyncio.to_thread(half_a_message, port, SIZE, SENT) as half:
            await until(lambda: is_closed(half))
            await until(lambda: server.census.ended["slow"] == 1)
    finally:
        await server.stop(0)


async def test_a_peer_that_has_vanished_is_closed_and_counted(plane, config, monkeypatch):
    """Nothing on this machine vanishes without the system saying so: what it says of unconfirmed packets is replaced."""
    facts = census._facts
    monkeypatch.setattr(census, "GONE_S", 20.0)
    server = GrpcServer(plane, GrpcConfig(engine=config.engine))
    port = await server.start("127.0.0.1", 0)
    client = Client(port)
    try:
        await client.stub.ModelInfer(raw_request(x=("FP32", [1, 30], bytes(120))))
        await until(lambda: server.census.open == 1)
        monkeypatch.setattr(census, "_facts", lambda c: facts(c)._replace(unheard_s=21.0))
        if config.engine == "grpcio":
            # It ends the connection by itself, which is noticed.
            await until(lambda: server.census._known and all(c.facts.unheard_s for c in server.census._known.values()))
            await client.close()
        await until(lambda: server.census.ended["gone"] == 1)
        assert server.census.open == 0
    finally:
        await client.close()
        await server.stop(0)


async def test_connections_beyond_the_limit_are_closed_and_those_before_are_not(plane, config, monkeypatch, caplog):
    monkeypatch.setattr(census, "grpc_connections", lambda: 4)
    monkeypatch.setattr("limen.gateway.grpc.server.grpc_connections", lambda: 4)
    server = GrpcServer(plane, GrpcConfig(engine=config.engine))
    port = await server.start("127.0.0.1", 0)
    callers = []
    try:
        for _ in range(4):
            callers.append(socket.create_connection(("127.0.0.1", port)))
            callers[-1].sendall(PREFACE)
        await until(lambda: server.census.open == 4)
        await until(lambda: "gRPC connections is reached" in caplog.text)
        late = socket.create_connection(("127.0.0.1", port))
        callers.append(late)
        await until(lambda: is_closed(late))
        assert not any(map(is_closed, callers[:4]))
        if config.engine == "native":  # grpcio closes it before it can be counted
            await until(lambda: server.census.ended["crowded"] == 1)
    finally:
        for caller in callers:
            caller.close()
        await server.stop(0)


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
