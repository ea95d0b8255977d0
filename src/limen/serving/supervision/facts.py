"""The system's facts about processes: memory use and out-of-memory kills. Empty where there is no /proc."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

_VMSTAT = Path("/proc/vmstat")
_CGROUP = Path("/sys/fs/cgroup/memory.events")
OOM_WINDOW_S = 3.0
"""How long after such a kill the end of a process is put down to it."""


def rss_bytes(pid: int) -> int:
    """Return how much memory a process has resident; 0 when that cannot be known."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def start_of(pid: int) -> str:
    """Return what tells a process from a later one with the same id; empty when there is none or that cannot be known."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    # The name in brackets may hold anything, so count from its end; the start time is the 22nd field of all.
    return stat.rpartition(")")[2].split()[19]


def effort_of(pid: int) -> tuple[str, float] | None:
    """Return a process's state as the system calls it (`R` runs or wants to, `T` is stopped) and the seconds of CPU it has had; None when that cannot be known."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return fields[0], (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return None


def is_alive(pid: int, start: str = "") -> bool:
    """Return whether a process exists, and is the one that began at `start` where that is known."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # somebody else's, but alive
    return not start or start_of(pid) in ("", start)


def oom_kills() -> int:
    """Return how many processes the system has killed for want of memory, as far as this one can see."""
    return _count(_VMSTAT) + _count(_CGROUP)


class OomKills:
    """Knows whether the system has just killed a process for want of memory."""

    def __init__(self, count: Callable[[], int] = oom_kills) -> None:
        """Take those before now as old."""
        self._count = count
        self._known = count()
        self._at = float("-inf")

    def has_struck(self, now: float) -> bool:
        """Return whether it was within the last seconds; asked every second or so, and when a process has ended."""
        kills = self._count()
        if kills > self._known:
            self._at = now
        self._known = kills
        return now - self._at <= OOM_WINDOW_S


def _count(path: Path) -> int:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)
