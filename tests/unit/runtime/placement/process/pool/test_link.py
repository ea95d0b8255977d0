"""A gateway's link against replicas that do not keep to the protocol."""

import asyncio
import socket
import struct

import numpy as np
import pytest

from limen.contracts.inference import NO_DEADLINE, Deadline, InferenceRequest, InferenceResponse
from limen.runtime.placement.process.pool.pool import ReplicaPool
from limen.runtime.placement.process.wire import frames
from limen.runtime.placement.process.wire.frames import ANSWER, FAILURE, HEADER, LAYOUT, SIZE, Cutter, frame, text_frame
from limen.runtime.placement.process.wire.layout import layout_of
from limen.runtime.placement.process.wire.packer import Packer

Y = {"y": np.array([7.0], np.float32)}


EXPECTED = frames.identity("1", "")


class FakeReplica:
    """Welcomes gateways and answers each batch with the next of the bytes it was given; then as it should."""

    def __init__(self, path, answers, identity=EXPECTED):
        self.identity = identity
        self.path = str(path)
        self.answers = list(answers)
        self.batches = 0
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen()
        self._listener.setblocking(False)
        self._task = asyncio.create_task(self._serve())

    async def _serve(self):
        loop = asyncio.get_running_loop()
        with self._listener:
            while True:
                connection, _ = await loop.sock_accept(self._listener)
                with connection:
                    await loop.sock_recv(connection, frames.HELLO.size)
                    await loop.sock_sendall(connection, frames.WELCOME.pack(frames.MAGIC, 1, 0, 0, self.identity))
                    await self._talk(loop, connection)

    async def _talk(self, loop, connection):
        cutter, packer = Cutter(), Packer(None)
        while data := await loop.sock_recv(connection, 1 << 16):
            for buffer, start, _ in cutter.feed(data):
                _, kind, _, _, call, _, count, rows, _ = HEADER.unpack_from(buffer, start)
                if kind == frames.BATCH:
                    self.batches += 1
                    if self.answers:
                        await loop.sock_sendall(connection, self.answers.pop(0))
                        continue
                    right, _ = packer.pack(ANSWER, [Y], {}, call=call, first=0, count=count, rows=rows, time=0.0)
                    await loop.sock_sendall(connection, right)

    async def close(self):
        self._task.cancel()
        await asyncio.wait((self._task,))


def header(length, kind=ANSWER, layout=0, call=1, first=0, count=1, rows=1, flags=0):
    return HEADER.pack(length, kind, flags, layout, call, first, count, rows, 0.0)


TOLD = text_frame(LAYOUT, layout_of(Y, {}).encode())
BROKEN = {
    "no length": header(0),
    "an odd length": header(33) + bytes(8),
    "an unknown kind": header(SIZE, kind=77),
    "an unknown layout": header(SIZE + 8, layout=9) + bytes(8),
    "an unknown call": TOLD + header(SIZE + 8, call=9) + bytes(8),
    "too many rows": TOLD + header(SIZE + 8, rows=2) + bytes(8),
    "too many requests": TOLD + header(SIZE + 8, count=2) + bytes(8),
    "no requests": TOLD + header(SIZE, count=0, rows=0),
    "another place": TOLD + header(SIZE + 8, first=1) + bytes(8),
    "too short a body": TOLD + header(SIZE),
    "too long a body": TOLD + header(SIZE + 16) + bytes(16),
    "memory that is not there": TOLD + header(SIZE + 8, flags=frames.SHARED) + struct.pack("<Q", 1 << 60),
    "no layout": text_frame(LAYOUT, b"{}"),
    "no error": text_frame(FAILURE, b"{}", call=1),
    "a failure of nobody": text_frame(FAILURE, b"{}", call=1, first=5),
    "a part of nothing": frame(frames.PART, 1),
}


@pytest.fixture
async def pool():
    found = ReplicaPool("m", "1")
    yield found
    await found.close()


def ask(pool, deadline=NO_DEADLINE):
    answer = asyncio.get_running_loop().create_future()
    request = InferenceRequest("m", {"x": np.zeros(1, np.float32)}, rows=1)
    pool.send([request], deadline, answer.set_result)
    return asyncio.wait_for(answer, 60)


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
async def test_a_broken_frame_ends_the_connection_and_the_request_is_tried_again(pool, tmp_path, broken):
    replica = FakeReplica(tmp_path / "s", [broken])
    pool.set_replicas([replica.path])
    await pool.wait_ready(5)
    (outcome,) = await ask(pool)
    assert isinstance(outcome, InferenceResponse)
    assert outcome.outputs["y"].tolist() == [7]
    assert replica.batches == 2
    assert pool.free == 1
    await replica.close()


async def test_a_replica_that_is_not_there_yet_is_used_when_it_comes(pool, tmp_path):
    freed = asyncio.Event()
    pool.on_free = freed.set
    pool.set_replicas([str(tmp_path / "s")])
    assert pool.free == 0
    waiting = asyncio.create_task(ask(pool, Deadline.after(10)))
    await asyncio.sleep(0)
    replica = FakeReplica(tmp_path / "s", [])
    assert isinstance((await waiting)[0], InferenceResponse)
    await asyncio.wait_for(freed.wait(), 60)
    assert pool.free == 1
    await replica.close()
