"""The door: every request enters here, whatever protocol it came by, before anything says what exists.

A gateway that needs the contract to decode enters before it decodes, and enters once. What follows is `serving.dataplane.visit`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from time import perf_counter

from limen.contracts.endpoint import Route
from limen.contracts.errors import LimenError, NotFound, Unavailable
from limen.contracts.identity import Principal
from limen.contracts.inference import NO_DEADLINE, Deadline
from limen.runtime.versions.handle import VersionHandle
from limen.runtime.versions.manager import VersionManager
from limen.serving.dataplane.directory import Directory
from limen.serving.dataplane.finaliser import Finaliser
from limen.serving.dataplane.operations import Operations
from limen.serving.dataplane.state import RouteReason
from limen.serving.dataplane.visit import Spine, Visit
from limen.telemetry.metrics.series import Metrics
from limen.telemetry.metrics.totals import Totals
from limen.traffic.admission import Admission
from limen.traffic.routing import Split

# A name of the module costs less than one of a class of enums.
_NAMED, _ONLY = RouteReason.NAMED, RouteReason.ONLY


class DataPlane:
    """Lets requests in to the versions that a `VersionManager` holds."""

    def __init__(
        self,
        versions: VersionManager,
        admission: Admission | None = None,
        metrics: Metrics | None = None,
        *,
        read_totals: Callable[[], Totals] | None = None,
        operations: Operations | None = None,
        check_limits_every: int = 1,
    ) -> None:
        """Serve from `versions`, within what `admission` lets in, counting in `metrics`.

        Args:
            versions: what answers.
            admission: the lanes of endpoints; its defaults when None.
            metrics: where requests are counted; nowhere when None.
            read_totals: gives what all processes have counted; without it the statistics extension is not offered.
            operations: changes the server for callers; without it the extensions that need it are not offered.
            check_limits_every: as `Finaliser`.
        """
        self.versions = versions
        self.admission = admission or Admission()
        self.operations = operations
        is_explicit = operations is not None and operations.is_explicit
        self.directory = Directory(versions, read_totals, is_explicit=is_explicit)
        """What there is: readiness, metadata, documents, statistics."""
        self.finaliser = Finaliser(metrics, self.directory.is_served, check_limits_every=check_limits_every)
        self._spine = Spine(versions, self.admission, self.finaliser)
        self._splits: dict[str, Split] = {}

    def enter(
        self,
        principal: Principal,
        endpoint: str,
        version: str,
        request_id: str,
        protocol: str,
        deadline: Deadline = NO_DEADLINE,
        is_retry: bool = False,
        started_at: float = 0.0,
    ) -> Visit:
        """Return the visit of a request that may come in: routed, and with a lease on the version that answers.

        Args:
            principal: who asks.
            endpoint: its name, or `NAME@ALIAS`.
            version: the number of a version; by the endpoint's shares when empty.
            request_id: what the caller is told; the same one gets the same version as long as the shares allow it.
            protocol: what the request is counted as.
            deadline: when the answer is useless; the gateway may tighten it in the visit before it starts.
            is_retry: whether the caller says that it has asked before.
            started_at: when its handling began, on `time.perf_counter()`; now when 0.

        Raises:
            NotFound: there is no such endpoint, alias or version.
            InvalidArgument: a name or the version is not one.
            Unavailable: it exists and is not ready.
        """
        started_at = started_at or perf_counter()
        try:
            # Authorisation, and then the limits of the principal, belong here: nothing before this line says what exists.
            if version:
                handle, reason = self.versions.acquire(endpoint, version), _NAMED
            elif endpoint in self._splits:
                handle, reason = self._drawn(endpoint, request_id)
            else:
                handle = self.versions.acquire(endpoint)
                reason = _ONLY if handle.model == endpoint else _NAMED
        except LimenError as exc:
            self.finaliser.refused(endpoint, "", protocol, exc, perf_counter() - started_at)
            raise
        return Visit(principal, handle, reason, deadline, protocol, started_at, request_id, is_retry, spine=self._spine)

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
            self.finaliser.shed(model, lane.refused_for.value)
            raise error

    def set_routes(self, endpoint: str, routes: Sequence[Route], aliases: Mapping[str, str]) -> None:
        """Say which versions share the requests of an endpoint that name none, and what versions are called."""
        if len(routes) > 1:
            self._splits[endpoint] = Split(endpoint, routes)
        else:
            self._splits.pop(endpoint, None)
        self.versions.set_aliases(endpoint, aliases)

    def keep(self, endpoints: AbstractSet[str]) -> None:
        """Forget the lanes of endpoints that are not among these: they are not served any more."""
        for gone in self.admission.lanes.keys() - endpoints:
            self.admission.forget(gone)

    def _drawn(self, endpoint: str, unit: str) -> tuple[VersionHandle, RouteReason]:
        """Return the version whose share a request falls into; the share of one that does not answer goes to the others."""
        number = self._splits[endpoint].route(unit)
        with suppress(Unavailable, NotFound):
            handle = self.versions.acquire(endpoint, number)
            if not handle.predictor.down:
                return handle, RouteReason.DRAWN
            handle.release()
        return self.versions.acquire(endpoint), RouteReason.INSTEAD
