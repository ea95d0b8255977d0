"""Reaping: the first process of a container inherits orphaned processes and must collect their exit statuses.

On Linux the supervisor asks for them (`runtime.sandbox.forking`), because its replicas are forked by others. Elsewhere only the first process
of a container gets them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from limen.serving.supervision.facts import effort_of

REAP_S: Final = 0.5
_TASKS: Final = Path("/proc/self/task")


def may_inherit() -> bool:
    """Return whether this process inherits orphans."""
    return sys.platform == "linux" or os.getpid() == 1


async def reap_always(own: Callable[[], set[int]]) -> None:
    """Take note of the ends of orphans until cancelled.

    Args:
        own: the processes whose ends somebody else takes note of. So does the event loop of its own children, within a moment; whatever
            has ended and is still there at the next look is an orphan.
    """
    seen: set[int] = set()
    while True:
        seen = reap(seen, own())
        await asyncio.sleep(REAP_S)


def reap(seen: set[int], own: set[int]) -> set[int]:
    """Take note of the end of what had ended at the last look already, and return what has ended since."""
    if not _has_ended_child():
        return set()
    ended = {pid for pid in _children() - own if (effort_of(pid) or ("",))[0] == "Z"}
    for pid in ended & seen:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
    return ended - seen


def _has_ended_child() -> bool:
    """Whether there is anything to look for: asking costs less than looking at every child."""
    try:
        return os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return False


def _children() -> set[int]:
    found: set[int] = set()
    for path in _TASKS.glob("*/children"):
        with contextlib.suppress(OSError):
            found |= {int(pid) for pid in path.read_text().split()}
    return found
