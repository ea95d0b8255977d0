"""The file in which one process counts, and how any other process reads it.

    header   4096 bytes: magic, fingerprint of the table, bytes of a slot, published slots, process id
    slot     a series: its labels (scope first, one a line, padded with NUL), then float64 cells; all slots have one size

Slots are only ever added. A slot is written before the number of published slots says that it is there, so a reader never sees half a
series; a cell is eight aligned bytes and is never seen half written either. Numbers of one series may be one event apart.

The file is sparse, and what a slot takes on disk is taken when the series is made: a full disk is an error then and never a fault of
the memory later. Called by `telemetry.metrics` (writing) and `telemetry.totals` (reading).
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import struct
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

import msgspec
import numpy as np
import numpy.typing as npt

from limen.telemetry.instruments import CELLS, FINGERPRINT, LABELS

SUFFIX: Final = ".metrics"
MAGIC: Final = b"LIMENMET"
MAX_SERIES: Final = 1024
LABEL_BYTES: Final = 128
SLOT_BYTES: Final = LABEL_BYTES + 8 * CELLS
HEADER_BYTES: Final = 4096
FILE_BYTES: Final = HEADER_BYTES + MAX_SERIES * SLOT_BYTES
_HEADER: Final = struct.Struct("=8sQQQQ")
_PUBLISHED, _PID = 3, 4
"""Where in the header these are, in units of 8 bytes."""
_ARITY: Final = {scope.value: 1 + len(labels) for scope, labels in LABELS.items()}

Labels = tuple[str, ...]
"""The scope of a series, then the values of its labels."""


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
            self._map = mmap.mmap(file.fileno(), FILE_BYTES)
            self._file = os.dup(file.fileno())
        self._closed = weakref.finalize(self, os.close, self._file)
        self._words = memoryview(self._map)[:HEADER_BYTES].cast("Q")
        self._words[_PID] = os.getpid()
        published = self._words[_PUBLISHED]
        self._slots = {labels: i for i in range(published) if (labels := _labels(self._slot(i))) is not None}

    def cells(self, labels: Labels) -> memoryview[float] | None:
        """Return the cells of a series as float64 in shared memory, made if they are new; None if there is no room for them."""
        index = self._slots.get(labels)
        if index is None:
            index = self._words[_PUBLISHED]
            text = "\n".join(labels).encode()
            if index >= MAX_SERIES or len(text) > LABEL_BYTES or not self._reserve(index, text):
                return None
            self._words[_PUBLISHED] = index + 1
            self._slots[labels] = index
        return self._slot(index)[LABEL_BYTES:].cast("d")

    def close(self) -> None:
        """Let another process count here. What was handed out stays usable, so close only when nobody counts any more."""
        if self._closed.alive:
            # The mapping holds the lock, too, and lives as long as the last series.
            fcntl.flock(self._file, fcntl.LOCK_UN)
            self._closed()

    def _slot(self, index: int) -> memoryview[int]:
        start = HEADER_BYTES + index * SLOT_BYTES
        return memoryview(self._map)[start : start + SLOT_BYTES]

    def _reserve(self, index: int, text: bytes) -> bool:
        slot = text.ljust(SLOT_BYTES, b"\0")
        try:
            return os.pwrite(self._file, slot, HEADER_BYTES + index * SLOT_BYTES) == SLOT_BYTES
        except OSError:
            return False


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
    try:
        with path.open("rb") as file:
            header = _header(file)
            if header is None:
                return None
            published, pid = header
            file.seek(HEADER_BYTES)
            data = file.read(published * SLOT_BYTES)
    except OSError:
        return None
    if len(data) != published * SLOT_BYTES:
        return None
    slots = memoryview(data)
    return SavedFile(pid, tuple(_saved(slots[at : at + SLOT_BYTES] for at in range(0, len(data), SLOT_BYTES))))


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


def _header(file: BinaryIO) -> tuple[int, int] | None:
    """Return how many slots a file has published and whose it is; None if it is not a whole file of this layout."""
    raw = file.read(_HEADER.size)
    if len(raw) != _HEADER.size or os.fstat(file.fileno()).st_size != FILE_BYTES:
        return None
    magic, fingerprint, slot_bytes, published, pid = _HEADER.unpack(raw)
    if (magic, fingerprint, slot_bytes) != (MAGIC, FINGERPRINT, SLOT_BYTES) or published > MAX_SERIES:
        return None
    return published, pid


def _reopened(path: Path) -> BinaryIO | None:
    try:
        file = path.open("r+b", buffering=0)
    except FileNotFoundError:
        return None
    if _header(file) is not None:
        return file
    file.close()
    return None


def _created(path: Path) -> BinaryIO:
    """Make an empty file aside and put it in its place, so that nobody sees half a header."""
    staging = path.with_name(f".{path.name}.{os.getpid()}")
    file = staging.open("w+b", buffering=0)
    try:
        os.truncate(file.fileno(), FILE_BYTES)
        os.pwrite(file.fileno(), _HEADER.pack(MAGIC, FINGERPRINT, SLOT_BYTES, 0, os.getpid()), 0)
        staging.replace(path)
    except OSError:
        file.close()
        with contextlib.suppress(OSError):
            staging.unlink()
        raise
    return file
