"""Overload as it happens: herds, retry storms and greedy neighbours in front of simulated servers.

The placement of F23 to F25 is that of the reference in the design: 16 servers, 20 ms mean service (exponential), 1 s deadline, so
800 requests a second are all that can be answered.
"""

import pytest

from limen.contracts.errors import ResourceExhausted
from limen.contracts.serving import Queue
from limen.traffic.admission import Admission, Ended, Shed
from limen.traffic.config import AdmissionConfig
from tests.unit.traffic.simulator import Clock, Endpoint, Simulation, herd

PEAK = 800.0


def test_f23_a_herd_is_shed_and_leaves_nothing_behind():
    model = Endpoint("m", herd(PEAK, 10, 20, 80), high_share=0.05)
    Simulation([model]).run(100)
    assert model.goodput(20, 80) >= 0.98 * PEAK
    assert model.late == 0
    peak_p99 = model.percentile(0.99, 5, 20)
    assert model.percentile(0.99, 20, 80) <= 2 * peak_p99
    assert (
        model.percentile(0.99, 20, 80) <= 0.45
    )  # the bound: the target of 250 ms, the noise of the rate, and the service
    assert model.goodput(80, 85) >= 0.95 * PEAK
    assert model.refusals(85, 100) <= 0.05 * PEAK * 15
    high = sum(priority for _, priority in model.refused)
    assert high <= 0.05 * model.offered_high
    assert len(model.refused) - high >= 0.85 * (model.offered - model.offered_high)


@pytest.mark.parametrize("is_estimating", [True, False], ids=["waits are known", "waits are not known"])
def test_f23_a_herd_out_of_the_blue(is_estimating):
    """Nothing is known about the placement when it comes, so the first second is bounded by the count or by the deadline alone."""
    model = Endpoint("m", herd(80.0, 100, 5, 15), is_estimating=is_estimating)
    Simulation([model]).run(20)
    assert model.goodput(5, 15) >= 0.9 * PEAK
    assert model.goodput(7, 15) >= 0.95 * PEAK
    assert model.percentile(0.99, 7, 15) <= 0.45
    assert model.refusals(15.5, 20) == 0


def test_f23_deadlines_shorter_than_the_target_are_found_out():
    """Without known waits, only missed deadlines tell that 250 ms of queue are too many for callers who give 150 ms."""
    model = Endpoint("m", herd(PEAK, 5, 5, 20), deadline_s=0.150, is_estimating=False)
    Simulation([model]).run(30)
    assert model.goodput(6, 20) >= 0.9 * PEAK
    assert model.goodput(25, 30) >= 0.9 * PEAK


def test_f23_a_slow_serial_model_keeps_answering():
    model = Endpoint("m", herd(5.0, 20, 30, 90), servers=1, service_s=0.1, is_estimating=False)
    Simulation([model]).run(150)
    assert model.goodput(30, 90) >= 0.9 * 10.0
    assert model.refusals(100, 150) <= 5


def test_f24_a_retry_storm_adds_no_work():
    """What the server decides is what reaches the model: retries of refused requests are not let in while it is overloaded."""
    model = Endpoint("m", herd(PEAK * 0.9, 3 / 0.9, 5, 20), retries=3)
    Simulation([model]).run(30)
    assert model.lane is not None
    assert model.goodput(5, 20) >= 0.95 * PEAK
    assert model.admitted_retries <= 0.01 * model.lane.admitted
    assert model.lane.admitted <= 1.02 * (len(model.answered) + model.lane.in_hand)
    assert model.refusals(21, 30) == 0


@pytest.mark.parametrize("max_in_flight", [8192, 160], ids=["bounds apart", "bound of the process near"])
def test_f25_a_greedy_endpoint_refuses_only_its_own(max_in_flight):
    """A process bound of 160 is less than the greedy one's own limit of about 216: alone it would take everything."""

    def neighbours() -> list[Endpoint]:
        return [Endpoint(f"m{i}", lambda at: 100.0, servers=4) for i in range(4)]

    config = AdmissionConfig(max_in_flight=max_in_flight)
    alone, others = neighbours(), neighbours()
    Simulation(alone, config).run(20)
    greedy = Endpoint("greedy", herd(0.7 * PEAK, 10, 5, 15))
    simulation = Simulation([greedy, *others], config)
    simulation.run(20)
    assert [each.refusals() for each in others] == [0, 0, 0, 0]
    assert [each.percentile(0.99) / before.percentile(0.99) for each, before in zip(others, alone, strict=True)] == (
        pytest.approx([1.0] * 4, abs=0.3)
    )
    assert simulation.peak_in_hand <= max_in_flight
    assert greedy.goodput(5, 15) >= 0.95 * PEAK
    assert greedy.lane is not None
    assert (greedy.lane.shed[Shed.SHARE] > 0) == (max_in_flight == 160)


@pytest.mark.parametrize("connections", [1, 64, 256, 1024])
@pytest.mark.parametrize("rate", [5_000.0, 100_000.0])
def test_ordinary_connections_to_a_fast_model_all_pass(connections, rate):
    """Closed loop, default settings: every connection sends its next request when it has its answer; one stall of a second."""
    clock = Clock()
    lane = Admission(clock=clock).lane("m", Queue())
    for _ in range(connections):
        lane.acquire()
    for turn in range(max(10, int(20_000 / connections))):
        passed_s = connections / rate + (1.0 if turn == 5 else 0.0)
        clock.now += passed_s
        for _ in range(connections):
            lane.release(Ended.SUCCESS, passed_s)
        for _ in range(connections):
            lane.acquire(expected_wait_s=connections / rate)
    assert sum(lane.shed.values()) == 0


def test_f26_waiters_of_a_cold_start_are_bounded():
    clock = Clock()
    lane = Admission(clock=clock).lane("m", Queue(max_requests=100))
    refused = 0
    for _ in range(10_000):
        try:
            lane.acquire(deadline_at=60.0, expected_wait_s=8.0)
        except ResourceExhausted:
            refused += 1
    assert (lane.in_hand, refused) == (100, 9_900)
    clock.now = 8.0
    for _ in range(100):
        clock.now += 0.0002
        lane.release(Ended.SUCCESS, clock.now)
    for _ in range(100):
        lane.acquire()
    assert lane.in_hand == 100
