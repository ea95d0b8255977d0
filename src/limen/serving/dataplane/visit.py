"""A request's way through the data plane, from the door to its answer.

`DataPlane.enter` makes a visit once the request is routed. A gateway decodes with `visit.contract` (or `visit.handle`), calls `start` or
`stream` once, and encodes with what `visit.handle` is then: the version that answered. Everything raised from here is a `LimenError`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncGenerator
from contextlib import aclosing
from time import perf_counter

import msgspec

from limen.contracts.errors import ErrorCode, Internal, LimenError, Unsupported
from limen.contracts.inference import Deadline, InferenceRequest, InferenceResponse, StreamPart
from limen.runtime.versions.handle import COUNT_EVERY, VersionHandle
from limen.runtime.versions.manager import VersionManager
from limen.serving.dataplane.call import Call, Started
from limen.serving.dataplane.finaliser import Finaliser
from limen.serving.dataplane.selection import check_requested
from limen.serving.dataplane.state import RouteReason, VisitState
from limen.traffic.admission import Admission, Ended, Lane

LOG = logging.getLogger("limen.serving")
_FALLBACK = frozenset(
    {ErrorCode.DEADLINE_EXCEEDED, ErrorCode.INTERNAL, ErrorCode.UNAVAILABLE, ErrorCode.RESOURCE_EXHAUSTED}
)
"""What a declared fallback stands in for: no answer in time, a broken or wrong one, no room. Never for a caller's mistake."""


class Spine(msgspec.Struct, frozen=True):
    """What all visits of one data plane go through."""

    versions: VersionManager
    admission: Admission
    finaliser: Finaliser

    def lane(self, handle: VersionHandle) -> Lane:
        """Return the lane of a version's endpoint."""
        lane: Lane | None = handle.lane
        if lane is None:
            queue, at_once = handle.package.manifest.serving.queue, handle.contract.batching.max_rows
            lane = handle.lane = self.admission.lane(handle.model, queue, at_once)
        return lane


class Visit(VisitState, kw_only=True, gc=False):
    """One request and what can be done with it.

    `start` gives the lease back, or the `Call` it returns does. A gateway that does something else before it starts, or streams, uses the
    visit in a `with` block, which gives back a lease that is still held.
    """

    spine: Spine

    def start(self, request: InferenceRequest) -> Started:
        """Return the answer if it can be given without waiting, else the call that will have it.

        Most models answer in microseconds, and a request that never waits needs nothing that could wait.

        Raises:
            LimenError: for every failure; unexpected ones are `Internal` and their text stays in the log.
        """
        handle = self.handle
        try:
            if handle.predictor.can_stream:
                raise Unsupported("this model answers in a stream; use the streaming call")
            self.hold(request)
            begun = 0.0 if handle.now_runs else perf_counter()
            answer = handle.predictor.predict_now(request, self.deadline)
            if answer is None:
                return self._wait(request)
            if begun:
                handle.now_seconds = perf_counter() - begun
            handle.now_rows += request.rows
            handle.now_runs += 1
            if handle.now_runs >= COUNT_EVERY:
                handle.count_runs()
            return self.spine.finaliser.finish(self, request, answer)
        except Exception as exc:
            if self.is_fallback:
                raise  # `_fall_back` has asked, and tells the first error
            result = self._fall_back(request, self._known(exc))
            if not isinstance(result, LimenError):
                return result
            try:
                if result is exc:
                    raise
                raise result from exc
            finally:
                del result  # the traceback refers to this frame
        finally:
            if self.is_held and not self.is_waiting:
                # Written out, because every request passes here.
                self.is_held = False
                handle = self.handle
                handle.leases -= 1
                if handle.idle is not None:
                    handle.wake()

    async def infer(self, request: InferenceRequest) -> InferenceResponse:
        """Return the model's answer to one request; cancelling this tells the model's queue.

        Raises:
            LimenError: as `start`.
        """
        started = self.start(request)
        return await started.answer() if isinstance(started, Call) else started

    async def stream(self, request: InferenceRequest) -> AsyncGenerator[StreamPart, None]:
        """Yield the parts of one answer; a unary model gives exactly one.

        Raises:
            LimenError: also in the middle of the stream, for every failure.
        """
        handle, finaliser = self.handle, self.spine.finaliser
        if not handle.predictor.can_stream:
            yield StreamPart(await self.infer(request), is_final=True)
            return
        lane: Lane | None = None
        try:
            self.hold(request)
            handle.ensure_up()
            lane = self.spine.lane(handle)
            lane.acquire(self.deadline.at, None, 0.0, request.priority, is_retry=self.is_retry)
            parts = handle.predictor.stream(request, self.deadline)
            # Closed before the lease is given back, however this one ends.
            async with aclosing(parts):
                async for response in parts:
                    yield StreamPart(finaliser.finish(self, request, response, is_part=True), is_final=False)
            yield StreamPart(InferenceResponse(request.model_name, handle.version, {}, request.id), is_final=True)
            finaliser.finish_stream(self, request)
        except Exception as exc:
            error = self._known(exc)
            finaliser.broke(self, error)
            finaliser.failed(self, error)
            if error is exc:
                raise
            raise error from exc
        finally:
            if lane is not None:
                lane.release(Ended.IGNORED, perf_counter() - self.started_at)

    def hold(self, request: InferenceRequest) -> None:
        """Hold a request against the contract, and give it what the contract says about time; idempotent.

        A gateway does so itself where it takes long, off the event loop. Tensors that OIP's callers name and shape become Limen's own.

        Raises:
            InvalidArgument: the request breaks the contract.
        """
        handle = self.handle
        if request.checked is not handle.check:
            if request.checked is None:
                self.is_wire = True
            if handle.wire is not None and request.checked is None:
                handle.wire.enter(request)
            else:
                request.rows = handle.check.check_inputs(request.inputs, is_finite=request.is_finite)
                request.checked = handle.check
        if request.outputs:
            check_requested(handle, request, is_wire=self.is_wire)
        if handle.deadline_s is not None and self.deadline.at == math.inf:
            self.deadline = Deadline.after(handle.deadline_s)
        request.log_id = self.id

    def _wait(self, request: InferenceRequest) -> Call:
        """Let a request into its endpoint's lane and the model's queue, or refuse it."""
        handle, spine = self.handle, self.spine
        handle.ensure_up()
        lane = spine.lane(handle)
        wait_s = handle.predictor.expected_wait_s()
        lane.acquire(self.deadline.at, None, wait_s, request.priority, is_retry=self.is_retry)
        call = Call(spine.finaliser, self, lane, request, self._fall_back)
        call.submit()
        return call

    def _fall_back(self, request: InferenceRequest, error: LimenError) -> Started | LimenError:
        """Return what the declared fallback of a version says where it gave no answer; the error to tell where there is none.

        The error told is counted. Where the fallback fails as well, it is the first one.
        """
        finaliser, handle = self.spine.finaliser, self.handle
        finaliser.broke(self, error)
        declared = handle.fallback
        if self.is_fallback or declared is None or error.code not in _FALLBACK:
            told, self.failure = self.failure or error, None
            finaliser.failed(self, told)
            return told
        self.is_fallback = True
        result: Started
        try:
            constant = declared.answer(request, handle.version)
            if constant is not None:
                result = finaliser.finish(self, request, constant)
            else:
                self.move(self.spine.versions.acquire(handle.model, declared.version))
                self.reason = RouteReason.FALLBACK
                result = self.start(request)
        except Exception as exc:  # noqa: BLE001 - _known logs what is not ours
            finaliser.broke(self, self._known(exc))
            finaliser.failed(self, error)
            return error
        if isinstance(result, Call):
            self.failure = error.with_traceback(None)
        if handle.counts is not None:
            handle.counts.fallback()
        return result

    def _known(self, exc: Exception) -> LimenError:
        """Return an error as it is told: itself when it is ours, else one that says nothing while the log says it all."""
        if isinstance(exc, LimenError):
            return exc
        LOG.error("unexpected failure in the data plane, request_id=%s", self.id, exc_info=exc)
        error = Internal()
        error.__cause__ = exc
        return error
