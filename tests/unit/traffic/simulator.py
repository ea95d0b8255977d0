"""A discrete-event simulator: Poisson arrivals, lanes in front of queues with some servers each, clients that may retry.

Time is a number that the simulation moves; the lanes read it as their clock. The same seed gives the same run.
"""

import heapq
import math
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from limen.contracts.errors import LimenError
from limen.contracts.serving import Queue
from limen.traffic.admission import Admission, Ended, Lane
from limen.traffic.config import AdmissionConfig

Rate = Callable[[float], float]
"""Requests a second that are offered at a time."""


class Clock:
    """Time that only the simulation moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass(slots=True)
class Endpoint:
    """One model: its lane, its servers, and what came of its requests."""

    name: str
    rate: Rate
    servers: int = 16
    service_s: float = 0.020
    deadline_s: float = 1.0
    is_estimating: bool = True
    """Whether the lane is told the expected wait."""
    high_share: float = 0.0
    retries: int = 0
    queue: Queue = field(default_factory=Queue)
    lane: Lane | None = None
    waiting: deque[float] = field(default_factory=deque)
    busy: int = 0
    offered: int = 0
    retried: int = 0
    admitted_retries: int = 0
    answered: list[tuple[float, float]] = field(default_factory=list)
    """When each good answer was given, and its latency."""
    refused: list[tuple[float, int]] = field(default_factory=list)
    """When each request was refused, and its priority."""
    offered_high: int = 0
    late: int = 0

    def goodput(self, start: float, end: float) -> float:
        """Good answers a second in an interval."""
        return sum(1 for at, _ in self.answered if start <= at < end) / (end - start)

    def percentile(self, share: float, start: float = 0.0, end: float = math.inf) -> float:
        """A percentile of the latencies of good answers in an interval."""
        found = sorted(latency for at, latency in self.answered if start <= at < end)
        return found[min(len(found) - 1, int(share * len(found)))]

    def refusals(self, start: float = 0.0, end: float = math.inf) -> int:
        """Refused requests in an interval."""
        return sum(1 for at, _ in self.refused if start <= at < end)


class Simulation:
    """Runs some endpoints behind one `Admission`."""

    def __init__(self, endpoints: Sequence[Endpoint], config: AdmissionConfig | None = None, seed: int = 1) -> None:
        self.clock = Clock()
        self.admission = Admission(config, self.clock)
        self.endpoints = endpoints
        self.random = random.Random(seed)
        self.peak_in_hand = 0
        for endpoint in endpoints:
            endpoint.lane = self.admission.lane(endpoint.name, endpoint.queue, endpoint.servers)

    def run(self, until: float) -> None:
        events: list[tuple[float, int, float]] = []
        """(when, endpoint, when the request that ends had come; -1 for one that comes)"""
        push, pop, exponential = heapq.heappush, heapq.heappop, self.random.expovariate
        for index, endpoint in enumerate(self.endpoints):
            push(events, (exponential(endpoint.rate(0.0)), index, -1.0))
        clock = self.clock
        while events:
            at, index, arrived = pop(events)
            if at >= until:
                break
            clock.now = at
            endpoint = self.endpoints[index]
            if arrived < 0.0:
                push(events, (at + exponential(endpoint.rate(at)), index, -1.0))
                self._arrive(events, index, endpoint, at)
            else:
                self._finish(endpoint, at, arrived)
                self._start(events, index, endpoint, at)

    def _arrive(self, events, index: int, endpoint: Endpoint, at: float) -> None:
        priority = 1 if endpoint.high_share and self.random.random() < endpoint.high_share else 0
        endpoint.offered_high += priority
        endpoint.offered += 1
        for attempt in range(endpoint.retries + 1):
            endpoint.retried += attempt > 0
            if self._ask(endpoint, at, priority, attempt > 0):
                endpoint.admitted_retries += attempt > 0
                endpoint.waiting.append(at)
                self.peak_in_hand = max(self.peak_in_hand, self.admission.in_hand)
                self._start(events, index, endpoint, at)
                return
        endpoint.refused.append((at, priority))

    def _ask(self, endpoint: Endpoint, at: float, priority: int, is_retry: bool) -> bool:
        expected_s = 0.0
        if endpoint.is_estimating:
            expected_s = endpoint.service_s * (len(endpoint.waiting) / endpoint.servers + 1)
        try:
            endpoint.lane.acquire(at + endpoint.deadline_s, at, expected_s, priority, is_retry)
        except LimenError:
            return False
        return True

    def _start(self, events, index: int, endpoint: Endpoint, at: float) -> None:
        waiting = endpoint.waiting
        while waiting and endpoint.busy < endpoint.servers:
            arrived = waiting.popleft()
            if arrived + endpoint.deadline_s <= at:  # as the batcher: nothing is begun for a caller who has left
                endpoint.lane.release(Ended.DROPPED, at - arrived)
                endpoint.late += 1
                continue
            endpoint.busy += 1
            service_s = self.random.expovariate(1.0 / endpoint.service_s)
            heapq.heappush(events, (at + service_s, index, arrived))

    def _finish(self, endpoint: Endpoint, at: float, arrived: float) -> None:
        endpoint.busy -= 1
        latency_s = at - arrived
        if latency_s <= endpoint.deadline_s:
            endpoint.answered.append((at, latency_s))
            endpoint.lane.release(Ended.SUCCESS, latency_s)
        else:
            endpoint.late += 1
            endpoint.lane.release(Ended.DROPPED, latency_s)


def herd(normal: float, times: float, start: float, end: float) -> Rate:
    """Offer `normal` requests a second, and `times` as many from `start` to `end`."""
    return lambda at: normal * times if start <= at < end else normal
