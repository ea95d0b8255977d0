"""Reaping: the first process of a container inherits every process whose parent has ended, and has to take note of their ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path
from typing import Final

from limen.serving.supervision.facts import effort_of

REAP_S: Final = 0.5
_TASKS: Final = Path("/proc/self/task")


def is_first() -> bool:
    """Return whether this process inherits orphans."""
    return os.getpid() == 1


async def reap_always() -> None:
    """Take note of the ends of orphans until cancelled.

    The event loop takes note of its own children within a moment. So whatever has ended and is still there at the next look is an orphan.
    """
    seen: set[int] = set()
    while True:
        seen = reap(seen)
        await asyncio.sleep(REAP_S)


def reap(seen: set[int]) -> set[int]:
    """Take note of the end of what had ended at the last look already, and return what has ended since."""
    ended = {pid for pid in _children() if (effort_of(pid) or ("",))[0] == "Z"}
    for pid in ended & seen:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
    return ended - seen


def _children() -> set[int]:
    found: set[int] = set()
    for path in _TASKS.glob("*/children"):
        with contextlib.suppress(OSError):
            found |= {int(pid) for pid in path.read_text().split()}
    return found
