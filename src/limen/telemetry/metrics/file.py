"""The metrics file that one process writes and any other process can read.

    header   4096 bytes: magic, fingerprint of the table, bytes of a slot, published slots, process id, turn
    slot     a series: its labels (scope first, one a line, padded with NUL), then float64 cells; all slots have one size

A slot is written before the number of published slots says that it is there. A slot whose series is gone has no labels, and the next
new series takes it; the file grows when there is none. The turn is odd while slots change their meaning, so a reader sees that it has
to read again. A cell is eight aligned bytes and never seen half written. Numbers of one series may be one event apart.

What a slot takes on disk is taken ahead, with as many others as the file had room for, so that a disk that is filling up costs the next
series nothing; where that cannot be, it is taken when the series is made. A full disk is an error then and never a fault of the memory
later. Called by `telemetry.metrics.series` (writing) and `telemetry.metrics.totals` (reading).
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import struct
import weakref
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

import msgspec
import numpy as np
import numpy.typing as npt

from limen.telemetry.metrics.instrument import LABELS
from limen.telemetry.metrics.instruments import CELLS, FINGERPRINT, LATEST

SUFFIX: Final = ".metrics"
MAGIC: Final = b"LIMENMT2"
LABEL_BYTES: Final = 128
SLOT_BYTES: Final = LABEL_BYTES + 8 * CELLS
HEADER_BYTES: Final = 4096
FIRST_SLOTS: Final = 16
"""Room in a new file; it doubles whenever it is used up."""
_HEADER: Final = struct.Struct("=8sQQQQQ")
_PUBLISHED, _PID, _TURN = 3, 4, 5
"""Where in the header these are, in units of 8 bytes."""
_READS: Final = 8
"""How often a file is read again whose slots change meanwhile; each change takes microseconds."""
_ARITY: Final = {scope.value: 1 + len(labels) for scope, labels in LABELS.items()}

Labels = tuple[str, ...]
"""The scope of a series, then the values of its labels."""


def size_of(slots: int) -> int:
    """Return how many bytes a file with room for so many series has."""
    return HEADER_BYTES + slots * SLOT_BYTES


class MetricsFile:
    """The file of this process, open for counting."""

    def __init__(self, path: Path) -> None:
        """Go on with the file that is there if it has this layout and is whole; otherwise replace it by an empty one.

        Raises:
            BlockingIOError: another process counts in this file.
            OSError: it can be neither opened nor made.
        """
        with _reopened(path) or _created(path) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._file = os.dup(file.fileno())
        self._closed = weakref.finalize(self, os.close, self._file)
        self._words = memoryview(mmap.mmap(self._file, HEADER_BYTES)).cast("Q")
        self._firsts: list[int] = []
        self._areas: list[memoryview[int]] = []
        """Mapped once each: what was handed out of one stays where it is when the file grows."""
        self._capacity = 0
        self._map_up_to(max(FIRST_SLOTS, (os.fstat(self._file).st_size - HEADER_BYTES) // SLOT_BYTES))
        self._words[_PID] = os.getpid()
        self._words[_TURN] += self._words[_TURN] % 2  # the process before may have been killed in the middle
        found = {index: _labels(self._slot(index)) for index in range(self._words[_PUBLISHED])}
        self._slots = {labels: index for index, labels in found.items() if labels is not None}
        self._free = [index for index, labels in found.items() if labels is None]

    def cells(self, labels: Labels) -> memoryview[float] | None:
        """Return the cells of a series as float64 in shared memory, made if they are new; None if there is no room for them."""
        index = self._slots.get(labels)
        if index is None:
            text = "\n".join(labels).encode()
            try:
                index = self._taken(text) if len(text) <= LABEL_BYTES else None
            except OSError:
                index = None
            if index is None:
                return None
            self._slots[labels] = index
        return self._cells(index)

    def series(self) -> tuple[Labels, ...]:
        """Return the labels of every series."""
        return tuple(self._slots)

    def merge(self, labels: Labels, into: Labels) -> memoryview[float] | None:
        """Add what one series has counted to another, give its room to the next new one, and return the cells of the other.

        Nothing changes, and the answer is None, when there is no room for the other.
        """
        target = self.cells(into)
        if target is None:
            return None
        index = self._slots.pop(labels)
        with self._changing():
            add(self._cells(index), target, labels[0])
            self._slot(index)[:LABEL_BYTES] = bytes(LABEL_BYTES)
        self._free.append(index)
        return target

    def close(self) -> None:
        """Let another process count here. What was handed out stays usable, so close only when nobody counts any more."""
        if self._closed.alive:
            # The mapping holds the lock, too, and lives as long as the last series.
            fcntl.flock(self._file, fcntl.LOCK_UN)
            self._closed()

    def _taken(self, text: bytes) -> int:
        """Return a slot that has these labels now and has counted nothing."""
        slot = text.ljust(SLOT_BYTES, b"\0")
        if self._free:
            with self._changing():
                self._slot(self._free[-1])[:] = slot
            return self._free.pop()
        index = self._words[_PUBLISHED]
        if index >= self._capacity:
            self._map_up_to(2 * self._capacity)
        at = size_of(index)
        # Not through the mapping: a full disk would be a fault of the memory there.
        if os.pwrite(self._file, slot, at) != SLOT_BYTES:
            raise OSError("the disk is full")
        self._words[_PUBLISHED] = index + 1
        return index

    def _map_up_to(self, capacity: int) -> None:
        """Have room for that many series."""
        _extend(self._file, size_of(capacity))
        start = size_of(self._capacity)
        aligned = start - start % mmap.ALLOCATIONGRANULARITY
        area = mmap.mmap(self._file, size_of(capacity) - aligned, offset=aligned)
        self._areas.append(memoryview(area)[start - aligned :])
        self._firsts.append(self._capacity)
        self._capacity = capacity

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        self._words[_TURN] += 1
        yield
        self._words[_TURN] += 1

    def _slot(self, index: int) -> memoryview[int]:
        area = bisect_right(self._firsts, index) - 1
        start = (index - self._firsts[area]) * SLOT_BYTES
        return self._areas[area][start : start + SLOT_BYTES]

    def _cells(self, index: int) -> memoryview[float]:
        return self._slot(index)[LABEL_BYTES:].cast("d")


def add(cells: memoryview[float], to: memoryview[float], scope: str) -> None:
    """Add what one series has counted to another of the same scope."""
    latest = [(at, max(cells[at], to[at])) for at in LATEST[scope]]
    for at, number in enumerate(cells):
        to[at] += number
    for at, number in latest:
        to[at] = number


class SavedSeries(msgspec.Struct, frozen=True):
    """One series as it was read."""

    labels: Labels
    cells: npt.NDArray[np.float64]


class SavedFile(msgspec.Struct, frozen=True):
    """One file as it was read."""

    pid: int
    """The process that counts there, or did."""
    series: tuple[SavedSeries, ...]


def read_file(path: Path) -> SavedFile | None:
    """Return what a file holds now; None for one that is gone, half made, damaged or from another version of Limen."""
    saved = None
    try:
        with path.open("rb", buffering=0) as file:
            for _ in range(_READS):
                saved, is_steady = _read(file)
                if is_steady:
                    break
    except OSError:
        return None
    return saved


def _read(file: BinaryIO) -> tuple[SavedFile | None, bool]:
    """Return what a file holds, and whether no slot changed its meaning meanwhile."""
    header = _header(file)
    if header is None:
        return None, True
    published, pid, turn = header
    data = os.pread(file.fileno(), published * SLOT_BYTES, HEADER_BYTES)
    if len(data) != published * SLOT_BYTES:
        return None, True
    slots = memoryview(data)
    saved = _saved(slots[at : at + SLOT_BYTES] for at in range(0, len(data), SLOT_BYTES))
    return SavedFile(pid, tuple(saved)), turn % 2 == 0 and _header(file) == header


def _saved(slots: Iterator[memoryview[int]]) -> Iterator[SavedSeries]:
    for slot in slots:
        labels = _labels(slot)
        if labels is not None:
            yield SavedSeries(labels, np.frombuffer(slot[LABEL_BYTES:], np.float64))


def _labels(slot: memoryview[int]) -> Labels | None:
    """Return the labels of a slot; None if they make no sense."""
    try:
        labels = tuple(bytes(slot[:LABEL_BYTES]).rstrip(b"\0").decode().split("\n"))
    except UnicodeDecodeError:
        return None
    return labels if _ARITY.get(labels[0]) == len(labels) else None


def _header(file: BinaryIO) -> tuple[int, int, int] | None:
    """Return how many slots a file has published, whose it is, and its turn; None if it is not a whole file of this layout."""
    raw = os.pread(file.fileno(), _HEADER.size, 0)
    if len(raw) != _HEADER.size:
        return None
    magic, fingerprint, slot_bytes, published, pid, turn = _HEADER.unpack(raw)
    if (magic, fingerprint, slot_bytes) != (MAGIC, FINGERPRINT, SLOT_BYTES):
        return None
    if size_of(published) > os.fstat(file.fileno()).st_size:
        return None
    return published, pid, turn


def _reopened(path: Path) -> BinaryIO | None:
    try:
        file = path.open("r+b", buffering=0)
    except FileNotFoundError:
        return None
    if _header(file) is not None:
        return file
    file.close()
    return None


def _extend(file: int, size: int) -> None:
    """Make a file at least that long: with room on disk for all of it if there is any, and sparse otherwise."""
    before = os.fstat(file).st_size
    if before >= size:
        return
    with contextlib.suppress(OSError, AttributeError):  # not on every platform, and not on a full disk
        os.posix_fallocate(file, before, size - before)
        return
    os.truncate(file, size)


def _created(path: Path) -> BinaryIO:
    """Make an empty file aside and put it in its place, so that nobody sees half a header."""
    staging = path.with_name(f".{path.name}.{os.getpid()}")
    file = staging.open("w+b", buffering=0)
    try:
        _extend(file.fileno(), size_of(FIRST_SLOTS))
        if os.pwrite(file.fileno(), _HEADER.pack(MAGIC, FINGERPRINT, SLOT_BYTES, 0, os.getpid(), 0), 0) != _HEADER.size:
            raise OSError("the disk is full")
        staging.replace(path)
    except OSError:
        file.close()
        with contextlib.suppress(OSError):
            staging.unlink()
        raise
    return file
