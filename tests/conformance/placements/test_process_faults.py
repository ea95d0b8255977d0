"""What callers see when a replica crashes, hangs or runs out of memory: F01-F06 of the reliability table."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from limen.contracts.errors import DeadlineExceeded, ModelFailed, Reason, Unavailable
from limen.contracts.inference import Deadline, InferenceResponse
from limen.runtime.placement.process import own
from limen.runtime.placement.process.own import OwnReplicas
from limen.runtime.placement.process.pool.pool import ReplicaPool
from limen.runtime.placement.process.pool.suspects import fingerprint
from limen.runtime.placement.process.wire.start import OOM_STATUS, RECYCLE_AT, resident_share
from limen.testing.asking import ask, ask_all, closed_gate, send, until
from tests.conformance.placements.faults import DIE, FAIL, HANG, HOG, MEMORY_MB, faults, row

QUICK = "serving: {hang_after_s: 0.4}\n"
LIMITED = f"serving: {{resources: {{memory_mb: {MEMORY_MB}}}}}\n"


@pytest.fixture
async def pool(tmp_path):
    """Two replicas that are quickly found to hang and quickly replaced."""
    found = await OwnReplicas(trust_code=True, replicas=2).start(faults(tmp_path, QUICK), "1")
    yield found
    await found.close()


async def test_only_the_request_that_breaks_a_run_fails(pool):
    outcomes = await ask_all(pool, [row(1), row(2), row(FAIL), row(4), row(5)])
    assert [isinstance(outcome, InferenceResponse) for outcome in outcomes] == [True, True, False, True, True]
    assert [o.outputs["x"].tolist() for o in outcomes if isinstance(o, InferenceResponse)] == [[1], [2], [4], [5]]
    assert outcomes[2].reason is Reason.MODEL_FAILED
    assert "marker-7f3a" not in str(outcomes[2])
    assert pool.crashes == 0


async def test_the_log_ties_a_request_that_failed_to_its_traceback(tmp_path, caplog, capfd):
    pool = await OwnReplicas(trust_code=True).start(faults(tmp_path), "1")
    request = row(FAIL)
    request.id = "broken-one"
    await ask(pool, request)
    await pool.close()
    (text,) = [r.message for r in caplog.records if "broken-one" in r.message]
    assert text.startswith("faults version 1 failed on request broken-one (incident ")
    assert text.removeprefix("faults version 1 failed on request broken-one ") in capfd.readouterr().err


async def test_f01_what_a_killed_replica_had_in_hand_is_answered_by_another(pool, tmp_path):
    with closed_gate(tmp_path) as gate:
        batch = send(pool, [row(n, gate=gate.path) for n in range(4)])
        await gate.entered()
        (victim,) = [pid for pid in pool.pids if os.kill(pid, 0) is None and is_waiting(pool, pid)]
        os.kill(victim, signal.SIGKILL)
        await until(lambda: victim not in pool.pids)
    outcomes = await asyncio.wait_for(batch, 60)
    assert [outcome.outputs["x"].tolist() for outcome in outcomes] == [[0], [1], [2], [3]]
    assert {outcome.outputs["pid"][0] for outcome in outcomes} == set(pool.pids) - {victim}
    assert pool.crashes == 1
    assert pool.quarantined == set()


async def test_f02_when_no_replica_can_be_started_who_waits_and_who_comes_is_refused_until_one_is_there(pool):
    pids = pool.pids
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    waiting = [asyncio.create_task(ask(pool, row(n))) for n in range(4)]
    await asyncio.sleep(0)
    turns = []
    pool.on_turn = lambda: turns.append(pool.down)
    # One that is connected knows better.
    pool.set_down("not true")
    assert pool.down == ""
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    await until(lambda: pool.connected == 0)
    pool.set_down("no memory")
    outcomes = [*await asyncio.gather(*waiting), await ask(pool, row(5))]
    assert {(type(o), o.retry_after_s) for o in outcomes} == {(Unavailable, 5.0)}
    await until(lambda: pool.connected == 2)
    assert (await ask(pool, row(6))).outputs["x"].tolist() == [6]
    assert turns == ["no memory", ""]


def is_waiting(pool, pid):
    """Whether a replica has something in hand."""
    return any(link.works for link in pool._ready if link.pid == pid)


async def test_f01_nobody_notices_replicas_that_are_killed_again_and_again(pool):
    failed = []
    until_at = asyncio.get_running_loop().time() + 1.5

    async def caller(n):
        asked = 0
        while asyncio.get_running_loop().time() < until_at:
            asked += 1
            # Never the same request: somebody who kills by chance twice would get it quarantined.
            outcome = await ask(pool, row(n + asked / 1024))
            if not isinstance(outcome, InferenceResponse):
                failed.append(outcome)
        return asked

    callers = [asyncio.create_task(caller(n)) for n in range(8)]
    for _ in range(3):
        await until(lambda: pool.connected == 2)
        os.kill(pool.pids[0], signal.SIGKILL)
        await until(lambda: pool.connected == 1)
    asked = sum(await asyncio.gather(*callers))
    assert failed == []
    assert asked > 100


async def test_f03_a_request_that_kills_twice_is_quarantined_and_its_neighbours_are_answered(pool):
    told = []
    pool._on_poison = told.append
    outcomes = await ask_all(pool, [row(n) for n in range(5)] + [row(DIE)] + [row(6)])
    assert [o.outputs["x"][0] for o in outcomes[:5]] == [0, 1, 2, 3, 4]
    assert outcomes[6].outputs["x"].tolist() == [6]
    assert (type(outcomes[5]), outcomes[5].reason) == (ModelFailed, Reason.MODEL_CRASH)
    assert pool.crashes == 2
    assert told == [fingerprint(row(DIE))] == list(pool.quarantined)
    # From now on it is answered at once, alone and among others.
    assert (await ask(pool, row(DIE))).reason is Reason.MODEL_CRASH
    good, bad = await ask_all(pool, [row(7), row(DIE)])
    assert (good.outputs["x"].tolist(), bad.reason) == ([7], Reason.MODEL_CRASH)
    assert pool.crashes == 2


async def test_f03_whoever_is_answered_when_tried_again_is_no_suspect_any_more(pool, tmp_path):
    """The same request is in hand, alone, each time a replica is killed from outside."""
    for n in range(3):
        await until(lambda: pool.connected == 2)
        (folder := tmp_path / str(n)).mkdir()
        with closed_gate(folder) as gate:
            # A link, so that the request is the same each time.
            (link := tmp_path / "gate").unlink(missing_ok=True)
            link.symlink_to(gate.path)
            entered = tmp_path / "gate.entered"
            entered.unlink(missing_ok=True)
            asking = asyncio.create_task(ask(pool, row(5, gate=str(link))))
            await until(entered.exists)
            (victim,) = [pid for pid in pool.pids if is_waiting(pool, pid)]
            os.kill(victim, signal.SIGKILL)
            await until(lambda victim=victim: victim not in pool.pids)
        assert (await asyncio.wait_for(asking, 60)).outputs["x"].tolist() == [5]
    assert (pool.crashes, pool.quarantined) == (3, set())


async def test_f03_what_one_gateway_found_holds_for_the_others(pool):
    other = ReplicaPool("faults", "1", digest=pool.digest)
    other.set_replicas(tuple(pool._paths.values()))
    await other.wait_ready(5)
    other.set_quarantined([fingerprint(row(DIE))])
    assert (await ask(other, row(DIE))).reason is Reason.MODEL_CRASH
    assert other.crashes == 0
    await other.close()


async def test_f03_who_waited_behind_a_poison_of_another_gateway_is_no_suspect(tmp_path):
    pool = await OwnReplicas(trust_code=True).start(faults(tmp_path), "1")
    other = ReplicaPool("faults", "1", digest=pool.digest)
    other.set_replicas(tuple(pool._paths.values()))
    await other.wait_ready(5)
    with closed_gate(tmp_path) as gate:
        poison = send(pool, [row(DIE, gate=gate.path)])
        await gate.entered()
        innocent = send(other, [row(1), row(2)])
        await until(lambda: other.free == 0)
    await until(lambda: pool.crashes == 1)
    other.set_replicas(tuple(pool._paths.values()))
    await until(lambda: pool.restarts == 2)
    other.set_replicas(tuple(pool._paths.values()))
    assert [o.outputs["x"][0] for o in await asyncio.wait_for(innocent, 60)] == [1, 2]
    assert (await asyncio.wait_for(poison, 60))[0].reason is Reason.MODEL_CRASH
    assert (pool.crashes, other.crashes) == (2, 0)
    await other.close()
    await pool.close()


async def test_f04_a_replica_that_hangs_is_killed_and_the_request_quarantined(pool):
    outcomes = await ask_all(pool, [row(1), row(HANG)])
    assert outcomes[0].outputs["x"].tolist() == [1]
    assert outcomes[1].reason is Reason.MODEL_CRASH
    assert pool.hangs == 2
    # Who reads it knows what to change, now and when the same request comes again.
    for refused in (outcomes[1], await ask(pool, row(HANG))):
        assert "serving.hang_after_s (0.4 s)" in refused.message


async def test_f04_the_log_names_setting_model_version_and_request_of_a_hang(pool, caplog):
    request = row(HANG)
    request.id = "slow-one"
    await ask(pool, request)
    (first, second) = [r.message for r in caplog.records if "hang_after_s" in r.message]
    for text in (first, second):
        assert text.startswith("faults version 1: ")
        assert "serving.hang_after_s (0.4 s)" in text
        assert "slow-one" in text


async def test_f04_a_stopped_replica_is_killed_and_its_work_done_elsewhere(pool):
    os.kill(pool.pids[0], signal.SIGSTOP)
    stopped = pool.pids[0]
    answers = [send(pool, [row(n)]) for n in range(2)]
    for n, answer in enumerate(answers):
        (outcome,) = await asyncio.wait_for(answer, 60)
        assert outcome.outputs["x"].tolist() == [n]
        assert outcome.outputs["pid"][0] != stopped
    assert pool.hangs == 1
    assert pool.quarantined == set()


async def test_f04_a_run_that_takes_as_long_as_the_warm_up_did_is_left_alone(pool, tmp_path):
    pool.allow(2.0)
    with closed_gate(tmp_path) as gate:
        answer = send(pool, [row(1, gate=gate.path)])
        await gate.entered()
        await asyncio.sleep(0.8)  # twice the floor: time is what is tested
    assert (await answer)[0].outputs["x"].tolist() == [1]
    assert pool.hangs == 0


async def test_f04_a_slow_replica_that_goes_on_is_left_alone(pool, tmp_path):
    for link in pool._ready:
        link.times.append(2.0)
    with closed_gate(tmp_path) as gate:
        answer = send(pool, [row(1, gate=gate.path)])
        await gate.entered()
        await asyncio.sleep(0.8)  # twice the floor: time is what is tested
    assert (await answer)[0].outputs["x"].tolist() == [1]
    assert pool.hangs == 0


async def test_f05_a_model_that_wants_too_much_memory_takes_its_replica_and_nothing_else(tmp_path):
    pool = await OwnReplicas(trust_code=True).start(faults(tmp_path, LIMITED), "1")
    outcomes = await ask_all(pool, [row(1), row(HOG), row(3)])
    assert [type(outcome) for outcome in outcomes] == [InferenceResponse, ModelFailed, InferenceResponse]
    await until(lambda: pool.exits)
    assert pool.exits == [OOM_STATUS]
    assert isinstance(await ask(pool, row(2)), InferenceResponse)
    # The second time proves it.
    assert isinstance(await ask(pool, row(HOG)), ModelFailed)
    assert (await ask(pool, row(HOG))).reason is Reason.MODEL_CRASH
    await until(lambda: len(pool.exits) == 2)
    await pool.close()


def is_running(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


async def test_f06_a_leaking_replica_is_replaced_before_it_reaches_its_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(own, "CHECK_S", 0.05)
    pool = await OwnReplicas(trust_code=True).start(faults(tmp_path, LIMITED), "1")
    failed, pids = [], set()
    async with asyncio.timeout(60):
        while len(pids) < 2:
            # Fast up to the mark, then slowly, so that a replacement has time to load.
            is_near = resident_share(pool.pids[0], MEMORY_MB) > RECYCLE_AT
            outcome = await ask(pool, row(leak=32 if is_near else 8 << 10))
            if isinstance(outcome, InferenceResponse):
                pids.add(int(outcome.outputs["pid"][0]))
            else:
                failed.append(outcome)
            await asyncio.sleep(0.01)
    assert failed == []
    assert (pool.recycled, pool.exits) == (1, [])
    await pool.close()
    assert not any(map(is_running, pids))


async def test_expired_work_is_not_begun(pool, tmp_path):
    outcome = await ask(pool, row(DIE), Deadline.after(-1))
    assert isinstance(outcome, DeadlineExceeded)
    assert pool.crashes == 0


async def test_lost_work_waits_for_a_replica_no_longer_than_its_deadline(tmp_path):
    pool = await OwnReplicas(trust_code=True).start(faults(tmp_path), "1")
    pool._paths.clear()
    pool.set_replicas(())
    assert pool.free == 0
    outcome = await ask(pool, row(1), Deadline.after(0.1))
    assert isinstance(outcome, DeadlineExceeded)
    await pool.close()


async def test_cancelled_work_that_waits_is_not_begun_and_frees_the_replica(pool, tmp_path):
    done = []
    with closed_gate(tmp_path) as gate:
        busy = [send(pool, [row(n, gate=gate.path)]) for n in range(2)]
        await until(lambda: pool.free == 0)
        cancel = pool.send([row(DIE)], Deadline.after(20), done.append)
        cancel()
        cancel()
    await asyncio.gather(*busy)
    await until(lambda: pool.free == 2)
    assert done == []
    assert pool.crashes == 0
