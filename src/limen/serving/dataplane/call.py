"""One request that has to be waited for: what it holds, who is told, and how it ends.

Made by `serving.dataplane.plane.DataPlane.start`. It holds a lease on the version and a place in the endpoint's lane until it is answered or
cancelled, and gives both back exactly once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING

from limen.contracts.errors import Cancelled, DeadlineExceeded, LimenError
from limen.contracts.inference import Deadline, InferenceRequest, InferenceResponse, Outcome
from limen.runtime.predictor import Cancel
from limen.runtime.versions.handle import VersionHandle
from limen.traffic.admission import Ended, Lane

if TYPE_CHECKING:
    from limen.serving.dataplane.plane import DataPlane


class Call:
    """A request on its way through a queue. Whoever started it sets `done` before the loop turns."""

    __slots__ = ("_cancel", "_deadline", "_entered", "_handle", "_lane", "_plane", "_request", "done")

    def __init__(
        self, plane: DataPlane, handle: VersionHandle, lane: Lane, request: InferenceRequest, deadline: Deadline
    ) -> None:
        """Take over a lease and a place in a lane; `submit` follows."""
        self._plane = plane
        self._handle: VersionHandle | None = handle
        self._lane = lane
        self._request = request
        self._deadline = deadline
        self._entered = perf_counter()
        self._cancel: Cancel | None = None
        self.done: Callable[[Outcome], None] = _nobody

    def submit(self) -> None:
        """Have the request answered."""
        if self._handle is not None:
            self._cancel = self._handle.predictor.submit(self._request, self._deadline, self._take)

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
        self.done = _nobody
        if cancel is not None:
            cancel()
        if self._handle is not None:
            if self._handle.counts is not None:
                self._handle.counts.cancelled()
            self._plane.failed(self._handle.model, self._handle.version, self._request, Cancelled())
            self._give_back(Ended.IGNORED)

    def _take(self, outcome: Outcome) -> None:
        """Check the answer, look for another one where it is none, and tell."""
        handle, plane, request = self._handle, self._plane, self._request
        if handle is None:
            return
        self._cancel = None
        result: Outcome | Call
        try:
            result = plane.finish(handle, request, outcome)
            self._give_back(Ended.SUCCESS)
        except LimenError as exc:
            is_late = isinstance(exc, DeadlineExceeded)
            # Its traceback refers to this frame, and so to the call.
            result = plane.fall_back(handle, request, self._deadline, exc) or exc.with_traceback(None)
            self._give_back(Ended.DROPPED if is_late else Ended.IGNORED)
        # Whoever is told can cancel this: only the garbage collector would part them later.
        done, self.done = self.done, _nobody
        if isinstance(result, Call):
            # Another version answers; cancelling this cancels that.
            result.done = done
            self._cancel = result.cancel
        else:
            done(result)

    def _give_back(self, ended: Ended) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            self._lane.release(ended, perf_counter() - self._entered)
            handle.release()


def _settle(answered: asyncio.Future[Outcome], outcome: Outcome) -> None:
    if not answered.done():
        answered.set_result(outcome)


def _nobody(outcome: Outcome) -> None:
    """Stand in for whoever asked until they say what to do."""


Started = InferenceResponse | Call
"""An answer that was given at once, or the call that will give it."""
