"""How many open files the processes of a server need, and how many replicas a limit leaves room for.

All processes of a server have the same limit (`ulimit -n`, raised as far as the system allows when it starts). What one more replica
takes: three files of the supervisor and one of each gateway. What one more caller takes: one file of a gateway.
"""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from limen.serving.fleet.records import Version

MAX_FILES: Final = 1 << 17
"""As many as a process asks for; some platforms slow down with more."""
OWN_FILES: Final = 30
"""What a process of a server has open itself: listeners, log, database, metrics, event loop, what it talks to."""
FILES_PER_CHILD: Final = 3
"""What the supervisor has open for each of its processes."""
SUCCESSORS: Final = 2
"""Replicas for which there is room only when they follow others, so that a full server can still be brought another version."""


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


class Room(NamedTuple):
    """What one server has room for."""

    limit: int = MAX_FILES
    """Files that each of its processes may have open."""
    gateways: int = 1

    @property
    def replicas(self) -> int:
        """How many replicas there may be."""
        in_gateway = self.limit - OWN_FILES - spare_files(self.limit) - caller_files(self.limit)
        # Control, and each gateway with the one that takes its place.
        in_supervisor = (self.limit - OWN_FILES) // FILES_PER_CHILD - 1 - 2 * self.gateways
        return max(0, min(in_gateway, in_supervisor))

    def lacks(self, wanted: int, versions: Iterable[Version], *, is_successor: bool) -> str:
        """Return why so many replicas cannot be started on top of what there is; empty when they can.

        Args:
            wanted: how many more.
            versions: all of the server.
            is_successor: whether they are to take the place of others.
        """
        most = self.replicas - (0 if is_successor else min(SUCCESSORS, self.replicas // 4))
        there = sum(len(version.replicas) for version in versions)
        if there + wanted <= most:
            return ""
        return (
            f"there is no room for it: each process of this server may have {self.limit} files open (ulimit -n), "
            f"which is enough for {self.replicas} replicas; raise the limit, or serve fewer endpoints or replicas"
        )

    def started(self, version: Version, starts: Sequence[str], versions: Iterable[Version]) -> Sequence[str]:
        """Return which of the replicas that a version in use should get may be started; the version says why not all."""
        if not starts or not (text := self.lacks(len(starts), versions, is_successor=any(starts))):
            return starts
        version.block = text
        return ()


AMPLE: Final = Room()
"""For a server whose limit nobody meets."""
