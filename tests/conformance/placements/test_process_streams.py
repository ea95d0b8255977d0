"""Streams from replicas: in order, no further ahead than the reader, and over when he leaves or the replica does."""

import asyncio
import os
import signal

import pytest

from limen.contracts.errors import DeadlineExceeded, ModelFailed, Reason
from limen.contracts.inference import NO_DEADLINE, Deadline
from limen.runtime.placement.process.own import OwnReplicas
from limen.testing.asking import ask, closed_gate, until
from tests.conformance.placements.faults import faults, row


@pytest.fixture
async def pool(tmp_path):
    """One replica."""
    found = await OwnReplicas(trust_code=True).start(faults(tmp_path), "1")
    found.folder = tmp_path / "faults"
    yield found
    await found.close()


async def read(pool, upto, **parameters):
    """Return all parts of a stream."""
    stream = pool.stream(row(upto, **parameters), NO_DEADLINE)
    return [int(part.outputs["x"][0]) async for part in stream]


async def test_every_part_comes_in_order_however_many_there_are(pool):
    assert pool.can_stream
    assert await read(pool, 500) == list(range(500))


async def test_several_streams_and_batches_share_a_replica(pool):
    streams = [asyncio.create_task(read(pool, 100)) for _ in range(4)]
    assert (await ask(pool, row(7))).outputs["x"].tolist() == [7]
    assert await asyncio.gather(*streams) == [list(range(100))] * 4


async def test_a_reader_who_leaves_frees_the_replica(pool):
    stream = pool.stream(row(1 << 24), NO_DEADLINE)
    await anext(stream)
    await stream.aclose()
    await until((pool.folder / "stopped").exists)
    await until(lambda: not any(link.streams for link in pool._ready))
    assert await read(pool, 3) == [0, 1, 2]


async def test_a_replica_is_not_far_ahead_of_a_reader_who_waits(pool):
    stream = pool.stream(row(1 << 24), NO_DEADLINE)
    await anext(stream)
    # What has been sent by now is all that comes until more is read.
    await ask(pool, row(1))
    await ask(pool, row(1))
    (waiting,) = pool._streams
    before = len(waiting.parts)
    await ask(pool, row(1))
    assert before <= len(waiting.parts) <= 32
    await stream.aclose()


async def test_a_replica_killed_in_the_middle_is_an_explicit_error(pool):
    stream = pool.stream(row(1 << 24), NO_DEADLINE)
    await anext(stream)
    os.kill(pool.pids[0], signal.SIGKILL)
    with pytest.raises(ModelFailed, match="process ended"):
        async for _ in stream:
            pass
    await until(lambda: pool.connected)
    assert await read(pool, 2) == [0, 1]


async def test_a_stream_that_kills_twice_is_quarantined(pool):
    for _ in range(2):
        await until(lambda: pool.connected)
        with pytest.raises(ModelFailed, match="process ended"):
            await read(pool, 9, die_at=3)
    with pytest.raises(ModelFailed) as caught:
        await read(pool, 9, die_at=3)
    assert caught.value.reason is Reason.MODEL_CRASH


async def test_the_deadline_ends_a_stream(pool, tmp_path):
    with closed_gate(tmp_path) as gate:
        stream = pool.stream(row(5, gate=gate.path), Deadline.after(0.1))
        with pytest.raises(DeadlineExceeded):
            await anext(stream)
    await until(lambda: not any(link.streams for link in pool._ready))
