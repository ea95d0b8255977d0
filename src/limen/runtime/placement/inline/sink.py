"""Answers with a model loaded in this process.

Cheap native models run on the event loop, because handing microseconds to a thread costs more than they take. Models whose
measured cost says milliseconds run on one thread of their own, so that they never hold up other callers, and so does the
code of a package: what it took so far says nothing about what it waits for next.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from time import perf_counter
from typing import TypeVar

from limen.contracts.contract import Contract
from limen.contracts.errors import Cancelled, DeadlineExceeded, LimenError, ModelFailed
from limen.contracts.inference import Deadline, InferenceRequest, InferenceResponse, Outcome, Parameter
from limen.contracts.tensors import Array
from limen.runtime.binding.binding import Binding
from limen.runtime.context import with_context
from limen.runtime.execution import Part, log_failure, run, run_batch
from limen.runtime.placement.inline.thread import ModelThread
from limen.runtime.predictor import Cancel, LoadedModel

LOG = logging.getLogger("limen.model")
ON_LOOP_S = 0.002
"""A run expected to take longer than this goes to the model's thread: one such run delays every other caller."""
UNMEASURED = 7
"""Quick runs on the loop between two that count as measurements."""
CLOSE_S = 5.0
"""How long a closing version waits for a run that nobody waits for any more."""
T = TypeVar("T")


class RowCost:
    """The running cost of one row, in seconds.

    It is the smallest of the latest measurements, because what makes a run look slower than it is (other threads, other
    processes) is far more common than the opposite. Two slow runs in a row that did hold up the loop count at once.
    """

    __slots__ = ("_count", "_low", "_slow", "seconds")
    WINDOW = 32

    def __init__(self) -> None:
        """Start as expensive: the first run pays for lazy set-up and must not hold up the loop."""
        self.seconds = math.inf
        self._low = math.inf
        self._count = 0
        self._slow = 0

    def add(self, seconds: float, on_loop: bool) -> None:
        """Take one measurement."""
        if on_loop and seconds > ON_LOOP_S:
            self._slow += 1
            if self._slow > 1:
                self.seconds = self._low = seconds
            return
        self._slow = 0
        if seconds < self._low:
            self._low = seconds
            self.seconds = min(self.seconds, seconds)
        self._count += 1
        if self._count == self.WINDOW:
            self.seconds, self._low, self._count = self._low, math.inf, 0


class InlineSink:
    """A loaded model behind the `Sink` seam."""

    def __init__(
        self, contract: Contract, version: str, model: LoadedModel, binding: Binding, *, is_native: bool = True
    ) -> None:
        """Take over a loaded model; `close` closes it.

        Args:
            contract: what it promises.
            version: what its answers say.
            model: the artifact in memory.
            binding: maps contract fields to the artifact's tensors and back.
            is_native: its cost depends on the rows alone and it answers from several threads at once; the code of a package
                may wait for anything and is asked one thing at a time.
        """
        self._name = contract.name
        self._version = version
        self._max_rows = contract.batching.max_rows
        self._model = model
        self._predict = model.predict
        self._binding = binding
        self._pack = binding.pack
        self._unpack = binding.unpack
        self._thread = ModelThread(f"limen-{contract.name}")
        self.can_stream = model.can_stream
        self.mixes_rows = model.mixes_rows
        self.wants_context = model.wants_context
        self.free = self.window = 1
        self.on_free: Callable[[], None] = _nobody
        self.down, self.on_turn = "", _nobody
        self._cost = RowCost()
        self._until_measured = 0
        self._on_loop_s = ON_LOOP_S if is_native else -math.inf
        self._closed = False

    def predict_now(self, request: InferenceRequest, deadline: Deadline) -> Outcome | None:
        """Answer a request on the event loop when its measured cost allows, else None."""
        # Also while the thread works: native runtimes answer from several threads at once, and sending everything after one
        # expensive request would keep a busy model there for ever.
        if request.rows * self._cost.seconds > self._on_loop_s:
            return None
        if deadline.at != math.inf:
            deadline.check()
        return InferenceResponse(self._name, self._version, self._run(request), request.id)

    def send(
        self, batch: Sequence[InferenceRequest], deadline: Deadline, done: Callable[[Sequence[Outcome]], None]
    ) -> Cancel:
        """Run a batch on the model's thread."""
        self.free = 0
        loop = asyncio.get_running_loop()
        work = partial(self._run_batch, batch, deadline)

        def finish(outcomes: Sequence[Outcome]) -> None:
            self.free = 1
            done(outcomes)
            # Unless what `done` did has already sent the next one.
            if self.free:
                self.on_free()

        def ended(future: Future[list[Outcome]]) -> None:
            outcomes = [Cancelled()] * len(batch) if future.cancelled() else future.result()
            # A loop that has ended has nobody left to tell.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(finish, outcomes)

        future = self._thread.submit(work)
        future.add_done_callback(ended)
        return partial(_drop, future)

    async def stream(self, request: InferenceRequest, deadline: Deadline) -> AsyncGenerator[InferenceResponse, None]:
        """Yield the model's parts as they come; each is made on the model's thread."""
        deadline.check()
        feeds = self._pack(request.inputs)
        parts: Iterator[dict[str, Array]] | None = None
        tell = partial(self._tell, request)
        try:
            parts = await self._run_in_thread(
                lambda: _guarded(lambda: self._model.stream(feeds, self._parameters(request)), tell), deadline
            )
            while True:
                part = await self._run_in_thread(lambda: _guarded(lambda: next(parts, None), tell), deadline)
                if part is None:
                    return
                outputs = self._unpack(part, request.rows)
                yield InferenceResponse(self._name, self._version, outputs, request.id)
        finally:
            close = getattr(parts, "close", None)
            if close is not None and not self._closed:
                # Nobody waits for it: the generator's own clean-up runs even when the caller has left.
                self._thread.submit(partial(_quiet, close))

    def allow(self, run_s: float) -> None:
        """Do nothing: a thread cannot be ended, so nothing here is ever taken for hung."""

    async def close(self) -> None:
        """Close the model on its own thread, after the run that is under way; one that never ends is left behind."""
        if self._closed:
            return
        self._closed = True
        closing = asyncio.wrap_future(self._thread.submit(self._model.close))
        self._thread.end()
        done, _ = await asyncio.wait((closing,), timeout=CLOSE_S)
        if not done:
            LOG.warning("%s version %s did not finish its last run and is abandoned", self._name, self._version)
        else:
            closing.result()

    def _run(self, request: InferenceRequest) -> dict[str, Array]:
        """Run the model on one request on the loop, in parts when it has more rows than the model takes at once."""
        rows = request.rows
        started = perf_counter()
        try:
            if rows <= self._max_rows:
                outputs = self._unpack(self._predict(self._pack(request.inputs), request.parameters), rows)
            else:
                outputs = run(self._model, self._binding, request.inputs, request.parameters, rows, self._max_rows)
        except Exception as exc:  # whatever a model raises is the model's failure, and its text is not for callers
            self._tell(request, exc)
            if isinstance(exc, LimenError):
                raise
            raise ModelFailed from exc
        seconds = perf_counter() - started
        self._until_measured -= 1
        if not request.is_trial and (self._until_measured < 0 or seconds > ON_LOOP_S):
            self._until_measured = UNMEASURED
            self._cost.add(seconds / rows, on_loop=True)
        return outputs

    def _parameters(self, request: InferenceRequest) -> Mapping[str, Parameter]:
        return with_context(request, self._version) if self.wants_context else request.parameters

    def _run_batch(self, batch: Sequence[InferenceRequest], deadline: Deadline) -> list[Outcome]:
        """Run a batch on the model's thread."""
        if deadline.remaining_s() <= 0:
            return [DeadlineExceeded()] * len(batch)
        started, is_trial = perf_counter(), batch[0].is_trial
        parts = [Part(request.inputs, request.rows) for request in batch]
        try:
            results = run_batch(self._model, self._binding, parts, self._parameters(batch[0]), self._max_rows)
        except MemoryError as exc:
            LOG.warning("%s version %s ran out of memory for a request", self._name, self._version, exc_info=exc)
            return [ModelFailed()] * len(batch)
        if not is_trial:
            self._cost.add((perf_counter() - started) / sum(part.rows for part in parts), on_loop=False)
        for request, result in zip(batch, results, strict=True):
            if isinstance(result, LimenError):
                self._tell(request, result)
        return [
            result
            if isinstance(result, LimenError)
            else InferenceResponse(self._name, self._version, result, request.id)
            for request, result in zip(batch, results, strict=True)
        ]

    def _tell(self, request: InferenceRequest, exc: Exception) -> None:
        if not request.is_trial:
            log_failure(f"{self._name} version {self._version}", f"request {request.label}", exc)

    async def _run_in_thread(self, work: Callable[[], T], deadline: Deadline) -> T:
        future = asyncio.wrap_future(self._thread.submit(work))
        if not deadline.is_set:
            return await future
        # Not `wait_for`: it would wait for the thread, which cannot be stopped.
        try:
            done, _ = await asyncio.wait((future,), timeout=max(0.0, deadline.remaining_s()))
        finally:
            # What is still queued is not run for a caller who has left.
            future.cancel()
        if not done:
            raise DeadlineExceeded
        return future.result()


def _guarded(work: Callable[[], T], tell: Callable[[Exception], None]) -> T:
    """Turn whatever a model raises into `ModelFailed`, and tell of it."""
    try:
        return work()
    except Exception as exc:
        tell(exc)
        if isinstance(exc, LimenError):
            raise
        raise ModelFailed from exc


def _quiet(close: Callable[[], None]) -> None:
    try:
        close()
    except Exception as exc:  # nobody is left to tell
        LOG.warning("a stream could not be closed", exc_info=exc)


def _drop(future: Future[list[Outcome]]) -> None:
    """Take work out that has not begun."""
    future.cancel()


def _nobody() -> None:
    """Stand in for the batcher until it takes over."""
