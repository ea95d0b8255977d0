"""One request that has to be waited for: what it holds, who is told, and how it ends.

Made by `serving.dataplane.visit`. It holds the visit's lease and a place in the endpoint's lane until it is answered or cancelled, and gives
both back exactly once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from time import perf_counter

from limen.contracts.errors import DeadlineExceeded, LimenError
from limen.contracts.inference import InferenceRequest, InferenceResponse, Outcome
from limen.runtime.predictor import Cancel
from limen.serving.dataplane.finaliser import Finaliser
from limen.serving.dataplane.state import VisitState
from limen.traffic.admission import Ended, Lane


class Call:
    """A request on its way through a queue. Whoever started it sets `done` before the loop turns."""

    __slots__ = ("_cancel", "_entered", "_finaliser", "_lane", "_request", "_retry", "_visit", "done")

    def __init__(
        self,
        finaliser: Finaliser,
        visit: VisitState,
        lane: Lane,
        request: InferenceRequest,
        retry: Callable[[InferenceRequest, LimenError], Started | LimenError],
    ) -> None:
        """Take over a visit's lease and a place in a lane; `submit` follows.

        Args:
            finaliser: ends the request.
            visit: the request's way so far.
            lane: where it has its place.
            request: what is asked.
            retry: gives what a fallback says after an error, or the error to tell.
        """
        visit.is_waiting = True
        self._finaliser = finaliser
        self._visit: VisitState | None = visit
        self._lane = lane
        self._request = request
        self._retry = retry
        self._entered = perf_counter()
        self._cancel: Cancel | None = None
        self.done: Callable[[Outcome], None] = _untold

    def submit(self) -> None:
        """Have the request answered."""
        visit = self._visit
        if visit is not None:
            self._cancel = visit.handle.predictor.submit(self._request, visit.deadline, self._take)

    async def answer(self) -> InferenceResponse:
        """Wait for the answer; cancelling this cancels the request.

        Raises:
            LimenError: there is none.
        """
        answered: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.done = partial(_settle, answered)
        try:
            outcome = await answered
        except asyncio.CancelledError:
            self.cancel()
            raise
        if isinstance(outcome, LimenError):
            try:
                raise outcome
            finally:
                del answered, outcome  # the traceback refers to this frame
        return outcome

    def cancel(self) -> None:
        """Say that the caller has left: nothing is told any more, and what has not begun is not run."""
        cancel, self._cancel = self._cancel, None
        self.done = _untold
        if cancel is not None:
            cancel()
        visit, self._visit = self._visit, None
        if visit is not None:
            self._finaliser.cancelled(visit)
            self._lane.release(Ended.IGNORED, perf_counter() - self._entered)
            visit.leave()

    def _take(self, outcome: Outcome) -> None:
        """Have the answer finished, look for another one where it is none, and tell."""
        visit, self._visit = self._visit, None
        if visit is None:
            return
        self._cancel = None
        seconds = perf_counter() - self._entered
        result: Started | LimenError
        try:
            result = self._finaliser.finish(visit, self._request, outcome)
        except LimenError as exc:
            # Its place is free before a fallback looks for one.
            self._lane.release(Ended.DROPPED if isinstance(exc, DeadlineExceeded) else Ended.IGNORED, seconds)
            # Its traceback refers to this frame, and so to the call.
            result = self._retry(self._request, exc.with_traceback(None))
        else:
            self._lane.release(Ended.SUCCESS, seconds)
        # Whoever is told can cancel this: only the garbage collector would part them later.
        done, self.done = self.done, _untold
        if isinstance(result, Call):
            # Another version answers; cancelling this cancels that.
            result.done = done
            self._cancel = result.cancel
            return
        visit.leave()
        done(result)


def _settle(answered: asyncio.Future[Outcome], outcome: Outcome) -> None:
    if not answered.done():
        answered.set_result(outcome)


def _untold(outcome: Outcome) -> None:
    """Take the outcome of a call until whoever started it says what to do with it."""


Started = InferenceResponse | Call
"""An answer that was given at once, or the call that will give it."""
