"""The replica process itself: how it starts and ends, who may talk to it, and what it may not do."""

import asyncio
import os
import signal
import socket
import stat
import struct
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from limen.contracts.errors import InvalidPackage, ModelFailed, Unavailable
from limen.contracts.inference import InferenceResponse
from limen.packaging.archive.package import open_package
from limen.runtime.placement.process.own import OwnReplicas, end, launch
from limen.runtime.placement.process.placement import ProcessPlacement
from limen.runtime.placement.process.pool.pool import ReplicaPool
from limen.runtime.placement.process.wire import frames
from limen.runtime.placement.process.wire.start import ReplicaStart
from limen.runtime.sandbox.child import model_environment
from limen.testing.asking import ask, ask_all, closed_gate, send, until
from tests.conformance.placements.faults import HANG, faults, row

pytestmark = pytest.mark.parametrize("started", ["fork", "exec"], indirect=True)


class Alone:
    """A replica process without anybody who keeps it, and a pool that talks to it."""

    def __init__(self, launched, path, package):
        self.process, self.ready = launched
        self.path = str(path)
        self.package = package
        self.pool = ReplicaPool("faults", "1", digest=package.digest)

    async def exit_status(self):
        return await asyncio.wait_for(self.process.wait(), 60)


def start_of(package, path):
    """Return what a replica of a package is told."""
    return ReplicaStart(root=str(package.root), version="1", digest=package.digest, trust_code=True, socket=str(path))


@pytest.fixture
async def alone(tmp_path):
    """A replica that is launched by hand."""
    package = faults(tmp_path)
    path = tmp_path / "s"
    start = start_of(package, path)
    found = Alone(await launch(start), path, package)
    found.pool.set_replicas([found.path])
    await found.pool.wait_ready(5)
    yield found
    await found.pool.close()
    await end(found.process, grace_s=0)


@pytest.mark.parametrize(("version", "digest"), [("2", ""), ("1", "ab" * 32)])
async def test_a_gateway_that_expects_another_version_does_not_use_it(alone, caplog, version, digest):
    pool = ReplicaPool("faults", version, digest=digest or alone.package.digest)
    pool.set_replicas([alone.path])
    with pytest.raises(Unavailable):
        await pool.wait_ready(0.3)
    # Told once, however often it looks again.
    (text,) = [r.message for r in caplog.records if "is not used" in r.message]
    assert f"process {alone.process.pid} has loaded version 1, {alone.package.digest}" in text
    assert pool.free == 0
    await pool.close()


def test_only_its_owner_may_connect(alone):
    assert stat.S_IMODE(Path(alone.path).stat().st_mode) == 0o600


async def test_it_finishes_the_batch_in_hand_when_it_is_told_to_end(alone, tmp_path):
    with closed_gate(tmp_path) as gate:
        answer = send(alone.pool, [row(1, gate=gate.path)])
        await gate.entered()
        os.kill(alone.process.pid, signal.SIGTERM)
    assert (await answer)[0].outputs["x"].tolist() == [1]
    assert await alone.exit_status() == 0
    assert (alone.package.root / "closed").exists()


async def test_it_does_not_end_at_a_ctrl_c(alone):
    os.kill(alone.process.pid, signal.SIGINT)
    assert isinstance(await ask(alone.pool, row(1)), InferenceResponse)


async def test_it_ends_when_its_parent_has_gone(alone):
    alone.process.stdin.close()
    await alone.exit_status()


async def test_it_ends_when_its_parent_has_gone_even_in_the_middle_of_a_hang(alone):
    send(alone.pool, [row(HANG)]).cancel()
    await until(lambda: alone.pool._ready[0].running)
    alone.process.stdin.close()
    await alone.exit_status()


async def test_a_broken_frame_ends_its_connection_and_no_other(alone):
    loop = asyncio.get_running_loop()
    hello = frames.HELLO.pack(frames.MAGIC, 0, 0, frames.identity("1", alone.package.digest))
    bodies = (
        b"",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        hello + bytes(64),
        hello + struct.pack("<I", 33) + bytes(60),
        hello + frames.HEADER.pack(32, 99, 0, 0, 1, 0, 1, 1, 0.0),
        hello + frames.HEADER.pack(32, frames.BATCH, 0, 7, 1, 0, 1, 1, 0.0),
        hello + frames.text_frame(frames.LAYOUT, b"[[],[],true"),
    )
    for body in bodies:
        with socket.socket(socket.AF_UNIX) as peer:
            peer.setblocking(False)
            await loop.sock_connect(peer, alone.path)
            if body:
                await loop.sock_sendall(peer, body)
            else:
                peer.shutdown(socket.SHUT_WR)
            with suppress(ConnectionResetError):
                async with asyncio.timeout(60):
                    while await loop.sock_recv(peer, 4096):
                        pass
        assert isinstance(await ask(alone.pool, row(1)), InferenceResponse)


async def test_two_gateways_take_turns(alone):
    other = ReplicaPool("faults", "1", digest=alone.package.digest)
    other.set_replicas([alone.path])
    await other.wait_ready(5)
    both = await asyncio.gather(*(ask_all(pool, [row(n), row(n)]) for n in range(20) for pool in (alone.pool, other)))
    assert [[o.outputs["x"][0] for o in outcomes] for outcomes in both] == [[n, n] for n in range(20) for _ in "ab"]
    await other.close()


async def test_replicas_that_are_not_wanted_any_more_finish_their_work(alone, tmp_path):
    with closed_gate(tmp_path) as gate:
        answer = send(alone.pool, [row(1, gate=gate.path)])
        await gate.entered()
        alone.pool.set_replicas([])
        assert (alone.pool.free, alone.pool.connected) == (0, 0)
    assert (await answer)[0].outputs["x"].tolist() == [1]
    await asyncio.wait_for(alone.pool.wait_retired(), 60)


async def test_a_replica_is_in_use_until_the_one_that_replaces_it_answers(alone, tmp_path):
    pool, (old,) = alone.pool, alone.pool.pids
    start = start_of(alone.package, tmp_path / "t")
    pool.set_replicas([start.socket])
    assert (pool.free, pool.pids) == (1, (old,))
    assert (await ask(pool, row(1))).outputs["pid"].tolist() == [old]
    other = await launch(start)
    await asyncio.wait_for(pool.wait_retired(), 60)
    assert (pool.free, pool.pids) == (1, (other.process.pid,))
    assert (await ask(pool, row(1))).outputs["pid"].tolist() == [other.process.pid]
    # One that ends while it is being left is not looked for again.
    pool.set_replicas([alone.path + "x"])
    await end(other.process)
    await asyncio.wait_for(pool.wait_retired(), 60)
    assert (pool.free, pool.pids) == (0, ())


async def test_the_placement_uses_the_replicas_it_is_told_of_and_follows_changes(alone):
    with pytest.raises(InvalidPackage, match="--trust-code"):
        await ProcessPlacement().start(alone.package, "1")
    told = []
    placement = ProcessPlacement(trust_code=True, on_poison=told.append)
    placement.set_quarantined(["0" * 32])
    idle = await placement.start(alone.package, "1")
    assert idle.free == 0
    freed = asyncio.Event()
    idle.on_free = freed.set
    placement.set_replicas("faults", "1", [alone.path])
    await asyncio.wait_for(freed.wait(), 60)
    assert (idle.free, idle.can_stream, idle.quarantined) == (1, True, {"0" * 32})
    assert isinstance(await ask(idle, row(1)), InferenceResponse)
    placement.set_replicas("faults", "1", [])
    assert idle.free == 0
    await idle.close()
    await idle.close()


async def test_a_closed_pool_answers_what_it_had_as_unavailable(alone, tmp_path):
    with closed_gate(tmp_path) as gate:
        answer = send(alone.pool, [row(1, gate=gate.path)])
        await gate.entered()
        await alone.pool.close()
        assert [outcome.reason for outcome in await answer] == ["NOT_READY"]


async def test_closing_ends_the_processes_so_that_their_memory_comes_back(tmp_path):
    pool = await OwnReplicas(trust_code=True, replicas=2).start(faults(tmp_path), "1")
    pids, folder = pool.pids, Path(pool._folder)
    assert len(pids) == 2
    await pool.close()
    await pool.close()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert not folder.exists()  # noqa: ASYNC240


async def test_a_model_reaches_no_network_where_the_replica_says_so(alone):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        outcome = await ask(alone.pool, row(1, connect=listener.getsockname()[1]))
    if "no-network" in alone.ready.isolation:
        assert isinstance(outcome, ModelFailed)
    else:
        assert isinstance(outcome, InferenceResponse)


async def test_a_package_that_cannot_be_loaded_is_a_reason_and_not_a_process(tmp_path):
    package = faults(tmp_path)
    (package.root / "model.py").write_text("raise RuntimeError('marker-7f3a')")
    start = start_of(open_package(package.root, tmp_path), tmp_path / "s")
    with pytest.raises(InvalidPackage, match="raised RuntimeError") as caught:
        await launch(start)
    assert "marker-7f3a" not in str(caught.value)
    with pytest.raises(InvalidPackage, match="--trust-code"):
        await launch(msgspec.structs.replace(start, trust_code=False))
    with pytest.raises(InvalidPackage, match="socket"):
        await launch(msgspec.structs.replace(start, socket=str(tmp_path / "nowhere" / "s")))


async def test_a_replica_answers_where_no_folder_for_temporary_files_can_be_made(tmp_path):
    package = faults(tmp_path)
    (tmp_path / "full").write_text("")
    start = start_of(open_package(package.root, tmp_path), tmp_path / "s")
    launched = await launch(msgspec.structs.replace(start, scratch=str(tmp_path / "full" / "m-v1-1")))
    assert launched.ready.load_s >= 0
    launched.process.kill()
    await launched.process.wait()


def test_native_threads_are_as_many_as_the_cores_of_the_replica():
    assert model_environment(3)["OMP_NUM_THREADS"] == "3"
    assert model_environment(1)["OMP_WAIT_POLICY"] == "PASSIVE"
