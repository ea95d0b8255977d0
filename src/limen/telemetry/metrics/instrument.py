"""The definition of one metric: name, kind, scope and labels. The metrics themselves are in `telemetry.metrics.instruments`."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec


class Scope(StrEnum):
    """What one series of a metric belongs to."""

    GATEWAY = "gateway"
    """A version, as asked for over one protocol."""
    RUNTIME = "runtime"
    """A version, however it was asked for."""
    PROCESS = "process"
    """The process that counts."""
    OBSERVED = "observed"
    """Nothing that is counted here: whoever makes the text knows the numbers."""


class Kind(StrEnum):
    """How the numbers of a metric behave, by Prometheus' names."""

    COUNTER = "counter"
    """Only grows."""
    GAUGE = "gauge"
    """Goes up and down."""
    HISTOGRAM = "histogram"
    """Counts by size."""


LABELS: Final = {
    Scope.GATEWAY: ("endpoint", "version", "protocol"),
    Scope.RUNTIME: ("endpoint", "version"),
    Scope.PROCESS: (),
    Scope.OBSERVED: (),
}
RETIRED: Final = "retired"
"""The version of the series that takes in what the versions of an endpoint have counted that are no longer served."""
OTHER: Final = "other"
"""Where a reason is counted that the table does not know."""


class Instrument(msgspec.Struct, frozen=True, kw_only=True):
    """One metric."""

    name: str
    kind: Kind
    scope: Scope
    help: str
    """What one sample says, in a sentence."""
    own_labels: tuple[str, ...] = ()
    """Labels besides those of the scope. A metric that is counted here has at most one."""
    values: tuple[str, ...] = ()
    """The values of its own label; each has a cell."""
    bounds: tuple[float, ...] = ()
    """Bucket bounds of a histogram."""
    is_latest: bool = False
    """Whether several processes together have the largest of their numbers, instead of the sum."""

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels, in the order of the samples."""
        return (*LABELS[self.scope], *self.own_labels)

    @property
    def cells(self) -> int:
        """How many float64 cells one series takes: the buckets and the sum of a histogram, otherwise one for each value."""
        return len(self.bounds) + 2 if self.bounds else max(1, len(self.values))
