"""The rules of a lane, one at a time; what they do together is in `test_admission_simulated`."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limen.contracts.errors import DeadlineExceeded, ErrorCode, Reason, ResourceExhausted
from limen.contracts.serving import Queue
from limen.traffic.admission import Admission, Ended, Lane, Shed
from limen.traffic.config import AdmissionConfig
from tests.unit.traffic.simulator import Clock


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def admission(clock):
    return Admission(clock=clock)


def shed(lane: Lane) -> dict[str, int]:
    """What was refused, without the reasons that never occurred."""
    return {reason.value: count for reason, count in lane.shed.items() if count}


def admitted(lane: Lane, tries: int, **asked) -> int:
    """Ask some times and say how many came in."""
    count = 0
    for _ in range(tries):
        try:
            lane.acquire(**asked)
        except ResourceExhausted:
            continue
        count += 1
    return count


def loaded(admission: Admission, clock: Clock, rate: float = 800.0, held: int = 64) -> Lane:
    """Return a lane whose placement is known to end `rate` requests a second, 16 at once."""
    lane = admission.lane("m", Queue(), at_once=16)
    for _ in range(held):
        lane.acquire()
    for _ in range(64):
        clock.now += 1.0 / rate
        lane.release(Ended.SUCCESS, held / rate)
        lane.acquire()
    while lane.limit == 1024:
        clock.now += 1.0 / rate
        lane.release(Ended.SUCCESS, held / rate)
        lane.acquire()
    for _ in range(held):
        lane.release(Ended.IGNORED, 0.0)
    return lane


def test_a_refusal_says_why_and_when_to_come_back(admission):
    lane = admission.lane("m", Queue(max_requests=1))
    lane.acquire()
    with pytest.raises(ResourceExhausted) as caught:
        lane.acquire()
    error = caught.value
    assert (error.code, error.reason, error.retryable) == (ErrorCode.RESOURCE_EXHAUSTED, Reason.OVERLOADED, True)
    assert error.message == "too many requests in flight for this model"
    assert 0.1 <= error.retry_after_s <= 45.0
    assert (lane.in_hand, lane.admitted, shed(lane)) == (1, 1, {"count": 1})


def test_as_many_as_the_queue_says_may_be_in_hand(admission):
    lane = admission.lane("m", Queue(max_requests=1024))
    assert admitted(lane, 2000) == 1024
    assert shed(lane) == {"count": 976}


def test_a_released_place_can_be_taken_again(admission):
    lane = admission.lane("m", Queue(max_requests=1))
    for ended in Ended:
        lane.acquire()
        lane.release(ended, 0.001)
    assert (lane.in_hand, lane.admitted, admission.in_hand, admission.active) == (0, 3, 0, 0)


def test_releasing_more_often_than_acquiring_is_an_error_and_changes_nothing(admission):
    lane = admission.lane("m")
    with pytest.raises(RuntimeError):
        lane.release(Ended.SUCCESS, 0.0)
    assert (lane.in_hand, admission.in_hand, admission.active) == (0, 0, 0)


WAITS = {
    "nothing is known": ({}, None),
    "no deadline and a short wait": ({"expected_wait_s": 1.0}, None),
    "no deadline and more than max_wait_ms": ({"expected_wait_s": 1.001}, "time"),
    "a deadline that leaves enough": ({"deadline_at": 103.0, "expected_wait_s": 3.0}, None),
    "a deadline that does not": ({"deadline_at": 103.0, "expected_wait_s": 3.001}, "time"),
    "the caller knows the time": ({"deadline_at": 103.0, "now": 101.0, "expected_wait_s": 2.5}, "time"),
    "a short deadline and no wait": ({"deadline_at": 100.001}, None),
}


@pytest.mark.parametrize(("asked", "why"), WAITS.values(), ids=WAITS.keys())
def test_a_request_that_would_be_late_is_refused(admission, clock, asked, why):
    clock.now = 100.0
    lane = admission.lane("m", Queue(max_wait_ms=1000.0))
    if why is None:
        lane.acquire(**asked)
        assert (lane.in_hand, shed(lane)) == (1, {})
    else:
        with pytest.raises(ResourceExhausted):
            lane.acquire(**asked)
        assert (lane.in_hand, admission.in_hand, shed(lane)) == (0, 0, {why: 1})


def test_b52_a_deadline_that_has_passed_is_told_as_such(admission, clock):
    clock.now = 100.0
    lane = admission.lane("m")
    with pytest.raises(DeadlineExceeded):
        lane.acquire(deadline_at=100.0, expected_wait_s=0.1)
    assert (lane.in_hand, shed(lane)) == (0, {})


def test_a_late_request_is_not_asked_back_before_it_could_be_in_time(admission):
    lane = admission.lane("m", Queue(max_wait_ms=100.0))
    with pytest.raises(ResourceExhausted) as caught:
        lane.acquire(expected_wait_s=7.1)
    assert caught.value.retry_after_s == pytest.approx(7.0)


def test_f23_the_highest_priority_has_a_reserve_and_low_ones_half(admission):
    lane = admission.lane("m", Queue(max_requests=64))
    assert admitted(lane, 100, priority=101) == 32
    assert admitted(lane, 100, priority=100) == 32
    assert admitted(lane, 100) == 0
    assert admitted(lane, 100, priority=1) == 4
    assert shed(lane) == {"limit": 68, "count": 100 + 68 + 96}


def test_f24_retries_are_shed_first(admission):
    lane = admission.lane("m", Queue(max_requests=64))
    assert admitted(lane, 100, is_retry=True) == 32
    assert admitted(lane, 100, is_retry=True, priority=1) == 0
    assert admitted(lane, 100) == 32
    assert shed(lane) == {"retry": 168, "count": 68}


def test_a_queue_of_one_serves_every_class(admission):
    lane = admission.lane("m", Queue(max_requests=1))
    for asked in ({}, {"priority": 1}, {"priority": 500}, {"is_retry": True}):
        lane.acquire(**asked)
        lane.release(Ended.SUCCESS, 0.001)


def test_the_adaptive_limit_bounds_the_lane(admission, clock):
    lane = loaded(admission, clock)
    assert lane.limit == pytest.approx(16 + 800 * 0.25, rel=0.05)
    count = lane.limit
    assert admitted(lane, 1000) == count
    assert shed(lane) == {"limit": 1000 - count}


def test_a_lane_that_was_idle_forgets_its_limit(admission, clock):
    lane = loaded(admission, clock)
    clock.now += 10.0
    assert admitted(lane, 1024) == 1024


def test_new_settings_hold_for_what_comes_next(admission):
    lane = admission.lane("m", Queue(max_requests=10))
    assert admitted(lane, 20) == 10
    assert admission.lane("m", Queue(max_requests=4)) is lane
    lane.release(Ended.SUCCESS, 0.001)
    assert (lane.in_hand, admitted(lane, 1)) == (9, 0)
    assert admission.lane("m") is lane
    admission.lane("m", Queue(max_requests=12))
    assert admitted(lane, 20) == 3


def test_a_forgotten_lane_gives_back_what_it_has(admission):
    lane = admission.lane("m")
    lane.acquire()
    admission.forget("m")
    admission.forget("m")
    assert dict(admission.lanes) == {}
    lane.release(Ended.SUCCESS, 0.001)
    assert (admission.in_hand, admission.active) == (0, 0)


# -- before the body is read ----------------------------------------------------------------------------------------------


def test_a_full_lane_is_full_before_the_body_is_read(admission):
    lane = admission.lane("m", Queue(max_requests=16))
    assert not lane.is_full()
    assert admitted(lane, 8) == 8
    assert not lane.is_full()
    assert lane.is_full(is_retry=True)
    assert admitted(lane, 8) == 8
    assert [lane.is_full() for _ in range(32)].count(False) == 2  # looked at, so that a first high priority is noticed
    error = lane.refuse()
    assert (error.code, error.retry_after_s > 0, shed(lane)) == (ErrorCode.RESOURCE_EXHAUSTED, True, {"count": 1})


def test_bodies_are_read_while_high_priorities_come_in(admission, clock):
    lane = admission.lane("m", Queue(max_requests=32))
    assert admitted(lane, 32) == 32
    assert admitted(lane, 1, priority=1) == 1
    assert not any(lane.is_full() for _ in range(100))
    assert admitted(lane, 5, priority=1) == 1
    assert all(lane.is_full() for _ in range(100))
    lane.release(Ended.SUCCESS, 0.1)
    clock.now += 10.0
    assert [lane.is_full() for _ in range(32)].count(False) == 2


# -- retry after --------------------------------------------------------------------------------------------------------


def test_retries_are_spread(admission):
    lane = admission.lane("m")
    found = sorted(lane.retry_after_s() for _ in range(1000))
    assert found[0] == pytest.approx(0.125, rel=0.01)
    assert found[-1] == pytest.approx(0.375, rel=0.01)
    gaps = [b - a for a, b in pairwise(found)]
    assert max(gaps) < 3 * 0.25 / 1000


def test_the_more_were_refused_the_longer_they_stay_away(admission, clock):
    lane = loaded(admission, clock)
    calm = lane.retry_after_s()
    admitted(lane, 5000)
    for _ in range(320):  # ten times as many ask as are served
        clock.now += 1 / 800
        lane.release(Ended.SUCCESS, 0.25)
        admitted(lane, 10)
    found = [lane.retry_after_s() for _ in range(100)]
    assert 1.2 < min(found) < max(found) < 4.5
    assert calm < 0.5


# -- fairness -----------------------------------------------------------------------------------------------------------


def test_f25_an_endpoint_within_its_share_is_let_in_whatever_another_holds(clock):
    admission = Admission(AdmissionConfig(max_in_flight=64), clock)
    greedy, modest = admission.lane("greedy"), admission.lane("modest")
    assert admitted(greedy, 100) == 32
    assert admitted(modest, 100) == 16
    assert admitted(greedy, 100) == 0
    assert (shed(greedy), shed(modest)) == ({"share": 168}, {"share": 84})
    assert greedy.is_full()
    greedy.refuse()
    assert shed(greedy) == {"share": 169}
    for _ in range(20):
        greedy.release(Ended.SUCCESS, 0.1)
    assert admitted(greedy, 100) == 4
    assert admission.in_hand == 32


def test_other_bounds_count_at_once_for_what_comes_and_leave_what_is_there(clock):
    admission = Admission(AdmissionConfig(max_in_flight=64, target_share=0.25), clock)
    lane = admission.lane("m", Queue(max_wait_ms=1000), at_once=1)
    assert admitted(lane, 100) == 32
    admission.configure(AdmissionConfig(max_in_flight=20, target_share=1.0))
    assert (admission.in_hand, admitted(lane, 10)) == (32, 0)
    for _ in range(30):
        lane.release(Ended.SUCCESS, 0.1)
    assert admitted(lane, 100) == 8
    assert (lane._limit._target_s, admission.lane("n", Queue(max_wait_ms=1000))._limit._target_s) == (1.0, 1.0)


def test_the_process_never_holds_more_than_its_bound(clock):
    admission = Admission(AdmissionConfig(max_in_flight=64), clock)
    lanes = [admission.lane(f"m{i}") for i in range(100)]
    assert sum(admitted(lane, 100) for lane in lanes) == 64


steps = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from(["in", "high", "low", "retry", *Ended]), st.floats(0.0, 0.3)),
    max_size=300,
)


@given(steps, st.integers(1, 40), st.integers(1, 60), st.integers(1, 8))
def test_the_books_balance_and_the_bounds_hold_whatever_happens(steps, max_requests, max_in_flight, at_once):
    clock = Clock()
    admission = Admission(AdmissionConfig(max_in_flight=max_in_flight), clock)
    lanes = [admission.lane(f"m{i}", Queue(max_requests=max_requests), at_once) for i in range(4)]
    asked = {"in": {}, "high": {"priority": 1}, "low": {"priority": 101}, "retry": {"is_retry": True}}
    tries = came = 0
    for which, what, passed_s in steps:
        clock.now += passed_s
        lane = lanes[which]
        if what in asked:
            tries += 1
            came += admitted(lane, 1, **asked[what])
        elif lane.in_hand:
            lane.release(what, passed_s)
        assert lane.in_hand <= max_requests + max(1, max_requests // 16)
        assert min(at_once, max_requests) <= lane.limit <= max_requests
        assert admission.in_hand == sum(each.in_hand for each in lanes) <= max_in_flight
        assert admission.active == sum(each.in_hand > 0 for each in lanes)
    assert came == sum(lane.admitted for lane in lanes)
    assert tries - came == sum(sum(lane.shed.values()) for lane in lanes)


def test_every_reason_has_a_message_without_numbers(admission):
    lane = admission.lane("m", Queue(max_requests=2))
    admitted(lane, 2)
    texts = {str(lane._refusal(why)) for why in Shed}
    assert len(texts) == len(Shed)
    assert not any(character.isdigit() for text in texts for character in text)


def test_no_deadline_is_infinity(admission):
    lane = admission.lane("m")
    lane.acquire(math.inf, None, 0.5, 0, False)
    assert lane.in_hand == 1
