"""How every request ends, whatever protocol it came by and however many parts its answer has.

The only place that holds answers against the contract, gives callers the outputs they asked for, and counts.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

from limen.contracts.errors import Cancelled, LimenError, ModelError
from limen.contracts.inference import InferenceRequest, InferenceResponse, Outcome
from limen.runtime.versions.fallback import MARK
from limen.serving.dataplane.selection import wanted_outputs
from limen.serving.dataplane.state import VisitState
from limen.telemetry.metrics.series import Metrics, Series

_VERSION_MARK = {MARK: "version"}


class Finaliser:
    """Ends the requests of one process. Used from one event loop."""

    __slots__ = ("_check_every", "_is_known", "_metrics", "_until_check")

    def __init__(
        self, metrics: Metrics | None, is_known: Callable[[str, str], bool], *, check_limits_every: int = 1
    ) -> None:
        """Prepare to end requests.

        Args:
            metrics: where requests are counted; nowhere when None.
            is_known: whether an endpoint, and a version of it unless that is empty, are served: others name no series.
            check_limits_every: one answer in so many is held against the ranges, allowed values, lengths and patterns of its
                outputs. Names, types, shapes and finite are checked in every answer.
        """
        self._metrics = metrics
        self._is_known = is_known
        self._check_every = max(1, check_limits_every)
        self._until_check = 1

    def finish(
        self, visit: VisitState, request: InferenceRequest, outcome: Outcome, is_part: bool = False
    ) -> InferenceResponse:
        """Return an answer as its caller gets it, and count it; a part of one is counted with the last (`finish_stream`).

        Raises:
            LimenError: the outcome is one, or the answer breaks the contract.
        """
        if isinstance(outcome, LimenError):
            raise outcome
        handle = visit.handle
        if self._check_every == 1:
            outputs = handle.check.check_outputs(outcome.outputs, request.rows)
        else:
            outputs = handle.check.check_outputs(outcome.outputs, request.rows, checks_limits=self._is_due())
        if request.outputs or (visit.is_wire and handle.wire is not None):
            outputs = wanted_outputs(handle, request, outputs, is_wire=visit.is_wire)
        outcome.outputs = outputs
        if visit.is_fallback and not outcome.parameters:
            outcome.parameters = _VERSION_MARK
        if self._metrics is not None and not is_part:
            series = handle.series.get(visit.protocol) or self._series(visit)
            series.answered(perf_counter() - visit.started_at, request.rows)
        return outcome

    def finish_stream(self, visit: VisitState, request: InferenceRequest) -> None:
        """Count an answer whose parts have all been given."""
        if self._metrics is not None:
            self._series(visit).answered(perf_counter() - visit.started_at, request.rows)

    def broke(self, visit: VisitState, error: LimenError) -> None:
        """Note that a version gave no answer, whatever its caller gets in the end."""
        error.version = visit.handle.version
        if isinstance(error, ModelError) and visit.handle.counts is not None:
            visit.handle.counts.model_failure()

    def failed(self, visit: VisitState, error: LimenError) -> None:
        """Count a request that gets no answer, with the version that `broke`; once, however often it is told."""
        if not error.is_counted:
            seconds = perf_counter() - visit.started_at
            self._count(visit.handle.model, error.version or visit.handle.version, visit.protocol, error, seconds)

    def cancelled(self, visit: VisitState) -> None:
        """Count a request whose caller has left."""
        if visit.handle.counts is not None:
            visit.handle.counts.cancelled()
        self.failed(visit, Cancelled())

    def refused(self, model: str, version: str, protocol: str, error: LimenError, seconds: float = 0.0) -> None:
        """Count a request that reached no version, unless that is done already. Names may be a caller's."""
        if self._metrics is not None and not error.is_counted:
            if not self._is_known(model, ""):
                model = version = ""
            elif version and not self._is_known(model, version):
                version = ""
            self._count(model, version, protocol, error, seconds)

    def shed(self, model: str, reason: str) -> None:
        """Note a request that was refused before its body was read."""
        if self._metrics is not None:
            self._metrics.runtime(model, "").shed(reason)

    def _count(self, model: str, version: str, protocol: str, error: LimenError, seconds: float) -> None:
        if self._metrics is not None:
            error.is_counted = True
            self._metrics.series(model, version, protocol).failed(error.code.value, seconds)

    def _series(self, visit: VisitState) -> Series:
        """Return where a version's answers over a protocol are counted."""
        handle, protocol = visit.handle, visit.protocol
        series: Series | None = handle.series.get(protocol)
        if series is None:
            assert self._metrics is not None  # noqa: S101 - callers have looked
            series = handle.series[protocol] = self._metrics.series(handle.model, handle.version, protocol)
        return series

    def _is_due(self) -> bool:
        """Return whether this answer is one whose limits are checked."""
        self._until_check -= 1
        if self._until_check > 0:
            return False
        self._until_check = self._check_every
        return True
