"""Unused memory of a process: kept while it works, returned to the system when it is idle.

Giving each large buffer back to the system when it is freed costs a page fault per 4 KiB when it is next needed, which is most of the time
that a large request takes. Keeping everything for good lets one burst decide how large a process is. glibc only; elsewhere nothing happens.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
_PAD_BYTES: Final = 64 << 20
_LEFT_BYTES: Final = 16 << 20
"""What stays on the heap when memory is given back."""
BURST_BYTES: Final = 64 << 20
"""By how much a process has to have grown since the last time that it gave memory back."""
QUIET_S: Final = 2.0
"""How long a process has to be quiet before it gives memory back."""


def keep_buffers(memory_mb: int | None = None) -> None:
    """Keep what is freed on the heap, large buffers too, in a process that may have so many mebibytes."""
    # What the heap grows by counts against the limit before it is used.
    pad = _PAD_BYTES if memory_mb is None else min(_PAD_BYTES, (memory_mb << 20) // 32)
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        for option, value in ((_TRIM_THRESHOLD, 1 << 30), (_TOP_PAD, pad), (_MMAP_THRESHOLD, 32 << 20)):
            libc.mallopt(option, value)


def trim() -> None:
    """Give all free memory back but a little. Not quick when it is much: 0.1 ms for each MiB."""
    with contextlib.suppress(OSError, AttributeError):
        _trim_of()(_LEFT_BYTES)


def resident_bytes() -> int:
    """Return how much memory this process has resident; 0 where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


class Bursts:
    """Notices that a burst is over and its memory is still here."""

    def __init__(self, resident: Callable[[], int] = resident_bytes) -> None:
        """Take the size of now as that of a process that has had no burst."""
        self._resident = resident
        self._floor = resident()
        self._quiet_s = 0.0

    def are_over(self, passed_s: float, *, is_busy: bool) -> bool:
        """Return whether memory should be given back now; `settle` follows when that is done.

        Args:
            passed_s: seconds since the last time this was asked.
            is_busy: whether there was anything large in work meanwhile.
        """
        self._quiet_s = 0.0 if is_busy else self._quiet_s + passed_s
        if self._quiet_s < QUIET_S:
            return False
        self._quiet_s = 0.0
        size = self._resident()
        self._floor = min(self._floor, size)
        return size - self._floor > BURST_BYTES

    def settle(self) -> None:
        """Take what is left as needed: nothing is given back again until the process has grown by another burst."""
        self._floor = self._resident()


def _trim_of() -> Any:
    found = ctypes.CDLL(None).malloc_trim
    found.argtypes = [ctypes.c_size_t]
    return found
