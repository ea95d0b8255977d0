"""The batcher: a gateway's only queue. Requests that arrive while the sink is busy are batched together.

    submit → Line (runtime.waiting) → Batch (runtime.in_flight) → Sink → the caller's `done`

It decides when a batch leaves and answers who cannot be served in time. Not here: who may travel with whom and in which order
(`runtime.batching.queue`), merging and splitting tensors (`runtime.execution`, behind the sink), and how many may wait (admission, in
`serving`). Called by `serving.dataplane.plane`. Used from one event loop, like the sink.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Callable
from functools import partial
from typing import Final, Literal, Protocol

from limen.contracts.contract import Batching
from limen.contracts.errors import DeadlineExceeded, Unavailable
from limen.contracts.inference import Deadline, InferenceRequest, InferenceResponse, Outcome
from limen.runtime.batching.in_flight import Batch, Clock, InFlight, Observer, Waiter
from limen.runtime.batching.queue import Group, Line
from limen.runtime.predictor import Cancel, Done, Sink

TICK_S = 0.001
"""Loops count in milliseconds and may call one too early, so timers are set one later, and what must not be late is planned one sooner."""
SCAN_S = 5e-7
"""The pause that a look at one request earns: looking for expired ones takes a tenth of the loop at the most, however many there are."""

APART_WINDOW: Final = 4
"""Requests that run one by one and are on their way to a copy of the model: otherwise it would be idle between two of them."""

Reason = Literal["full", "idle", "busy", "window", "deadline"]
"""Why a batch left: it had `max_rows` · the sink was free, so what came in one turn of the loop · the sink became free · the window
ended · a deadline cut the window short."""


class Timer(Protocol):
    """Something that will happen."""

    def cancel(self) -> None:
        """Prevent it."""
        ...


class Loop(Protocol):
    """What the batcher needs of an event loop."""

    def call_soon(self, callback: Callable[[], object], /) -> object:
        """Call in the next turn."""
        ...

    def call_later(self, delay: float, callback: Callable[[], object], /) -> Timer:
        """Call once, `delay` seconds from now."""
        ...


class Batcher:
    """Answers requests through a sink, in as few batches as their arrival allows.

    A batch holds one group, oldest first within a priority. Only numbers are kept while nobody waits: no task and no timer for a request.
    """

    def __init__(
        self,
        sink: Sink,
        batching: Batching,
        *,
        is_uniform: bool = False,
        observe: Observer | None = None,
        loop: Loop | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        """Take over a sink: nobody else sends to it from now on.

        Args:
            sink: what answers; closed with the batcher.
            batching: the contract's limits.
            is_uniform: the contract has no variable dimension, so that requests without parameters always go together.
            observe: is told about every batch.
            loop: the running one when None.
            clock: the clock of the deadlines.
        """
        self.can_stream = sink.can_stream
        self.merges = True
        """Whether requests share runs; see `keep_apart`."""
        self._sink = sink
        self._max_rows = batching.max_rows
        self._window_s = batching.max_wait_ms / 1000
        self._loop: Loop = loop or asyncio.get_running_loop()
        self._clock = clock
        self._line = Line(is_uniform=is_uniform)
        self._in_flight = InFlight(observe, clock)
        self._is_scheduled = False
        self._is_flushing = False
        self._is_closed = False
        self._timer: Timer | None = None
        self._timer_at = math.inf
        self._expiry = math.inf
        """When to look for expired requests next."""
        sink.on_free = self._on_free
        if batching.merge is False:
            self.keep_apart()

    def keep_apart(self) -> None:
        """Run every request by itself from now on: the rows of one would change the answers to another."""
        self.merges = False
        # Nothing to wait for: nobody joins.
        self._window_s = 0.0
        self._sink.window = APART_WINDOW

    def observe(self, observer: Observer | None) -> None:
        """Tell `observer` about every batch from now on."""
        self._in_flight.observe(observer)

    @property
    def mixes_rows(self) -> str:
        """Why the artifact itself says that rows of one run change each other's answers; empty when it does not."""
        return self._sink.mixes_rows

    @property
    def down(self) -> str:
        """Why nothing answers and nothing will soon; empty while that is not so."""
        return self._sink.down

    # -- what callers do -------------------------------------------------------------------------------------------------

    def predict_now(self, request: InferenceRequest, deadline: Deadline) -> Outcome | None:
        """Answer one request if that costs next to nothing and overtakes nobody, else None."""
        if self._line.waiting or self._is_closed:
            return None
        return self._sink.predict_now(request, deadline)

    def submit(self, request: InferenceRequest, deadline: Deadline, done: Done) -> Cancel:
        """Have a request answered by `deadline`; `done` gets the answer or the error, never before this returns. Never raises."""
        if self._is_closed:
            return self._refuse(request, deadline, done)
        waiter = self._line.add(request, deadline, done, self._clock())
        if deadline.at < self._expiry:
            self._expiry = deadline.at
            self._wake(deadline.at)
        if not self._is_scheduled and self._sink.free > 0:
            self._is_scheduled = True
            self._loop.call_soon(self._on_turn)
        return waiter.cancel

    async def predict(self, request: InferenceRequest, deadline: Deadline) -> Outcome:
        """Submit a request and return its answer or error; cancelling this cancels the request."""
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        cancel = self.submit(request, deadline, partial(_settle, future))
        try:
            return await future
        finally:
            cancel()

    def stream(self, request: InferenceRequest, deadline: Deadline) -> AsyncGenerator[InferenceResponse, None]:
        """Yield the parts of one answer, past the line: streams are not batched."""
        return self._sink.stream(request, deadline)

    async def close(self) -> None:
        """Turn away who waits, then close the sink; what it does not answer then is `Unavailable` as well. Idempotent."""
        self._is_closed = True
        for waiter in self._line.clear():
            waiter.answer(Unavailable())
        try:
            await self._sink.close()
        finally:
            for batch in list(self._in_flight.batches):
                batch.fail(Unavailable)
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    # -- what admission and autoscaling read -----------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """Requests that have not left yet."""
        return self._line.waiting

    @property
    def waiting_rows(self) -> int:
        """Their rows."""
        return self._line.rows

    @property
    def in_flight(self) -> int:
        """Requests of the batches that the sink works on, with those whose callers have left."""
        return self._in_flight.requests

    @property
    def in_flight_rows(self) -> int:
        """Their rows."""
        return self._in_flight.rows

    @property
    def seconds_per_row(self) -> float:
        """What a row took in the last runs, its share of a batch; 0 until one was answered."""
        return self._in_flight.seconds_per_row

    def expected_wait_s(self) -> float:
        """Return how long a request that arrives now would wait before its run; 0 as long as nothing is known about runs."""
        free = self._sink.free
        if free > 0 and not self._line.waiting:
            return 0.0
        ahead = self._line.rows + self._in_flight.rows / 2
        return ahead * self._in_flight.seconds_per_row / max(1, len(self._in_flight.batches) + free)

    # -- when batches leave ----------------------------------------------------------------------------------------------

    def _on_turn(self) -> None:
        self._is_scheduled = False
        self._flush(None if self._window_s else "idle")

    def _on_free(self) -> None:
        if self._line.waiting:
            self._flush("busy")

    def _on_wake(self) -> None:
        self._timer = None
        self._timer_at = math.inf
        if self._expiry <= self._clock():
            self._expire()
        if self._expiry < math.inf:
            self._wake(self._expiry)
        if self._window_s and self._line.waiting:
            self._flush(None)

    def _flush(self, reason: Reason | None) -> None:
        """Send batches while the sink is free: everything, or with None only what its window lets go."""
        if self._is_flushing:
            # The sink became free while it was taking a batch: the loop below sees that by itself.
            return
        self._is_flushing = True
        late: list[Waiter] = []
        sink = self._sink
        try:
            while sink.free > 0:
                group, why = self._ripe() if reason is None else (self._line.first(), reason)
                if group is None:
                    break
                self._send(group, why, late)
        finally:
            self._is_flushing = False
            for waiter in late:
                waiter.answer(DeadlineExceeded())

    def _send(self, group: Group, reason: Reason, late: list[Waiter]) -> None:
        batch = Batch(self._in_flight, self._clock())
        merges = self.merges and not self._sink.wants_context
        if group.take(batch, self._max_rows if merges else 1, batch.left_at, late) and merges:
            reason = "full"
        if not batch.waiters:
            return
        batch.leave(self._sink)
        self._in_flight.departed(batch, reason)

    def _ripe(self) -> tuple[Group | None, Reason]:
        """Return the first group that need not or may not wait any longer, and why; None sets the timer for the first that will not."""
        now = self._clock()
        found: Group | None = None
        why: Reason = "window"
        next_at = math.inf
        for group in self._line.groups.values():
            if group.head is None:
                continue
            reason, at = self._leaves(group)
            if at <= now:
                # That may have been because of callers who have left since.
                group.measure()
                reason, at = self._leaves(group)
            if at > now:
                next_at = min(next_at, at)
            elif found is None or found.head is None or group.head[:2] < found.head[:2]:
                found, why = group, reason
        if found is None and next_at < math.inf:
            self._wake(next_at)
        return found, why

    def _leaves(self, group: Group) -> tuple[Reason, float]:
        """Return when a group leaves at the latest, and why then."""
        if group.rows >= self._max_rows:
            return "full", -math.inf
        window = group.since + self._window_s
        if group.earliest == math.inf:
            return "window", window
        load = self._in_flight
        # Nothing is known about runs before the first: who has a deadline does not wait for company then.
        pressing = group.earliest - load.seconds_per_run - 2 * TICK_S if load.rows_per_run else -math.inf
        return ("deadline", pressing) if pressing < window else ("window", window)

    # -- deadlines -------------------------------------------------------------------------------------------------------

    def _wake(self, at: float) -> None:
        """Have `_on_wake` called at `at` or before."""
        if at >= self._timer_at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = self._loop.call_later(max(0.0, at - self._clock()) + TICK_S, self._on_wake)

    def _expire(self) -> None:
        """Answer who is past its deadline, waiting or under way.

        Deadlines are not kept in order, because nearly all are met: one timer for the earliest, and a look at everybody when it ends.
        """
        now = self._clock()
        late: list[Waiter] = []
        looked_at = self._line.waiting + self._in_flight.requests
        earliest = min(self._line.scan(now, late), self._in_flight.scan(now, late))
        self._expiry = max(earliest, now + looked_at * SCAN_S) if earliest < math.inf else earliest
        for waiter in late:
            waiter.expire()

    def _refuse(self, request: InferenceRequest, deadline: Deadline, done: Done) -> Cancel:
        waiter = Waiter(request, deadline, done, request.rows, 0.0, 0, None)
        self._loop.call_soon(partial(waiter.answer, Unavailable()))
        return waiter.cancel


def _settle(future: asyncio.Future[Outcome], outcome: Outcome) -> None:
    if not future.done():
        future.set_result(outcome)
