"""A loop and a sink that do what a test says and nothing by themselves."""

import heapq
import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np

from limen.contracts.contract import Batching
from limen.contracts.inference import NO_DEADLINE, Deadline, InferenceRequest, InferenceResponse, Outcome
from limen.runtime.batching.batcher import Batcher


class FakeTimer:
    def __init__(self, at: float, callback: Callable[[], object]) -> None:
        self.at = at
        self.callback = callback
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class FakeLoop:
    """Time passes when a test says so, and so do turns."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.soon: list[Callable[[], object]] = []
        self._timers: list[tuple[float, int, FakeTimer]] = []
        self._count = itertools.count()

    def time(self) -> float:
        return self.now

    def call_soon(self, callback: Callable[[], object]) -> None:
        self.soon.append(callback)

    def call_later(self, delay: float, callback: Callable[[], object]) -> FakeTimer:
        timer = FakeTimer(self.now + delay, callback)
        heapq.heappush(self._timers, (timer.at, next(self._count), timer))
        return timer

    @property
    def timers(self) -> list[FakeTimer]:
        """Those that will still happen."""
        return [timer for _, _, timer in self._timers if not timer.is_cancelled]

    def turn(self) -> None:
        """Let everything happen that is due now."""
        while self.soon:
            callbacks, self.soon = self.soon, []
            for callback in callbacks:
                callback()

    def advance(self, seconds: float) -> None:
        """Let time pass; what is due on the way happens at its time."""
        end = self.now + seconds
        self.turn()
        while self._timers and self._timers[0][0] <= end:
            at, _, timer = heapq.heappop(self._timers)
            if not timer.is_cancelled:
                self.now = max(self.now, at)
                timer.callback()
                self.turn()
        self.now = end


class Sent:
    """One batch in the hands of the sink."""

    def __init__(
        self, batch: Sequence[InferenceRequest], deadline: Deadline, done: Callable[[Sequence[Outcome]], None]
    ):
        self.batch = list(batch)
        self.deadline = deadline
        self.done = done
        self.cancels = 0

    @property
    def ids(self) -> list[str]:
        return [request.id for request in self.batch]

    def cancel(self) -> None:
        self.cancels += 1


class FakeSink:
    """Keeps what it gets until a test finishes it."""

    def __init__(self, capacity: int = 1) -> None:
        self.can_stream = False
        self.mixes_rows = ""
        self.wants_context = False
        self.free = capacity
        self.on_free: Callable[[], None] = lambda: None
        self.sent: list[Sent] = []
        self.running: list[Sent] = []
        self.failure: Exception | None = None
        self.during_send: Callable[[Sent], None] = lambda sent: None
        self.now: Outcome | None = None
        self.closed = 0
        self.during_close: Callable[[], None] = lambda: None

    def predict_now(self, request: InferenceRequest, deadline: Deadline) -> Outcome | None:
        return self.now

    def send(
        self, batch: Sequence[InferenceRequest], deadline: Deadline, done: Callable[[Sequence[Outcome]], None]
    ) -> Callable[[], None]:
        if self.failure is not None:
            raise self.failure
        sent = Sent(batch, deadline, done)
        self.free -= 1
        self.sent.append(sent)
        self.running.append(sent)
        self.during_send(sent)
        return sent.cancel

    async def stream(self, request: InferenceRequest, deadline: Deadline):
        yield answer(request)

    def allow(self, run_s: float) -> None:
        pass

    async def close(self) -> None:
        self.closed += 1
        self.during_close()

    def release(self) -> None:
        """Become free for one more batch."""
        self.free += 1
        if self.free == 1:
            self.on_free()

    def finish(self, sent: Sent | None = None, outcomes: Sequence[Outcome] | None = None) -> None:
        """Answer a batch, the oldest when None, and become free."""
        sent = sent or self.running[0]
        self.running.remove(sent)
        sent.done([answer(request) for request in sent.batch] if outcomes is None else outcomes)
        self.release()

    @property
    def ids(self) -> list[list[str]]:
        """Everything sent so far."""
        return [sent.ids for sent in self.sent]


class FakeObserver:
    def __init__(self) -> None:
        self.batches: list[tuple[str, int, int, float]] = []
        self.runs: list[tuple[int, float, int]] = []

    def batch(self, reason: str, rows: int, requests: int, oldest_age_s: float) -> None:
        self.batches.append((reason, rows, requests, round(oldest_age_s, 6)))

    def ran(self, rows: int, seconds: float, requests: int) -> None:
        self.runs.append((rows, round(seconds, 6), requests))

    @property
    def reasons(self) -> list[str]:
        return [reason for reason, *_ in self.batches]


class Scene:
    """A batcher between a loop and a sink of the test's."""

    def __init__(self, *, max_rows: int = 4, wait_ms: float = 0.0, capacity: int = 1, is_uniform: bool = False) -> None:
        self.loop = FakeLoop()
        self.sink = FakeSink(capacity)
        self.seen = FakeObserver()
        self.batcher = Batcher(
            self.sink,
            Batching(max_rows=max_rows, max_wait_ms=wait_ms),
            is_uniform=is_uniform,
            observe=self.seen,
            loop=self.loop,
            clock=self.loop.time,
        )
        self.answers: dict[str, list[Outcome]] = {}
        self.cancels: dict[str, Callable[[], None]] = {}

    def submit(self, name: str, rows: int = 1, *, within: float = math.inf, then=lambda: None, **changes) -> None:
        """Submit a request; `then` is called with its answer."""
        answers = self.answers.setdefault(name, [])

        def done(outcome: Outcome) -> None:
            answers.append(outcome)
            then()

        deadline = NO_DEADLINE if within == math.inf else Deadline(self.loop.now + within)
        self.cancels[name] = self.batcher.submit(request(name, rows, **changes), deadline, done)

    def answer(self, name: str) -> Outcome | None:
        """Return the one answer that a request has, or None; more than one is an error."""
        answers = self.answers[name]
        assert len(answers) <= 1
        return answers[0] if answers else None

    def occupy(self) -> None:
        """Keep the sink busy with a request called `busy`."""
        self.submit("busy")
        self.loop.turn()
        assert self.sink.free == 0

    @property
    def counts(self) -> tuple[int, int, int, int]:
        batcher = self.batcher
        return batcher.waiting, batcher.waiting_rows, batcher.in_flight, batcher.in_flight_rows


def request(name: str, rows: int = 1, *, width: int = 1, **changes) -> InferenceRequest:
    """Return a request; those of one `width` may run together."""
    return InferenceRequest("m", {"x": np.zeros((rows, width), np.float32)}, id=name, rows=rows, **changes)


def answer(request: InferenceRequest) -> InferenceResponse:
    """Return an answer that tells whose it is."""
    return InferenceResponse("m", "1", {"y": request.inputs["x"]}, id=request.id)
