"""The adaptive limit converges on what the placement can do, and comes back from anything."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limen.traffic.limit import AdaptiveLimit

TARGET_S = 0.25


def formula(at_once: int, rate: float, ceiling: int) -> int:
    """The documented limit of a placement that ends `rate` requests a second and misses no deadline."""
    return int(max(min(at_once, ceiling), min(ceiling, at_once + max(at_once, 16, rate * TARGET_S))))


def busy(limit: AdaptiveLimit, rate: float, windows: int, drop_share: float = 0.0) -> None:
    """Feed windows in which as much was in hand as the limit allows."""
    elapsed_s = max(0.1, 16 / rate)
    done = max(1, round(rate * elapsed_s))
    dropped = round(done * drop_share)
    for _ in range(windows):
        limit.update(elapsed_s, done - dropped, dropped, limit.value * elapsed_s)


rates = st.floats(1.0, 1e5)


@given(st.integers(1, 256), st.integers(1, 4096), rates)
def test_it_converges_within_seconds_of_steady_load(at_once, ceiling, rate):
    limit = AdaptiveLimit(at_once, ceiling, TARGET_S)
    busy(limit, rate, 2)
    measured = limit.rate
    assert measured == pytest.approx(rate, rel=0.05)
    assert limit.value == formula(min(at_once, ceiling), measured, ceiling)


@given(st.integers(1, 64), rates, rates)
def test_it_follows_a_placement_that_becomes_faster_or_slower(at_once, before, after):
    limit = AdaptiveLimit(at_once, 1024, TARGET_S)
    busy(limit, before, 20)
    busy(limit, after, 16)
    assert limit.value == formula(at_once, limit.rate, 1024)
    assert limit.rate == pytest.approx(after, rel=0.05)


windows = st.lists(
    st.tuples(st.floats(0.1, 30.0), st.integers(0, 2000), st.integers(0, 2000), st.floats(0.0, 1e4)), max_size=120
)


@given(windows, st.integers(1, 64), st.floats(160.0, 1e5))
def test_f23_it_has_no_metastable_state(history, at_once, rate):
    """Whatever happened before, five seconds of good windows leave the limit a new one would have."""
    limit = AdaptiveLimit(at_once, 1024, TARGET_S)
    for window in history:
        limit.update(*window)
        assert at_once <= limit.value <= 1024
    busy(limit, rate, 50)
    assert limit.value == formula(at_once, limit.rate, 1024)


@given(windows, st.integers(1, 64))
def test_a_calm_time_gives_the_ceiling_back(history, at_once):
    limit = AdaptiveLimit(at_once, 1024, TARGET_S)
    for window in history:
        limit.update(*window)
    limit.update(2.0, 16, 0, 0.1)
    assert (limit.value, limit.rate) == (1024, None)


@given(st.integers(1, 64), st.floats(160.0, 1e4))
def test_missed_deadlines_lower_it_to_what_runs_at_once_and_no_further(at_once, rate):
    limit = AdaptiveLimit(at_once, 1024, TARGET_S)
    busy(limit, rate, 200, drop_share=0.5)
    assert at_once <= limit.value <= max(at_once, int(formula(at_once, rate, 1024) * 0.07))


def test_windows_that_are_not_busy_say_nothing():
    limit = AdaptiveLimit(16, 1024, TARGET_S)
    for _ in range(100):
        limit.update(0.1, 16, 0, 1.5)  # 15 in hand on average, where 16 could run
    assert limit.value == 1024


def test_one_stall_does_not_lower_it():
    limit = AdaptiveLimit(1, 1024, TARGET_S)
    busy(limit, 5000.0, 3)
    limit.update(5.0, 16, 0, 5000.0)
    assert limit.value == 1024


def test_f26_a_cold_start_is_not_taken_for_a_slow_model():
    limit = AdaptiveLimit(1, 1024, TARGET_S)
    limit.update(8.0, 16, 0, 8000.0)  # 1,000 waited for the load; the first sixteen are answered
    assert limit.value == 1024
    busy(limit, 5000.0, 1)
    assert limit.value == 1024


def test_a_slow_model_is_known_after_two_windows():
    limit = AdaptiveLimit(1, 1024, TARGET_S)
    limit.update(1.6, 16, 0, 1600.0)
    limit.update(1.6, 16, 0, 1600.0)
    assert limit.value == 17


def test_settings_may_change_under_way():
    limit = AdaptiveLimit(16, 1024, TARGET_S)
    busy(limit, 800.0, 3)
    assert limit.value == 216
    limit.resize(32, 1024, 1.0)
    assert limit.value == 832
    limit.resize(8, 100, 1.0)
    assert limit.value == 100
