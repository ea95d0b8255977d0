"""Decides whether to admit a request: by count, expected time and the measured capacity of the placement.

Not here: queues (the batcher holds the only one), rates and quotas of callers, HTTP and gRPC. Called by `serving.dataplane.plane`, which
releases what it acquired however a request ends, and by the gateways for the hint that needs only a request's head.

Everything is used from one event loop, so nothing locks. The good case costs a few integers; what is expensive happens once in a
window of about 100 ms, or when a request is refused anyway.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from limen.contracts.errors import DeadlineExceeded, Reason, ResourceExhausted
from limen.contracts.serving import Queue
from limen.traffic.config import AdmissionConfig
from limen.traffic.limit import FORGET_S, WINDOW_S, AdaptiveLimit

HIGH_PRIORITY: Final = 1
"""OIP's highest priority: a sixteenth above every bound is kept for it."""
LOW_PRIORITY: Final = 100
"""Priorities above this are low: they share half of the bound with retries. 0 and 2 to 100 are the same."""

LOOK_EVERY: Final = 16
"""How many requests end between two looks at the clock. A power of two."""

MIN_RETRY_S: Final = 0.2
MAX_RETRY_S: Final = 30.0
MAX_PRESSURE: Final = 100.0
GOLDEN: Final = 0.6180339887498949
"""Multiples of the golden ratio, modulo 1, fill an interval as evenly as can be: jitter without a random generator."""


class Ended(StrEnum):
    """How a request that was let in has ended, as far as the limit is concerned."""

    SUCCESS = "success"
    """It was answered in time: its rate says what the placement can do."""
    IGNORED = "ignored"
    """It says nothing about load: the caller's mistake, a caller who left, an answer that did not need the model."""
    DROPPED = "dropped"
    """It missed its deadline, or was refused further down for lack of room."""


_IGNORED: Final = Ended.IGNORED
_DROPPED: Final = Ended.DROPPED


class Shed(StrEnum):
    """Why a request was refused."""

    COUNT = "count"
    """`max_requests` of the endpoint are in hand."""
    TIME = "time"
    """The answer was expected too late."""
    LIMIT = "limit"
    """The adaptive limit, or a low priority's part of the bound, is reached."""
    RETRY = "retry"
    """A retry while more than half of the bound is in hand."""
    SHARE = "share"
    """The process is near its own bound and the endpoint beyond its fair share."""


_MESSAGES: Final[Mapping[Shed, str]] = MappingProxyType(
    {
        Shed.COUNT: "too many requests in flight for this model",
        Shed.TIME: "the request would miss its deadline",
        Shed.LIMIT: "the model is at its limit",
        Shed.RETRY: "the model is at its limit for retries",
        Shed.SHARE: "the server is at its limit",
    }
)


class Lane:
    """The admission of one endpoint in one gateway process.

    A request of the default priority may come in while fewer than `bound` are in hand: the smaller of `max_requests` and the adaptive
    limit. Priority 1 may go a sixteenth beyond it; priorities above 100 and retries may use half of it, so under overload they are
    shed first. Made by `Admission.lane`.
    """

    __slots__ = (
        "_all",
        "_at_once",
        "_clock",
        "_done",
        "_dropped",
        "_finished",
        "_half_bound",
        "_held_s",
        "_high_bound",
        "_high_seen_at",
        "_hints",
        "_ignored",
        "_limit",
        "_max_wait_s",
        "_pressure",
        "_queue",
        "_shed",
        "_shed_before",
        "_target_share",
        "_turn",
        "_window_at",
        "bound",
        "in_hand",
        "refused_for",
    )

    def __init__(self, admission: Admission, queue: Queue, at_once: int, target_share: float) -> None:
        """Make a lane with nothing in hand; `Admission.lane` describes the rest."""
        self.in_hand = 0
        self.refused_for = Shed.COUNT
        """Why the last request was refused."""
        self._all = admission
        self._clock = admission.clock
        self._queue = queue
        self._at_once = at_once
        self._target_share = target_share
        self._max_wait_s = queue.max_wait_ms / 1000.0
        self._limit = AdaptiveLimit(at_once, queue.max_requests, self._max_wait_s * target_share)
        self._done = self._dropped = self._ignored = self._finished = 0
        self._held_s = 0.0
        self._window_at = self._clock()
        self._shed = dict.fromkeys(Shed, 0)
        self._shed_before = self._hints = 0
        self._pressure = 1.0
        self._turn = 0.0
        self._high_seen_at = -math.inf
        self._fit()

    def configure(self, queue: Queue, at_once: int) -> None:
        """Go on with other settings; what is in hand stays.

        Args:
            queue: the bounds of count and time.
            at_once: requests the placement works on at the same time: replicas times rows of a batch, seen from this process.
        """
        if queue == self._queue and at_once == self._at_once:
            return
        self._queue, self._at_once = queue, at_once
        self._max_wait_s = queue.max_wait_ms / 1000.0
        self._resize()

    def wait_for(self, target_share: float) -> None:
        """Let requests wait for another share of what their queue allows."""
        if target_share != self._target_share:
            self._target_share = target_share
            self._resize()

    def acquire(
        self,
        deadline_at: float = math.inf,
        now: float | None = None,
        expected_wait_s: float = 0.0,
        priority: int = 0,
        is_retry: bool = False,
    ) -> None:
        """Let one request in, or raise; each one let in is released exactly once.

        Args:
            deadline_at: when the answer becomes useless, on the clock of `Admission`; infinity when there is no deadline.
            now: the time, if it is known already.
            expected_wait_s: seconds until the answer can be expected, running included; 0 when nothing is known.
            priority: OIP's `priority`.
            is_retry: whether the caller says that it has asked before.

        Raises:
            ResourceExhausted: it is refused, with the seconds after which a retry is worth it.
            DeadlineExceeded: there is a wait and the deadline has passed already.
        """
        held = self.in_hand
        whole = self._all
        if held >= self.bound or priority or is_retry or whole.in_hand >= whole.free_for_all:
            self._judge(held, priority, is_retry)
        if expected_wait_s > 0.0:
            self._check_time(deadline_at, now, expected_wait_s)
        if not held:
            whole.active += 1
            if self.bound < self._queue.max_requests:
                self._wake()
        self.in_hand = held + 1
        whole.in_hand += 1

    def release(self, ended: Ended, latency_s: float) -> None:
        """Say that a request that was let in has ended, however it did.

        Args:
            ended: what it says about load.
            latency_s: seconds it was in hand.
        """
        held = self.in_hand - 1
        whole = self._all
        if held <= 0:
            if held < 0:
                raise RuntimeError("released more often than acquired")
            whole.active -= 1
        self.in_hand = held
        whole.in_hand -= 1
        if ended is _IGNORED:
            self._ignored += 1
            return
        if ended is _DROPPED:
            self._dropped += 1
        self._held_s += latency_s
        self._done = done = self._done + 1
        if not done & (LOOK_EVERY - 1):
            self._look()

    def is_full(self, is_retry: bool = False) -> bool:
        """Say whether a request of which only the head is known may be refused before its body is read; cheap, and only a hint.

        The priority is in the body. As long as requests of priority 1 come in, only those places are full that even they may not use.
        Otherwise one in sixteen is let through to be looked at, so that the first of them is noticed.
        """
        held = self.in_hand
        if held < (self._half_bound if is_retry else self.bound):
            return self._all.is_unfair(held)
        if is_retry or held >= self._high_bound:
            return True
        self._hints += 1
        return bool(self._hints & 15) and self._clock() - self._high_seen_at > FORGET_S

    def refuse(self, is_retry: bool = False) -> ResourceExhausted:
        """Count a request that is refused because `is_full` said so, and return the error to answer with."""
        held = self.in_hand
        is_share = held < (self._half_bound if is_retry else self.bound)
        return self._refusal(Shed.SHARE if is_share else self._reason(held, 0, is_retry))

    def retry_after_s(self) -> float:
        """Return seconds after which a retry is worth it, different at every call.

        The time to clear what is in hand, times how many asked for one that was answered in the last window, times a jitter between
        0.5 and 1.5: the more were refused, the longer they are spread over. Between 0.1 and 45 s.
        """
        rate = self._limit.rate
        clear_s = self.in_hand / rate if rate else self._max_wait_s * self._target_share
        self._turn = (self._turn + GOLDEN) % 1.0
        return min(max(clear_s * self._pressure, MIN_RETRY_S), MAX_RETRY_S) * (0.5 + self._turn)

    @property
    def limit(self) -> int:
        """The adaptive limit just now."""
        return self._limit.value

    @property
    def admitted(self) -> int:
        """Requests let in since the lane was made."""
        return self._finished + self._done + self._ignored + self.in_hand

    @property
    def shed(self) -> Mapping[Shed, int]:
        """Requests refused since the lane was made, by reason; a live view."""
        return MappingProxyType(self._shed)

    def _judge(self, held: int, priority: int, is_retry: bool) -> None:
        if priority == HIGH_PRIORITY:
            self._high_seen_at = self._clock()
        if is_retry or priority > LOW_PRIORITY:
            bound = self._half_bound
        else:
            bound = self._high_bound if priority == HIGH_PRIORITY else self.bound
        if held >= bound:
            raise self._refusal(self._reason(held, priority, is_retry))
        if self._all.is_unfair(held):
            raise self._refusal(Shed.SHARE)

    def _reason(self, held: int, priority: int, is_retry: bool) -> Shed:
        if is_retry:
            return Shed.RETRY
        return Shed.COUNT if held >= self._queue.max_requests and priority <= LOW_PRIORITY else Shed.LIMIT

    def _check_time(self, deadline_at: float, now: float | None, expected_wait_s: float) -> None:
        if deadline_at == math.inf:
            left_s = self._max_wait_s
        else:
            left_s = deadline_at - (self._clock() if now is None else now)
            if left_s <= 0.0:
                raise DeadlineExceeded
        if expected_wait_s > left_s:
            raise self._refusal(Shed.TIME, expected_wait_s - left_s)

    def _refusal(self, why: Shed, at_least_s: float = 0.0) -> ResourceExhausted:
        self._shed[why] += 1
        self.refused_for = why
        retry_after_s = max(self.retry_after_s(), at_least_s)
        return ResourceExhausted(_MESSAGES[why], reason=Reason.OVERLOADED, retry_after_s=retry_after_s)

    def _wake(self) -> None:
        """Forget a limit that was found before the lane fell idle."""
        now = self._clock()
        if now - self._window_at >= FORGET_S:
            self._limit.forget()
            self._open(now)

    def _look(self) -> None:
        """Close the window when it is long enough."""
        now = self._clock()
        elapsed_s = now - self._window_at
        if elapsed_s < WINDOW_S:
            return
        self._limit.update(elapsed_s, self._done - self._dropped, self._dropped, self._held_s)
        shed = sum(self._shed.values())
        self._pressure = min(1.0 + (shed - self._shed_before) / self._done, MAX_PRESSURE)
        self._open(now)

    def _open(self, now: float) -> None:
        self._finished += self._done
        self._done = self._dropped = 0
        self._held_s = 0.0
        self._window_at = now
        self._shed_before = sum(self._shed.values())
        self._fit()

    def _resize(self) -> None:
        self._limit.resize(self._at_once, self._queue.max_requests, self._max_wait_s * self._target_share)
        self._fit()

    def _fit(self) -> None:
        self.bound = bound = max(1, self._limit.value)
        self._high_bound = bound + max(1, bound >> 4)
        self._half_bound = max(1, bound >> 1)


class Admission:
    """The lanes of one gateway process, and the bound on what they hold together.

    Lanes do not share their bounds, so an endpoint that is overloaded sheds its own requests only. The process has a bound too. Half of
    it is for whoever comes first; once that is taken, an endpoint may hold no more than its fair share, the other half divided by the
    endpoints that have something in hand. So one that stays within its share is let in however much another one asks for.
    """

    __slots__ = ("_config", "_lanes", "active", "clock", "free_for_all", "in_hand")

    def __init__(self, config: AdmissionConfig | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """Start without lanes.

        Args:
            config: the bounds of the process; the defaults when None.
            clock: seconds that never go back, the same clock as that of deadlines.
        """
        self.clock = clock
        self.in_hand = 0
        self.active = 0
        self._lanes: dict[str, Lane] = {}
        self.configure(config or AdmissionConfig())

    def configure(self, config: AdmissionConfig) -> None:
        """Go on with other bounds; what was let in stays."""
        self._config = config
        self.free_for_all = max(1, config.max_in_flight // 2)
        for lane in self._lanes.values():
            lane.wait_for(config.target_share)

    def lane(self, endpoint: str, queue: Queue | None = None, at_once: int = 1) -> Lane:
        """Return the lane of an endpoint, made now if there is none.

        Callers keep it; asking again with `queue` gives the lane new settings.

        Args:
            endpoint: its name.
            queue: the bounds of count and time; None takes the lane as it is, or the defaults.
            at_once: requests the placement works on at the same time, seen from this process; too low a value makes bursts after a calm
                time more likely to be shed, too high a one lets the queue grow by as much.
        """
        lane = self._lanes.get(endpoint)
        if lane is None:
            lane = self._lanes[endpoint] = Lane(self, queue or Queue(), at_once, self._config.target_share)
        elif queue is not None:
            lane.configure(queue, at_once)
        return lane

    def known(self, endpoint: str) -> Lane | None:
        """Return the lane of an endpoint that has had to wait before; None otherwise."""
        return self._lanes.get(endpoint)

    def forget(self, endpoint: str) -> None:
        """Drop the lane of an endpoint that is gone; what it still has in hand is released as before."""
        self._lanes.pop(endpoint, None)

    @property
    def lanes(self) -> Mapping[str, Lane]:
        """The lanes by endpoint; a live view."""
        return MappingProxyType(self._lanes)

    def is_unfair(self, held: int) -> bool:
        """Say whether a lane with so many in hand may not have one more because of the others."""
        if self.in_hand < self.free_for_all:
            return False
        if self.in_hand >= self._config.max_in_flight:
            return True
        active = self.active if held else self.active + 1
        return held >= max(1, self.free_for_all // active)
