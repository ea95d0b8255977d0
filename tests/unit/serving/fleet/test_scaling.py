"""How many replicas there should be, as tables and as runs against a simulated load."""

import random
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limen.contracts.serving import Replicas
from limen.serving.fleet.scaling import TURN_S, Load, ScalingState, next_count

Demand = Callable[[float], float]
"""Requests in hand at a time, whatever the number of replicas."""


def run(
    settings: Replicas,
    in_hand: Demand,
    until: float,
    *,
    count: int = 1,
    load_s: float = 3.0,
    last_request_at: Callable[[float], float] = lambda at: at,
    queue_s: Callable[[float, int], float] = lambda at, ready: 0.0,
) -> Iterator[tuple[float, int]]:
    """Yield the time and the count once a second, with replicas that are ready `load_s` after they were asked for."""
    state = ScalingState()
    ready_at = [0.0] * count
    for second in range(int(until)):
        now = float(second)
        ready = sum(at <= now for at in ready_at)
        load = Load(
            in_hand=round(in_hand(now)),
            queue_s=queue_s(now, ready),
            ready=ready,
            starting=len(ready_at) - ready,
            idle_s=now - last_request_at(now),
            load_s=load_s,
        )
        count, state = next_count(settings, load, state, now)
        assert settings.min <= count <= settings.max
        assert state.count == count
        ready_at = sorted(ready_at)[:count] + [now + load_s] * (count - len(ready_at))
        yield now, count


def changes(found: Iterator[tuple[float, int]]) -> list[tuple[float, int]]:
    """Keep the first count and every change."""
    kept: list[tuple[float, int]] = []
    for now, count in found:
        if not kept or kept[-1][1] != count:
            kept.append((now, count))
    return kept


def turns(steps: list[tuple[float, int]]) -> list[float]:
    """Return when the direction of change changed."""
    signed = [(now, 1 if count > before else -1) for (_, before), (now, count) in pairwise(steps)]
    return [now for (_, before), (now, sign) in pairwise(signed) if sign != before]


def load(**known) -> Load:
    return Load(**{"in_hand": 0, "ready": 1, **known})


SETTINGS = Replicas(min=1, max=8, concurrency=8.0)
TO_ZERO = Replicas(min=0, max=8, concurrency=8.0, idle_s=300.0)
HOT = ScalingState(count=2, demand=2.0, seen_at=0.0, high_at=0.0)
LOW = ScalingState(count=3, demand=0.5, seen_at=99.0, low_at=40.0)

TABLE = {
    # settings, load, state, now, count
    "what is there is kept at first": (SETTINGS, load(ready=3), ScalingState(), 0.0, 3),
    "there are never fewer than min": (Replicas(min=2, max=4), load(ready=1), ScalingState(), 0.0, 2),
    "there are never more than max": (Replicas(min=1, max=2), load(ready=5), ScalingState(), 0.0, 2),
    "a new minimum holds at once": (Replicas(min=4, max=8), load(ready=2), ScalingState(count=2), 0.0, 4),
    "one tick of much load adds none": (
        SETTINGS,
        load(in_hand=500),
        ScalingState(count=1, demand=0.9, seen_at=0.0),
        1.0,
        1,
    ),
    "nor do two seconds": (SETTINGS, load(in_hand=500, ready=2), HOT, 2.9, 2),
    "lasting load adds some": (SETTINGS, load(in_hand=30, ready=2), HOT, 5.0, 4),
    "never more than double what is ready": (SETTINGS, load(in_hand=5000, ready=2), HOT, 500.0, 4),
    "never above max": (Replicas(min=1, max=3), load(in_hand=5000, ready=2), HOT, 500.0, 3),
    "as many in hand as meant are enough": (SETTINGS, load(in_hand=16, ready=2), HOT, 500.0, 2),
    "a long wait adds one": (SETTINGS, load(in_hand=2, ready=2, queue_s=0.6), HOT, 5.0, 3),
    "a short wait does not": (SETTINGS, load(in_hand=2, ready=2, queue_s=0.4), HOT, 5.0, 2),
    "what starts is counted": (SETTINGS, load(in_hand=500, ready=1, starting=1), HOT, 500.0, 2),
    "one goes after a minute of little load": (SETTINGS, load(ready=3), LOW, 100.0, 2),
    "none goes sooner": (SETTINGS, load(ready=3), LOW, 99.5, 3),
    "none goes while others start": (SETTINGS, load(ready=2, starting=1, load_s=20.0), LOW, 100.0, 3),
    "none goes that the others could not carry": (SETTINGS, load(in_hand=12, ready=3), LOW, 140.0, 3),
    "the last one stays": (SETTINGS, load(), ScalingState(count=1, low_at=0.0, seen_at=0.0), 9999.0, 1),
    "an idle one stays when min is 1": (SETTINGS, load(idle_s=9e9), ScalingState(count=1, seen_at=0.0), 9.0, 1),
    "an idle one goes when min is 0": (TO_ZERO, load(idle_s=300.0), ScalingState(count=1, seen_at=0.0), 9.0, 0),
    "all idle ones go": (TO_ZERO, load(ready=5, idle_s=300.0), ScalingState(count=5, seen_at=0.0), 9.0, 0),
    "not before idle_s": (TO_ZERO, load(idle_s=299.0), ScalingState(count=1, seen_at=0.0), 9.0, 1),
    "not while a long request runs": (TO_ZERO, load(in_hand=1, idle_s=900.0), ScalingState(count=1), 9.0, 1),
    "not while it starts": (TO_ZERO, load(ready=0, starting=1, idle_s=900.0), ScalingState(count=1), 9.0, 1),
    "none stay none without a request": (TO_ZERO, load(ready=0, idle_s=900.0), ScalingState(count=0), 9.0, 0),
    "the first request wakes one": (TO_ZERO, load(ready=0, in_hand=1), ScalingState(count=0), 9.0, 1),
    "a herd wakes one too": (TO_ZERO, load(ready=0, in_hand=1000), ScalingState(count=0), 9.0, 1),
    "waking waits for nothing": (
        TO_ZERO,
        load(ready=0, in_hand=1),
        ScalingState(count=0, direction=-1, turned_at=8.0),
        9.0,
        1,
    ),
    "those who wait for a cold start add none": (
        TO_ZERO,
        load(in_hand=1000, queue_s=30.0, ready=0, starting=1),
        ScalingState(count=1, demand=0.0, seen_at=0.0),
        60.0,
        1,
    ),
    "no turn within a minute of the last": (
        SETTINGS,
        load(in_hand=500, ready=2),
        ScalingState(count=2, demand=3.0, seen_at=99.0, high_at=90.0, direction=-1, turned_at=41.0),
        100.0,
        2,
    ),
    "a turn a minute after the last": (
        SETTINGS,
        load(in_hand=500, ready=2),
        ScalingState(count=2, demand=3.0, seen_at=99.0, high_at=90.0, direction=-1, turned_at=40.0),
        100.0,
        4,
    ),
}


@pytest.mark.parametrize(("settings", "load", "state", "now", "count"), TABLE.values(), ids=TABLE.keys())
def test_the_next_count(settings, load, state, now, count):
    assert next_count(settings, load, state, now)[0] == count


def test_a_replica_that_never_gets_ready_does_not_keep_the_others_for_ever():
    state, found = ScalingState(count=3), []
    for second in range(200):
        count, state = next_count(SETTINGS, load(ready=2, starting=1, load_s=20.0), state, float(second))
        found.append((float(second), count))
    assert changes(iter(found))[:2] == [(0.0, 3), (60.0, 2)]


def test_the_grace_is_twice_the_measured_load_time():
    state, found = ScalingState(count=3), []
    for second in range(400):
        count, state = next_count(SETTINGS, load(ready=2, starting=1, load_s=100.0), state, float(second))
        found.append((float(second), count))
    assert changes(iter(found))[:2] == [(0.0, 3), (200.0, 2)]


def test_f41_a_step_up_and_down_again():
    """1x to 5x to 1x: up within seconds of load times, down one by one, one change of direction."""
    settings = Replicas(min=1, max=10, concurrency=8.0)
    steps = changes(run(settings, lambda at: 32.0 if 60 <= at < 360 else 6.4, 1200))
    up = [(now, count) for now, count in steps if now < 360]
    assert up[-1][1] in {4, 5}
    assert up[-1][0] <= 90
    down = [count for now, count in steps if now >= 360]
    assert down == list(range(up[-1][1] - 1, down[-1] - 1, -1))
    assert down[-1] in {1, 2}
    assert len(turns(steps)) == 1
    assert [b - a for (a, _), (b, _) in pairwise(steps) if a >= 360] >= [60.0]


def test_f41_a_flapping_metric_moves_nothing_back_and_forth():
    for period in (2, 7, 20, 45, 90, 150):
        steps = changes(run(SETTINGS, lambda at, p=period: 40.0 if at % (2 * p) < p else 2.0, 3600))
        found = turns(steps)
        assert all(b - a >= TURN_S for a, b in pairwise(found)), period
        assert period >= 60 or not found, period


def test_f41_noise_around_a_level_settles():
    noise = random.Random(41)
    for level in (4.0, 7.9, 8.0, 12.0, 24.0, 39.0):
        steps = changes(run(SETTINGS, lambda at, x=level: max(0.0, noise.gauss(x, x / 2)), 3600))
        assert len(turns(steps)) <= 1, (level, steps)


def test_a_backlog_is_not_taken_for_demand():
    """3.5 times what one replica can do, and slow starts: meanwhile the queue is as long as admission lets it be."""
    settings = Replicas(min=1, max=32, concurrency=8.0)
    in_hand, peak, count = 8.0, 0, 1
    state, ready_at = ScalingState(), [0.0]
    for second in range(600):
        now = float(second)
        ready = sum(at <= now for at in ready_at)
        # a replica ends 100 requests a second with 8 in hand; 350 come in; admission stops at 40 in hand for each replica
        in_hand = min(max(28.0, in_hand + 350.0 - 100.0 * ready), 40.0 * ready)
        measured = Load(in_hand=round(in_hand), ready=ready, starting=len(ready_at) - ready, load_s=10.0)
        count, state = next_count(settings, measured, state, now)
        ready_at = sorted(ready_at)[:count] + [now + 10.0] * (count - len(ready_at))
        peak = max(peak, count)
    assert 4 <= peak <= 6
    assert 4 <= count <= 6


def test_f26_waking_again_and_again():
    """One request every eleven minutes, idle_s of five: one start for each, let go after idle_s."""

    def last(at: float) -> float:
        return at - at % 660

    steps = changes(
        run(TO_ZERO, lambda at: 1.0 if at % 660 < 5 else 0.0, 2000, count=0, last_request_at=last, load_s=8.0)
    )
    assert steps == [(0.0, 1), (300.0, 0), (660.0, 1), (960.0, 0), (1320.0, 1), (1620.0, 0), (1980.0, 1)]


loads = st.builds(
    Load,
    in_hand=st.integers(0, 5000),
    queue_s=st.floats(0.0, 60.0),
    ready=st.integers(0, 12),
    starting=st.integers(0, 12),
    idle_s=st.floats(0.0, 1000.0),
    load_s=st.floats(0.0, 300.0),
)
replicas = st.builds(
    Replicas,
    min=st.integers(0, 4),
    max=st.integers(4, 10),
    concurrency=st.floats(0.1, 100.0),
    idle_s=st.floats(0.0, 600.0),
)


@given(replicas, st.lists(st.tuples(loads, st.floats(0.0, 90.0)), min_size=1, max_size=60))
def test_the_rules_hold_whatever_is_measured(settings, ticks):
    """Bounds; down by one or to zero; up to at most twice what is ready; one turn a minute, wakes aside."""
    now, state = 0.0, ScalingState()
    before: int | None = None
    direction, turned_at = 0, -1e9
    for measured, passed_s in ticks:
        now += passed_s
        count, state = next_count(settings, measured, state, now)
        assert settings.min <= count <= settings.max
        if before is not None and count != before:
            sign = 1 if count > before else -1
            if sign < 0:
                assert count in {before - 1, 0}
                assert count or not measured.in_hand
            elif before:
                assert count <= 2 * measured.ready
            else:
                assert count == 1
            if sign == -direction:
                assert before == 0 or now - turned_at >= TURN_S
                turned_at = now
            direction = sign
        before = count
