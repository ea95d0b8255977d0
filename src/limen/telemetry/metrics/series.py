"""Counting: a process's request metrics, as float64 cells in shared memory that any process can read.

Get a series once and keep it; counting in it is a few array assignments, without a lock, a look-up or an object. Each `Metrics` is used
by one thread at a time. What the numbers are called stands in `telemetry.metrics.instruments`; who reads them is `telemetry.metrics.totals`.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Final

from limen.contracts.errors import ErrorCode
from limen.telemetry.metrics import instruments as table
from limen.telemetry.metrics.file import Labels, MetricsFile, add
from limen.telemetry.metrics.histogram import ROWS, SECONDS
from limen.telemetry.metrics.instrument import OTHER, RETIRED, Instrument, Scope
from limen.telemetry.metrics.instruments import CELLS, GAUGES, offset

LINGER_S: Final = 300.0
"""How long a version that is no longer served keeps its series: one that comes back soon goes on counting where it was."""


def _cell_of(instrument: Instrument) -> Mapping[str, int]:
    """Return the cell of each value of an instrument's own label."""
    return {value: offset(instrument) + i for i, value in enumerate(instrument.values)}


def _cell(instrument: Instrument, value: str) -> int:
    """Return the cell of a value of an instrument's own label, or its only cell."""
    values = instrument.values
    return offset(instrument) + (values.index(value) if value in values else max(0, len(values) - 1))


def _sum_of(instrument: Instrument) -> int:
    """Return the cell of a histogram's sum."""
    return offset(instrument) + instrument.cells - 1


# A name of the module costs less than an attribute of anything.
_REQUEST: Final = offset(table.REQUEST_SECONDS)
_REQUEST_SUM: Final = _sum_of(table.REQUEST_SECONDS)
_OUTCOME: Final = _cell_of(table.REQUESTS)
_OK: Final = _OUTCOME[table.OK]
_UNKNOWN_CODE: Final = _OUTCOME[ErrorCode.INTERNAL.value]
_FAILED_SECONDS: Final = offset(table.FAILED_SECONDS)
_ANSWERED_ROWS: Final = offset(table.ANSWERED_ROWS)
_QUEUE: Final = offset(table.QUEUE_SECONDS)
_QUEUE_SUM: Final = _sum_of(table.QUEUE_SECONDS)
_ROWS: Final = offset(table.BATCH_ROWS)
_ROWS_SUM: Final = _sum_of(table.BATCH_ROWS)
_RUN: Final = offset(table.BATCH_SECONDS)
_RUN_SUM: Final = _sum_of(table.BATCH_SECONDS)
_RELEASE: Final = _cell_of(table.BATCHES)
_OTHER_RELEASE: Final = _RELEASE[OTHER]
_RUN_REQUESTS: Final = offset(table.RUN_REQUESTS)
_REQUEST_RUN_SECONDS: Final = offset(table.REQUEST_RUN_SECONDS)
_SIZE_SECONDS: Final = offset(table.SIZE_SECONDS)
_LAST_RUN: Final = offset(table.LAST_RUN)
_MODEL_FAILURES: Final = offset(table.MODEL_FAILURES)
_FALLBACKS: Final = offset(table.FALLBACKS)
_SHED: Final = _cell_of(table.SHED)
_OTHER_SHED: Final = _SHED[OTHER]
_CANCELLED: Final = offset(table.CANCELLED)
_CONNECTIONS: Final = offset(table.CONNECTIONS)
_IN_FLIGHT: Final = offset(table.IN_FLIGHT)
_DROPPED_LINES: Final = offset(table.DROPPED_LINES)
_LOST_SERIES: Final = offset(table.LOST_SERIES)


class _Counted:
    """What counts one series."""

    __slots__ = ("_cells",)

    def __init__(self, cells: memoryview[float]) -> None:
        """Count in these cells."""
        self._cells = cells

    def move(self, cells: memoryview[float]) -> None:
        """Count elsewhere from now on."""
        self._cells = cells

    def bring(self, cells: memoryview[float], scope: str) -> None:
        """Count elsewhere from now on, and take along what was counted so far."""
        add(self._cells, cells, scope)
        self._cells = cells


class Series(_Counted):
    """The requests for one version over one protocol."""

    __slots__ = ()

    def answered(self, seconds: float, rows: int) -> None:
        """Count a request that was answered, how long that took, and its rows."""
        cells = self._cells
        cells[_OK] += 1.0
        cells[_ANSWERED_ROWS] += rows
        cells[_REQUEST + bisect_left(SECONDS, seconds)] += 1.0
        cells[_REQUEST_SUM] += seconds

    @property
    def count(self) -> int:
        """How many requests were counted, whatever came of them."""
        return int(sum(self._cells[_OK : _OK + len(table.OUTCOMES)]))

    def failed(self, code: str, seconds: float) -> None:
        """Count a request that ended in an error of that `ErrorCode`, and how long that took."""
        cells = self._cells
        cells[_OUTCOME.get(code, _UNKNOWN_CODE)] += 1.0
        cells[_FAILED_SECONDS] += seconds


class RuntimeSeries(_Counted):
    """What happens to the requests for one version between the data plane and the model. A `runtime.batching.in_flight.Observer`."""

    __slots__ = ()

    def batch(self, reason: str, rows: int, requests: int, oldest_age_s: float) -> None:
        """Count a batch that has left: why it left, and how long its oldest request had waited.

        What it holds is counted when it has run.
        """
        cells = self._cells
        cells[_RELEASE.get(reason, _OTHER_RELEASE)] += 1.0
        cells[_QUEUE + bisect_left(SECONDS, oldest_age_s)] += 1.0
        cells[_QUEUE_SUM] += oldest_age_s

    def ran(self, rows: int, seconds: float, requests: int = 1) -> None:
        """Count a run of the model: its rows, how long it took, and how many requests were part of it."""
        cells = self._cells
        size = bisect_left(ROWS, rows)
        cells[_ROWS + size] += 1.0
        cells[_ROWS_SUM] += rows
        cells[_RUN + bisect_left(SECONDS, seconds)] += 1.0
        cells[_RUN_SUM] += seconds
        cells[_SIZE_SECONDS + size] += seconds
        cells[_RUN_REQUESTS] += requests
        cells[_REQUEST_RUN_SECONDS] += requests * seconds
        cells[_LAST_RUN] = time.time()

    def ran_alike(self, runs: int, rows: int, seconds: float) -> None:
        """Count runs of one request each: how many, their rows together, and how long one of them took."""
        cells = self._cells
        size = bisect_left(ROWS, rows / runs)
        cells[_ROWS + size] += runs
        cells[_ROWS_SUM] += rows
        cells[_RUN + bisect_left(SECONDS, seconds)] += runs
        cells[_RUN_SUM] += runs * seconds
        cells[_SIZE_SECONDS + size] += runs * seconds
        cells[_RUN_REQUESTS] += runs
        cells[_REQUEST_RUN_SECONDS] += runs * seconds
        cells[_LAST_RUN] = time.time()

    def model_failure(self) -> None:
        """Count a run that failed."""
        self._cells[_MODEL_FAILURES] += 1.0

    def fallback(self) -> None:
        """Count a request that the declared fallback answers."""
        self._cells[_FALLBACKS] += 1.0

    def shed(self, reason: str) -> None:
        """Count a request that was refused before it waited."""
        self._cells[_SHED.get(reason, _OTHER_SHED)] += 1.0

    def cancelled(self) -> None:
        """Count a request whose caller has left."""
        self._cells[_CANCELLED] += 1.0


class ProcessSeries(_Counted):
    """The process itself."""

    __slots__ = ("_told",)

    def __init__(self, cells: memoryview[float]) -> None:
        """Count in these cells."""
        super().__init__(cells)
        self._told: dict[int, float] = {}

    def bring(self, cells: memoryview[float], scope: str) -> None:
        """Count elsewhere from now on. What an earlier process had open there is closed."""
        super().bring(cells, scope)
        self.clear()

    def observe(self, *, connections: int, in_flight: int, dropped_lines: int) -> None:
        """Note how things stand; call it every second or so.

        Args:
            connections: open now, over HTTP.
            in_flight: requests in hand now.
            dropped_lines: log lines lost since this process began.
        """
        cells = self._cells
        cells[_CONNECTIONS] = connections
        cells[_IN_FLIGHT] = in_flight
        self._raise(_DROPPED_LINES, dropped_lines)

    def note(self, instrument: Instrument, number: float, value: str = "") -> None:
        """Note how much there is of something now; `value` is that of its own label."""
        self._cells[_cell(instrument, value)] = number

    def grow(self, instrument: Instrument, total: float, value: str = "") -> None:
        """Note how much there has been of something since this process began; a value that the table does not know is another."""
        self._raise(_cell(instrument, value), total)

    def _raise(self, cell: int, total: float) -> None:
        self._cells[cell] += total - self._told.get(cell, 0)
        self._told[cell] = total

    def lost_series(self, count: int) -> None:
        """Note how many series cannot be seen for now."""
        self._cells[_LOST_SERIES] = count

    def clear(self) -> None:
        """Set to 0 what is only true while the process lives."""
        for cell in GAUGES:
            self._cells[cell] = 0.0


class Metrics:
    """Everything this process counts."""

    def __init__(self, path: Path | None = None) -> None:
        """Count in a file, going on from what it says already; in private memory when None.

        Args:
            path: the file, with the suffix `metrics_file.SUFFIX` so that readers of its folder find it. This process alone writes it.

        Raises:
            BlockingIOError: another process counts in this file.
            OSError: the file cannot be used.
        """
        self._path = path
        self._file = None if path is None else MetricsFile(path)
        self._series: dict[Labels, Series] = {}
        self._runtime: dict[Labels, RuntimeSeries] = {}
        self._unseen: dict[Labels, _Counted] = {}
        """Those that count in private memory until the disk has room for them."""
        self._left: dict[Labels, float] = {}
        """Since when each series belongs to a version that is not served."""
        self.process = ProcessSeries(_private())
        self._show((Scope.PROCESS.value,), self.process)

    def series(self, endpoint: str, version: str, protocol: str) -> Series:
        """Return where requests for a version over a protocol are counted, always the same object while the version is served.

        Names come from what is served and never from a caller; both are empty for requests that reach nothing.
        """
        labels = (Scope.GATEWAY.value, endpoint, version, protocol)
        found = self._series.get(labels)
        if found is None:
            found = self._series[labels] = Series(_private())
            self._show(labels, found)
        return found

    def runtime(self, endpoint: str, version: str) -> RuntimeSeries:
        """Return where the batches and runs of a version are counted, always the same object while the version is served."""
        labels = (Scope.RUNTIME.value, endpoint, version)
        found = self._runtime.get(labels)
        if found is None:
            found = self._runtime[labels] = RuntimeSeries(_private())
            self._show(labels, found)
        return found

    @property
    def is_shared(self) -> bool:
        """Whether this process counts where others can read it: in a file that is still there."""
        return self._path is not None and self._path.exists()

    def share(self, path: Path) -> None:
        """Count in a file from now on, and bring along what was counted before: without a file, or in one that was lost.

        Raises:
            OSError: as at the beginning; then everything stays as it was.
        """
        before, self._file, self._path = self._file, MetricsFile(path), path
        own: dict[Labels, _Counted] = {(Scope.PROCESS.value,): self.process, **self._series, **self._runtime}
        if before is not None:
            left = ((labels, before.cells(labels)) for labels in before.series() if labels not in own)
            own |= {labels: _Counted(cells) for labels, cells in left if cells is not None}
        for labels, counted in own.items():
            self._show(labels, counted)

    def requests(self) -> dict[tuple[str, str], int]:
        """Return how many requests each version of an endpoint has had, whether or not others can see that."""
        found: dict[tuple[str, str], int] = {}
        for (_, endpoint, version, *_), series in self._series.items():
            found[endpoint, version] = found.get((endpoint, version), 0) + series.count
        return found

    def keep(self, served: AbstractSet[tuple[str, str]], now: float) -> None:
        """Keep series for these versions of endpoints, and give back what others have taken; call it every second or so.

        What a version has counted that is no longer served goes to the series `RETIRED` of its endpoint, or of no endpoint when that is
        gone as well: sums over versions stay what they were. A late request is counted there, too.
        """
        for labels, hidden in tuple(self._unseen.items()):
            self._show(labels, hidden)
        endpoints = {endpoint for endpoint, _ in served} | {""}
        known = (*self._series, *self._runtime) if self._file is None else self._file.series()
        gone = [labels for labels in known if _is_gone(labels, served, endpoints)]
        self._left = {labels: self._left.get(labels, now) for labels in gone}
        for labels in gone:
            if now - self._left[labels] >= LINGER_S:
                self._retire(labels, labels[1] if labels[1] in endpoints else "")

    def close(self) -> None:
        """Say that this process has nothing open, and let another one count in the file; count nothing afterwards."""
        self.process.clear()
        if self._file is not None:
            self._file.close()

    def _retire(self, labels: Labels, endpoint: str) -> None:
        into = (labels[0], endpoint, RETIRED, *labels[3:])
        cells = _private() if self._file is None else self._file.merge(labels, into)
        if cells is not None:
            counted = self._series.pop(labels, None) or self._runtime.pop(labels, None)
            if counted is not None:
                counted.move(cells)

    def _show(self, labels: Labels, counted: _Counted) -> None:
        """Have a series count where others can see it, if there is room; otherwise serving goes on, and this is tried again."""
        cells = self._cells(labels)
        if cells is not None:
            counted.bring(cells, labels[0])
            self._unseen.pop(labels, None)
        else:
            self._unseen[labels] = counted
        self.process.lost_series(len(self._unseen))

    def _cells(self, labels: Labels) -> memoryview[float] | None:
        return _private() if self._file is None else self._file.cells(labels)


def _is_gone(labels: Labels, served: AbstractSet[tuple[str, str]], endpoints: AbstractSet[str]) -> bool:
    """Whether a series belongs to a version that is not served; what belongs to an endpoint as a whole stays with it."""
    if len(labels) < 3:
        return False
    endpoint, version = labels[1:3]
    return endpoint not in endpoints if version in ("", RETIRED) else (endpoint, version) not in served


def _private() -> memoryview[float]:
    """Return cells that nobody else sees."""
    return memoryview(bytearray(8 * CELLS)).cast("d")
