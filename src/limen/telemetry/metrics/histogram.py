"""Histograms with fixed buckets: their bounds, and estimates from bucket counts.

Not here: counting, which `telemetry.metrics.series` does in place. A bucket holds what is above the bound before it and at most its own;
one more bucket than there are bounds takes everything above the last.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Final

import msgspec

_MANTISSAS: Final = (
    *("1", "1.12", "1.25", "1.4", "1.6", "1.8", "2", "2.24", "2.5", "2.8"),
    *("3.15", "3.55", "4", "4.5", "5", "5.6", "6.3", "7.1", "8", "9"),
)
"""The preferred numbers of ISO 3, R20: each a good eighth above the one before, and with 1, 2 and 5 among them."""
_SHOWN: Final = frozenset({"1", "1.4", "2", "2.8", "4", "5", "7.1"})
_LOWEST, _HIGHEST = 1e-5, 63.0

SECONDS: Final[tuple[float, ...]] = tuple(
    bound for power in range(-5, 2) for m in _MANTISSAS if (bound := float(f"{m}e{power}")) <= _HIGHEST
)
"""Bounds of every histogram of times, from 10 µs to 63 s, about 12 % apart (six to seven for a factor of 2)."""
SHOWN_SECONDS: Final = frozenset(
    bound for power in range(-5, 2) for m in _SHOWN if (bound := float(f"{m}e{power}")) <= _HIGHEST
)
"""Those of `SECONDS` that Prometheus is told: about a factor of √2 apart, and every 1, 2 and 5, where objectives like to be."""
ROWS: Final = tuple(1 << power for power in range(17))
"""Bounds of every histogram of rows: powers of 2 up to 65,536."""


class Histogram(msgspec.Struct, frozen=True):
    """What was counted in the buckets of one histogram."""

    bounds: tuple[float, ...]
    """Upper ends of the buckets, ascending; the last bucket has none."""
    counts: tuple[int, ...]
    """How many numbers fell into each bucket, one more than there are bounds."""
    sum: float
    """All numbers added up."""

    @property
    def count(self) -> int:
        """How many numbers were counted."""
        return sum(self.counts)

    @property
    def mean(self) -> float | None:
        """The mean, which is exact; None when nothing was counted."""
        return self.sum / self.count if self.count else None

    def percentile(self, q: float) -> float | None:
        """Return the number below which a share `q` (0 to 1) of all numbers lies, as `percentile` does."""
        return percentile(self.bounds, self.counts, q)

    def plus(self, other: Histogram) -> Histogram:
        """Return both together; they have the same bounds."""
        counts = tuple(a + b for a, b in zip(self.counts, other.counts, strict=True))
        return Histogram(self.bounds, counts, self.sum + other.sum)


def empty(bounds: Sequence[float]) -> Histogram:
    """Return a histogram that has counted nothing."""
    return Histogram(tuple(bounds), (0,) * (len(bounds) + 1), 0.0)


def percentile(bounds: Sequence[float], counts: Sequence[int], q: float) -> float | None:
    """Return the number below which a share `q` (0 to 1) lies: in the right bucket, and within it by linear interpolation.

    None when nothing was counted. What lies above the last bound is taken to be there.
    """
    total = sum(counts)
    if not total:
        return None
    # The smallest number that has the share at or below it, so at least the first.
    rank = min(max(q * total, 1.0), float(total))
    for i, upto in enumerate(accumulate(counts)):
        if upto >= rank and counts[i]:
            if i == len(bounds):
                break
            low = bounds[i - 1] if i else 0.0
            return low + (bounds[i] - low) * (rank - (upto - counts[i])) / counts[i]
    return float(bounds[-1])


def cumulative(histogram: Histogram, shown: frozenset[float] | None = None) -> list[tuple[float, int]]:
    """Return (bound, how many at most that) for the bounds that are shown, the last of them infinity."""
    pairs = zip((*histogram.bounds, math.inf), accumulate(histogram.counts), strict=True)
    return [(bound, n) for bound, n in pairs if shown is None or bound in shown or bound == math.inf]
