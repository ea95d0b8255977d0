"""One loaded version, and the lease that every request takes on it. Created by `runtime.versions.manager`."""

from __future__ import annotations

import asyncio
from typing import Any, Self

from limen.contracts.contract import Contract
from limen.contracts.validation.records import RecordCodec
from limen.contracts.validation.tensors import ContractCheck
from limen.contracts.validation.wire_form import wire_form
from limen.packaging.archive.package import Package
from limen.runtime.outage import outage
from limen.runtime.predictor import Predictor
from limen.runtime.versions.fallback import compile_fallback
from limen.telemetry.metrics.series import RuntimeSeries

COUNT_EVERY = 16
"""Answers given at once that are counted together."""


class VersionHandle:
    """One loaded version, shared by the requests that hold a lease on it.

    The lease is a count and not an object, because the hot path pays for it twice a request.
    """

    __slots__ = (
        "check",
        "contract",
        "counts",
        "deadline_s",
        "fallback",
        "idle",
        "lane",
        "leases",
        "model",
        "now_rows",
        "now_runs",
        "now_seconds",
        "package",
        "predictor",
        "records",
        "series",
        "version",
        "wire",
    )

    def __init__(
        self, model: str, version: str, package: Package, predictor: Predictor, counts: RuntimeSeries | None = None
    ) -> None:
        """Compile the contract's validators and the declared fallback for this version; what happens to it goes to `counts`."""
        self.model = model
        self.version = version
        self.package = package
        self.contract: Contract = package.manifest.contract
        self.check = ContractCheck(self.contract)
        self.wire = wire_form(self.contract, self.check)
        self.records = RecordCodec(self.contract)
        self.predictor = predictor
        self.counts = counts
        self.deadline_s = _deadline_of(self.contract)
        self.fallback = compile_fallback(package.manifest)
        self.series: dict[str, Any] = {}
        """Where its requests are counted, by protocol; filled and used by the data plane."""
        self.lane: Any = None
        """Its endpoint's lane; filled and used by the data plane."""
        self.leases = 0
        self.idle: asyncio.Event | None = None
        self.now_runs = self.now_rows = 0
        """Answers given at once that `counts` does not have yet: counting each by itself costs a tenth of such an answer."""
        self.now_seconds = 0.0
        """How long the first of them took."""

    def adapt(self, package: Package) -> None:
        """Take over what an endpoint says otherwise about limits and time."""
        self.package = package
        self.contract = package.manifest.contract
        self.deadline_s = _deadline_of(self.contract)
        # Looked up anew, with the new bounds, by the next request that has to wait.
        self.lane = None

    def ensure_up(self) -> None:
        """Refuse a request at once when nothing of the version can answer.

        Raises:
            Unavailable: with the seconds after which a retry is worth it.
        """
        if self.predictor.down:
            raise outage()

    def count_runs(self) -> None:
        """Let `counts` have the answers that were given at once."""
        if self.now_runs and self.counts is not None:
            self.counts.ran_alike(self.now_runs, self.now_rows, self.now_seconds)
        self.now_runs = self.now_rows = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Give one lease back."""
        self.leases -= 1
        if self.idle is not None:
            self.wake()

    def wake(self) -> None:
        """Tell who waits for the last lease."""
        if self.leases == 0 and self.idle is not None:
            self.idle.set()


def _deadline_of(contract: Contract) -> float | None:
    """Return the seconds that a request has that says nothing about time."""
    declared = contract.slo.deadline_ms
    return None if declared is None else declared / 1000
