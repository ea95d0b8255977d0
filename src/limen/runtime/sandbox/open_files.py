"""How many open files a process may have, has, and keeps for itself."""

from __future__ import annotations

import contextlib
import os
import resource
from pathlib import Path
from typing import Final

MAX_FILES: Final = 1 << 17
"""As many as a process asks for; some platforms slow down with more."""
OWN_FILES: Final = 30
"""What a process of a server has open itself: listeners, log, database, metrics, event loop, what it talks to."""


def raise_file_limit() -> None:
    """Let this process, and those it starts, have as many files open as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def file_limit() -> int:
    """Return how many files this process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_FILES if soft == resource.RLIM_INFINITY else min(soft, MAX_FILES)


def open_files(pid: int) -> int:
    """Return how many files a process has open; 0 where the system does not tell."""
    try:
        return sum(1 for _ in os.scandir(f"/proc/{pid}/fd"))
    except OSError:
        return 0


def limit_of(pid: int) -> int:
    """Return how many files a process may have open; 0 where the system does not tell."""
    try:
        lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
        return next(int(line.split()[3]) for line in lines if line.startswith("Max open files"))
    except (OSError, ValueError, StopIteration, IndexError):
        return 0


def spare_files(limit: int) -> int:
    """Return how many files of a gateway no caller gets: a new replica, a reconnection and a read need some at any time."""
    return 12 + limit // 32


def caller_files(limit: int) -> int:
    """Return how many files of a gateway are for its callers, at least, however many replicas there are."""
    return max(16, limit // 4)
