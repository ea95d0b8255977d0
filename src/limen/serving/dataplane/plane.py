"""The spine of every request, whatever protocol it came by.

A gateway decodes, calls `infer` or `stream` once, and encodes. Lease, contract check, prediction and the check of the answer
happen here, in this order, so that the protocols cannot differ. Everything raised from here is a `LimenError`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from random import getrandbits
from time import perf_counter
from typing import Any

from limen.contracts.contract import Contract
from limen.contracts.endpoint import Route
from limen.contracts.errors import ErrorCode, Internal, LimenError, ModelError, NotFound, Unavailable, Unsupported
from limen.contracts.inference import Deadline, InferenceRequest, InferenceResponse, Outcome, StreamPart
from limen.contracts.names import parse_version
from limen.contracts.oip.platform import platform_of
from limen.contracts.oip.statistics import ModelStatistics
from limen.contracts.openapi.model import ServedContract
from limen.runtime.versions.fallback import MARK
from limen.runtime.versions.handle import COUNT_EVERY, VersionHandle
from limen.runtime.versions.lifecycle import State, VersionStatus
from limen.runtime.versions.manager import VersionManager
from limen.serving.dataplane.call import Call, Started
from limen.serving.dataplane.metadata import ModelMetadata, ServerMetadata, model_metadata, server_metadata
from limen.serving.dataplane.model_config import ModelConfig, model_config
from limen.serving.dataplane.selection import check_requested, wanted_outputs
from limen.serving.link.operations import Operations
from limen.telemetry.metrics.series import Metrics
from limen.traffic.admission import Admission, Ended, Lane
from limen.traffic.routing import Split

LOG = logging.getLogger("limen.serving")
_FALLBACK = frozenset(
    {ErrorCode.DEADLINE_EXCEEDED, ErrorCode.INTERNAL, ErrorCode.UNAVAILABLE, ErrorCode.RESOURCE_EXHAUSTED}
)
"""What a declared fallback stands in for: no answer in time, a broken or wrong one, no room. Never for a caller's mistake."""


class DataPlane:
    """Answers inference requests with the versions that a `VersionManager` holds."""

    def __init__(
        self, versions: VersionManager, admission: Admission | None = None, metrics: Metrics | None = None
    ) -> None:
        """Serve from `versions`, within what `admission` lets in, counting in `metrics`."""
        self.versions = versions
        self.admission = admission or Admission()
        self._metrics = metrics
        self._count = metrics is not None
        self.statistics: Callable[[str, str], list[ModelStatistics]] | None = None
        """Gives the statistics of a model and version, each empty for all; the extension is not offered when None."""
        self.operations: Operations | None = None
        """Looks after the server as a whole; the extensions that need it are not offered when None."""
        self._splits: dict[str, Split] = {}
        self.needs_all = True
        """Whether one model without a version that answers makes the whole server not ready."""
        self.is_draining = False
        """Set when the server is about to stop: readiness goes first."""

    def start(self, request: InferenceRequest, deadline: Deadline) -> Started:
        """Return the answer if it can be given without waiting, else the call that will have it.

        Most models answer in microseconds, and a request that never waits needs nothing that could wait.

        Raises:
            LimenError: for every failure; unexpected ones are `Internal` and their text stays in the log.
        """
        if not request.started_at:
            request.started_at = perf_counter()
        try:
            if self._splits:
                handle = self.acquire(request.model_name, request.model_version, request.id)
            else:
                handle = self.versions.acquire(request.model_name, request.model_version)
        except LimenError as exc:
            self.failed(request.model_name, "", request, exc)
            raise
        try:
            self._check(handle, request)
            if handle.deadline_s is not None and deadline.at == math.inf:
                deadline = Deadline.after(handle.deadline_s)
            begun = 0.0 if handle.now_runs else perf_counter()
            answer = handle.predictor.predict_now(request, deadline)
            if answer is None:
                call = self._enter(handle, request, deadline)
                # Its lease is its own.
                handle.leases += 1
                call.submit()
                return call
            if begun:
                handle.now_seconds = perf_counter() - begun
            handle.now_rows += request.rows
            handle.now_runs += 1
            if handle.now_runs >= COUNT_EVERY:
                handle.count_runs()
            return self.finish(handle, request, answer)
        except LimenError as exc:
            result = self.fall_back(handle, request, deadline, exc)
            if result is None:
                raise
            return result
        except Exception as exc:  # a bug of ours must not become a caller's stack trace
            LOG.exception("unexpected failure in the data plane")
            raise Internal from exc
        finally:
            handle.leases -= 1
            if handle.idle is not None:
                handle.wake()

    async def infer(self, request: InferenceRequest, deadline: Deadline) -> InferenceResponse:
        """Return the model's answer to one request; cancelling this tells the model's queue.

        Raises:
            LimenError: as `start`.
        """
        started = self.start(request, deadline)
        return await started.answer() if isinstance(started, Call) else started

    def refuse_early(self, model: str, *, is_retry: bool) -> None:
        """Refuse a request of which only the head is known when its endpoint has no room, before its body is read.

        Raises:
            ResourceExhausted: with the seconds after which a retry is worth it.
        """
        lane = self.admission.known(model)
        if lane is not None and lane.is_full(is_retry):
            with self.versions.acquire(model) as handle:
                if handle.fallback is not None:
                    return  # it answers, once the request is known
            error = lane.refuse(is_retry)
            if self._metrics is not None:
                self._metrics.runtime(model, "").shed(lane.refused_for.value)
            raise error

    def set_routes(self, endpoint: str, routes: Sequence[Route], aliases: Mapping[str, str]) -> None:
        """Say which versions share the requests of an endpoint that name none, and what versions are called."""
        if len(routes) > 1:
            self._splits[endpoint] = Split(endpoint, routes)
        else:
            self._splits.pop(endpoint, None)
        self.versions.set_aliases(endpoint, aliases)

    def acquire(self, model: str, version: str, unit: str) -> VersionHandle:
        """Return a leased version that answers a request; the share of one that is not ready goes to the others.

        Args:
            model: the endpoint, or `NAME@ALIAS`.
            version: its number; by the endpoint's shares when empty.
            unit: whatever should get the same version again, such as the request's id; drawn by lot when empty.

        Raises:
            LimenError: as `VersionManager.acquire`.
        """
        split = self._splits.get(model) if self._splits and not version else None
        if split is not None:
            number = split.route(unit or f"{getrandbits(64):x}")
            with suppress(Unavailable, NotFound):
                handle = self.versions.acquire(model, number)
                if not handle.predictor.down:
                    return handle
                handle.release()
        return self.versions.acquire(model, version)

    def _enter(self, handle: VersionHandle, request: InferenceRequest, deadline: Deadline) -> Call:
        """Let a request into its endpoint's lane, or refuse it."""
        handle.ensure_up()
        lane = self.lane(handle)
        lane.acquire(deadline.at, None, handle.predictor.expected_wait_s(), request.priority, is_retry=request.is_retry)
        return Call(self, handle, lane, request, deadline)

    def lane(self, handle: VersionHandle) -> Lane:
        """Return the lane of a version's endpoint."""
        lane: Lane | None = handle.lane
        if lane is None:
            queue, at_once = handle.package.manifest.serving.queue, handle.contract.batching.max_rows
            lane = handle.lane = self.admission.lane(handle.model, queue, at_once)
        return lane

    def _check(self, handle: VersionHandle, request: InferenceRequest) -> None:
        """Hold a request against the contract, once."""
        if handle.predictor.can_stream:
            raise Unsupported("this model answers in a stream; use the streaming call")
        if handle.wire is not None and request.checked is None:
            handle.wire.enter(request)
        elif request.checked is not handle.check:
            request.rows = handle.check.check_inputs(request.inputs, is_finite=request.is_finite)
            request.checked = handle.check
        if request.outputs:
            check_requested(handle, request)

    def finish(self, handle: VersionHandle, request: InferenceRequest, outcome: Outcome) -> InferenceResponse:
        """Hold an answer against the contract, give the caller what it asked for, and count it.

        Raises:
            LimenError: the outcome is one, or the answer breaks the contract.
        """
        if isinstance(outcome, LimenError):
            raise outcome
        outcome.outputs = handle.check.check_outputs(outcome.outputs, request.rows)
        if request.outputs or request.is_wire:
            outcome.outputs = wanted_outputs(handle, request, outcome.outputs)
        if request.is_fallback and not outcome.parameters:
            outcome.parameters = {MARK: "version"}
        if self._count:
            series = handle.series.get(request.protocol) or self._series(handle, request.protocol)
            series.answered(perf_counter() - request.started_at, request.rows)
        return outcome

    def fall_back(
        self, handle: VersionHandle, request: InferenceRequest, deadline: Deadline, error: LimenError
    ) -> Started | None:
        """Return the declared fallback of a version for a request it did not answer; without one, None, and the failure is counted."""
        if isinstance(error, ModelError) and handle.counts is not None:
            handle.counts.model_failure()
        declared = handle.fallback
        if declared is None or request.is_fallback or error.code not in _FALLBACK:
            self.failed(handle.model, handle.version, request, error)
            return None
        request.is_fallback = True
        try:
            constant = declared.answer(request, handle.version)
            if constant is not None:
                result: Started = self.finish(handle, request, constant)
            else:
                request.model_version = declared.version
                result = self.start(request, deadline)
        except LimenError:
            return None
        if handle.counts is not None:
            handle.counts.fallback()
        return result

    def failed(self, model: str, version: str, request: InferenceRequest, error: LimenError) -> None:
        """Count a request that gets no answer."""
        error.version = version
        if self._metrics is not None:
            error.is_counted = True
            known = model if version or model in self.versions.models() else ""
            series = self._metrics.series(known, version, request.protocol)
            series.failed(error.code.value, perf_counter() - request.started_at)

    def refused(self, model: str, version: str, protocol: str, error: LimenError) -> None:
        """Count a request that a gateway could not read, so that the spine has not seen it."""
        if self._metrics is not None and not error.is_counted:
            known = model if model in self.versions.models() else ""
            self._metrics.series(known, version, protocol).failed(error.code.value, 0.0)

    def _series(self, handle: VersionHandle, protocol: str) -> Any:
        """Return where a version's answers over a protocol are counted."""
        if self._metrics is None:
            raise Internal
        series = handle.series[protocol] = self._metrics.series(handle.model, handle.version, protocol)
        return series

    async def stream(self, request: InferenceRequest, deadline: Deadline) -> AsyncIterator[StreamPart]:
        """Yield the parts of one answer; a unary model gives exactly one.

        Raises:
            LimenError: also in the middle of the stream, for every failure.
        """
        request.started_at = request.started_at or perf_counter()
        handle = self.acquire(request.model_name, request.model_version, request.id)
        lane: Lane | None = None
        try:
            if not handle.predictor.can_stream:
                # Its lease is its own; taking a second one here keeps the version in memory meanwhile. It is not drawn again.
                request.model_version = handle.version
                yield StreamPart(await self.infer(request, deadline), is_final=True)
                return
            if handle.wire is not None and request.checked is None:
                handle.wire.enter(request)
            else:
                request.rows = handle.check.check_inputs(request.inputs)
            check_requested(handle, request)
            if handle.deadline_s is not None and not deadline.is_set:
                deadline = Deadline.after(handle.deadline_s)
            handle.ensure_up()
            lane = self.lane(handle)
            lane.acquire(deadline.at, None, 0.0, request.priority, is_retry=request.is_retry)
            parts = handle.predictor.stream(request, deadline)
            # Closed before the lease is given back, however this one ends.
            async with aclosing(parts):
                async for response in parts:
                    response.outputs = handle.check.check_outputs(response.outputs, request.rows)
                    if request.outputs or request.is_wire:
                        response.outputs = wanted_outputs(handle, request, response.outputs)
                    yield StreamPart(response, is_final=False)
            end = InferenceResponse(request.model_name, handle.version, {}, request.id)
            yield StreamPart(end, is_final=True)
            if self._count:
                self._series(handle, request.protocol).answered(perf_counter() - request.started_at, request.rows)
        except LimenError as exc:
            if not exc.is_counted:
                self.failed(handle.model, handle.version, request, exc)
            raise
        except Exception as exc:
            LOG.exception("unexpected failure in a stream")
            raise Internal from exc
        finally:
            if lane is not None:
                lane.release(Ended.IGNORED, perf_counter() - request.started_at)
            handle.release()

    def contract(self, name: str, version: str = "") -> Contract:
        """Return the contract of a ready version."""
        with self.versions.acquire(name, version) as handle:
            return handle.contract

    def served(self, name: str = "") -> list[ServedContract]:
        """Return every ready version with its contract, for documents; of one model when named.

        Raises:
            NotFound: there is no such model.
            Unavailable: it has no ready version.
        """
        if name:
            self.versions.acquire(name).release()
        found = []
        for model in (self.versions.meant(name)[0],) if name else self.versions.models():
            default = self.versions.default(model)
            for version in self.versions.versions(model):
                with self.versions.acquire(model, version) as handle:
                    platform = platform_of(handle.package.manifest.backend)
                    can_stream = handle.predictor.can_stream
                    found.append(ServedContract(handle.contract, version, platform, can_stream, version == default))
        return found

    def can_stream(self, name: str, version: str = "") -> bool:
        """Return whether a model answers in several parts."""
        with self.versions.acquire(name, version) as handle:
            return handle.predictor.can_stream

    def is_live(self) -> bool:
        """Return whether the process works at all."""
        return True

    def is_ready(self) -> bool:
        """Return whether what should be ready is, and the server is not about to stop."""
        wanted = [model for model in self.versions.models() if model not in self.versions.paused]
        needed = all if self.needs_all else any
        return not self.is_draining and (not wanted or needed(map(self.versions.has_answer, wanted)))

    def is_model_ready(self, name: str, version: str = "") -> bool:
        """Return whether a model can be used now.

        Raises:
            NotFound: there is no such model or version.
            InvalidArgument: the version is not a number.
        """
        try:
            with self.versions.acquire(name, version) as handle:
                return not self.is_draining and not handle.predictor.down
        except Unavailable:
            return False

    def is_known(self, called: str) -> bool:
        """Return whether there is a model, or a model with an alias, that callers call so."""
        return self.versions.is_known(called)

    def models(self) -> tuple[str, ...]:
        """Return the names of all models, ready or not."""
        return self.versions.models()

    def statuses(self, name: str, version: str = "") -> list[VersionStatus]:
        """Return the state of a model's versions, or of the one named.

        Raises:
            NotFound, Unavailable: there is no such model or version, or the model has none.
            InvalidArgument: the version is not a number.
        """
        if version:
            parse_version(version)
        name, number = self.versions.meant(name)
        asked = {version, number} - {""}
        found = [s for s in self.versions.statuses(name) if asked <= {s.version} and s.state is not State.UNLOADED]
        if not found:
            self.versions.acquire(name, version or number).release()  # says why
            raise NotFound("there is no such model or version")
        return found

    def server_metadata(self) -> ServerMetadata:
        """Return the server's name, version and extensions."""
        is_explicit = self.operations is not None and self.operations.is_explicit
        return server_metadata(has_statistics=self.statistics is not None, is_explicit=is_explicit)

    def model_metadata(self, name: str, version: str = "") -> ModelMetadata:
        """Return a model's tensors as the protocol describes them."""
        with self.versions.acquire(name, version) as handle:
            return model_metadata(handle, self.versions.versions(handle.model))

    def model_config(self, name: str, version: str = "") -> ModelConfig:
        """Return how a model is run, as the protocol describes it."""
        with self.versions.acquire(name, version) as handle:
            return model_config(handle, self.versions.versions(handle.model))
