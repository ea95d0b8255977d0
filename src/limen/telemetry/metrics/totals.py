"""Totals over all processes, read from the folder of their metrics files.

Reading takes no lock and disturbs nobody. Called when metrics are asked for: by `telemetry.metrics.exposition`, `telemetry.metrics.statistics`, and
whoever judges a version by its numbers.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from limen.telemetry.metrics.file import SUFFIX, Labels, SavedFile, read_file
from limen.telemetry.metrics.histogram import Histogram
from limen.telemetry.metrics.instrument import Instrument, Scope
from limen.telemetry.metrics.instruments import CELLS, GAUGES, LATEST, OK, offset


class Totals:
    """Sums over processes. What was never counted is 0."""

    def __init__(self) -> None:
        """Start with nothing."""
        self._cells: dict[Labels, npt.NDArray[np.float64]] = {}
        self.files = 0
        """How many processes are in these sums."""

    def add(self, saved: SavedFile) -> None:
        """Add what one process has counted. What it had open counts only while it lives."""
        self.files += 1
        is_gone = not _is_alive(saved.pid)
        for series in saved.series:
            scope = series.labels[0]
            cells = series.cells.copy()
            if is_gone and scope == Scope.PROCESS:
                cells[list(GAUGES)] = 0.0
            self._add(series.labels, cells)

    def renamed(self, rename: Callable[[Labels], Labels]) -> Totals:
        """Return the same numbers under other labels; those that get the same ones are put together.

        Args:
            rename: takes the labels of a series, its scope first, and gives others of the same scope.
        """
        found = Totals()
        found.files = self.files
        for labels, cells in self._cells.items():
            found._add(rename(labels), cells.copy())
        return found

    def series(self, scope: Scope) -> list[Labels]:
        """Return the label values of every series of a scope, sorted."""
        return sorted(labels[1:] for labels in self._cells if labels[0] == scope.value)

    def number(self, instrument: Instrument, labels: Labels = (), value: str = "") -> float:
        """Return a counter or gauge of a series; `value` names the cell of one that has a label of its own."""
        at = offset(instrument) + (instrument.values.index(value) if value else 0)
        return float(self._of(instrument, labels)[at])

    def numbers(self, instrument: Instrument, labels: Labels = ()) -> dict[str, float]:
        """Return a counter by the values of its own label."""
        first = offset(instrument)
        cells = self._of(instrument, labels)[first : first + instrument.cells].tolist()
        return dict(zip(instrument.values, cells, strict=True))

    def table(self, scope: Scope) -> npt.NDArray[np.float64]:
        """Return the cells of a scope, a row for each of its `series`."""
        rows = [self._cells[scope.value, *labels] for labels in self.series(scope)]
        return np.stack(rows) if rows else np.empty((0, CELLS))

    def histogram(self, instrument: Instrument, labels: Labels = ()) -> Histogram:
        """Return a histogram of a series."""
        first = offset(instrument)
        *counts, total = self._of(instrument, labels)[first : first + instrument.cells].tolist()
        return Histogram(instrument.bounds, tuple(int(n) for n in counts), total)

    def _add(self, labels: Labels, cells: npt.NDArray[np.float64]) -> None:
        """Add numbers, which are changed, to a series."""
        known = self._cells.get(labels)
        if known is not None:
            latest = list(LATEST[labels[0]])
            newest = np.maximum(known[latest], cells[latest])
            cells += known
            cells[latest] = newest
        self._cells[labels] = cells

    def _of(self, instrument: Instrument, labels: Labels) -> npt.NDArray[np.float64]:
        found = self._cells.get((instrument.scope.value, *labels))
        return np.zeros(CELLS) if found is None else found


def read_folder(folder: Path) -> Totals:
    """Return the sums over all files of a folder; what is no whole file of this version of Limen is skipped."""
    totals = Totals()
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        saved = read_file(path)
        if saved is not None:
            totals.add(saved)
    return totals


def errors(outcomes: Mapping[str, float]) -> dict[str, int]:
    """Return the outcomes that are errors and that there were."""
    return {code: int(n) for code, n in outcomes.items() if n and code != OK}


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # somebody else's, but alive
        return True
    return True
