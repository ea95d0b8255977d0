"""Requests and batches in flight, and the running totals over all batches.

Not here: who travels with whom (`runtime.batching.queue`) and when a batch leaves (`runtime.batching.batcher`). Called by both.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from limen.contracts.errors import DeadlineExceeded, Internal
from limen.contracts.inference import Deadline, InferenceRequest, InferenceResponse, Outcome
from limen.runtime.predictor import Cancel, Done, Sink

LOG = logging.getLogger("limen.runtime")
LEARNING = 0.2
"""How much of the newest run goes into the running means: the last ten or so count."""
NOTHING = InferenceRequest("", {})
"""Stands where a request was, so that a caller who keeps its `Cancel` does not keep its tensors."""

NO_TIME = Deadline(-math.inf)
"""Before every deadline."""

Clock = Callable[[], float]
"""Tells seconds on the clock of `Deadline`: `time.monotonic`, or a test's own."""


def nobody(outcome: Outcome) -> None:
    """Take an answer that nobody waits for any more."""


class Observer(Protocol):
    """Is told what batching does, for the metrics. Called on the loop; must not block."""

    def batch(self, reason: str, rows: int, requests: int, oldest_age_s: float) -> None:
        """Count a batch that has left: why it left, what it holds, and how long its oldest request had waited."""
        ...

    def ran(self, rows: int, seconds: float, requests: int) -> None:
        """Count a batch that came back: its rows, the seconds since it left, and the requests in it."""
        ...


class Place(Protocol):
    """Where a caller waits: a group before the run, a batch during it."""

    def drop(self, waiter: Waiter) -> None:
        """Take out a caller that has just left this place."""
        ...


class Waiter(msgspec.Struct, eq=False):
    """One caller, from `submit` to its answer. A Struct because it is made for every request."""

    request: InferenceRequest
    deadline: Deadline
    done: Done
    rows: int
    arrived: float
    order: int
    """Counts up with every arrival."""
    place: Place | None
    """Where it waits; None once it is answered, cancelled or expired."""

    def cancel(self) -> None:
        """Leave, so that `done` is never called from now on; harmless when it has been."""
        self.done = nobody
        place = self.place
        if place is not None:
            self.place = None
            place.drop(self)
            self.request = NOTHING

    def expire(self) -> None:
        """Leave with `DeadlineExceeded`; harmless when it has left before."""
        place = self.place
        if place is not None:
            self.place = None
            place.drop(self)
            self.answer(DeadlineExceeded())

    def answer(self, outcome: Outcome) -> None:
        """Hand over the answer. Whatever the caller raises is logged and goes no further."""
        done = self.done
        self.done = nobody
        self.request = NOTHING
        try:
            done(outcome)
        except Exception:
            LOG.exception("a callback for an answer failed")


class Batch:
    """Requests that left together. Filled by `runtime.batching.queue`, answered by the sink."""

    __slots__ = ("_cancel", "_live", "_load", "deadline", "is_over", "left_at", "oldest", "requests", "rows", "waiters")

    def __init__(self, load: InFlight, now: float) -> None:
        self._load = load
        self._cancel: Cancel | None = None
        self._live = 0
        self.waiters: list[Waiter] = []
        self.requests: list[InferenceRequest] = []
        self.rows = 0
        self.deadline = NO_TIME
        """The latest of its requests."""
        self.oldest = now
        """When the first of its requests arrived."""
        self.left_at = now
        self.is_over = False

    @property
    def is_trial(self) -> bool:
        """Whether nobody asks it: nothing is learnt from it."""
        return bool(self.requests) and self.requests[0].is_trial

    def leave(self, sink: Sink) -> None:
        """Go to the sink, and count as under way until it answers or everybody has left."""
        self._live = len(self.waiters)
        self._load.begin(self)
        try:
            cancel = sink.send(self.requests, self.deadline, self.done)
        except Exception:
            LOG.exception("a placement failed to take a batch")
            self.fail(Internal)
            return
        if not self.is_over:
            self._cancel = cancel
        elif self._live == 0:
            # Everybody left while the sink was taking the batch.
            _run(cancel)

    def drop(self, waiter: Waiter) -> None:
        """Go on without one caller; without any, tell the sink to stop."""
        self._live -= 1
        if self._live == 0 and not self.is_over:
            self.is_over = True
            self._load.end(self)
            cancel, self._cancel = self._cancel, None
            if cancel is not None:
                _run(cancel)

    def done(self, outcomes: Sequence[Outcome]) -> None:
        """Take the sink's outcomes, in order, and give each to the caller that still waits for it."""
        if self.is_over:
            return
        load = self._load
        self._end()
        waiters = self.waiters
        if len(outcomes) != len(waiters):
            LOG.error("a batch of %d requests came back with %d answers", len(waiters), len(outcomes))
            outcomes = [Internal() for _ in waiters]
        load.measure(self, is_answered=type(outcomes[0]) is InferenceResponse)
        self._answer(outcomes)

    def fail(self, make: Callable[[], Outcome]) -> None:
        """End without the sink: every caller gets an outcome of its own from `make`."""
        if not self.is_over:
            self._end()
            self._answer([make() for _ in self.waiters])

    def _end(self) -> None:
        self.is_over = True
        self._cancel = None
        self._load.end(self)

    def _answer(self, outcomes: Sequence[Outcome]) -> None:
        for waiter, outcome in zip(self.waiters, outcomes, strict=True):
            # As `Waiter.answer`, written out: a call less for every request. Who has left has `nobody` here.
            waiter.place = None
            done = waiter.done
            waiter.done = nobody
            try:
                done(outcome)
            except Exception:
                LOG.exception("a callback for an answer failed")


class InFlight:
    """The batches that the sink has, and how long runs take."""

    __slots__ = ("_clock", "_observe", "batches", "requests", "rows", "rows_per_run", "seconds_per_run")

    def __init__(self, observe: Observer | None = None, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._observe = observe
        self.batches: dict[Batch, None] = {}
        """In the order they left."""
        self.requests = 0
        """What the sink was given and has not answered. A caller that leaves counts until its batch ends, as its rows still run."""
        self.rows = 0
        self.seconds_per_run = 0.0
        """Running mean, as the next."""
        self.rows_per_run = 0.0
        """0 until a batch was answered."""

    def observe(self, observer: Observer | None) -> None:
        """Tell `observer` about every batch from now on."""
        self._observe = observer

    def begin(self, batch: Batch) -> None:
        """Count a batch in."""
        self.batches[batch] = None
        self.requests += len(batch.waiters)
        self.rows += batch.rows

    def end(self, batch: Batch) -> None:
        """Count a batch out."""
        del self.batches[batch]
        self.requests -= len(batch.waiters)
        self.rows -= batch.rows

    def measure(self, batch: Batch, *, is_answered: bool) -> None:
        """Learn from a batch that has come back, unless it failed: a broken sink is not a fast one."""
        if batch.is_trial:
            return
        seconds = self._clock() - batch.left_at
        if is_answered:
            weight = LEARNING if self.rows_per_run else 1.0
            self.seconds_per_run += weight * (seconds - self.seconds_per_run)
            self.rows_per_run += weight * (max(batch.rows, 1) - self.rows_per_run)
        if self._observe is not None:
            try:
                self._observe.ran(batch.rows, seconds, len(batch.waiters))
            except Exception:
                LOG.exception("the observer of batches failed")

    def departed(self, batch: Batch, reason: str) -> None:
        """Tell the observer about a batch that has left."""
        if self._observe is not None and not batch.is_trial:
            try:
                self._observe.batch(reason, batch.rows, len(batch.waiters), batch.left_at - batch.oldest)
            except Exception:
                LOG.exception("the observer of batches failed")

    @property
    def seconds_per_row(self) -> float:
        """Mean seconds over mean rows of the last runs, so that a large run counts for what it carried; 0 until one was answered."""
        return self.seconds_per_run / self.rows_per_run if self.rows_per_run else 0.0

    def scan(self, now: float, late: list[Waiter]) -> float:
        """Add to `late` who is past its deadline and return the earliest deadline of the others."""
        earliest = math.inf
        for batch in self.batches:
            for waiter in batch.waiters:
                if waiter.place is batch:
                    at = waiter.deadline.at
                    if at <= now:
                        late.append(waiter)
                    elif at < earliest:
                        earliest = at
        return earliest


def _run(cancel: Cancel) -> None:
    try:
        cancel()
    except Exception:
        LOG.exception("a placement failed to cancel a batch")
