"""Limits repeated log lines: the same line once a minute, and a maximum of lines a minute per place in the code.

A fault that lasts is met again with every connection, request or second. Said each time it fills the disk and hides what else happens.
What was left out is counted, and told by the next line of its kind.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

WINDOW_S: Final = 60.0
"""How long the same line is not written again."""
LINES_PER_PLACE: Final = 20
"""Lines that one place in the code may write in that time, when they differ in a name or a number."""
EVENTS: Final = "limen.events"
"""What becomes of versions: each line is a fact of its own, and all of them are written."""
MAX_REMEMBERED: Final = 2048
"""Lines and places that are remembered; when there are more, the log begins to forget those that are old."""


@dataclass(slots=True)
class _Seen:
    since: float
    count: int = 0
    left_out: int = 0


class Repeats(logging.Filter):
    """Leaves out what the log has said already. Used from any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with nothing said; `clock` gives seconds that never go back."""
        super().__init__()
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: dict[object, _Seen] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to write a record; one that follows others which were not written tells how many."""
        if record.name == EVENTS:
            return True
        now = self._clock()
        kind = record.exc_info[0] if record.exc_info else None
        line = record.name, record.levelno, record.getMessage(), kind
        place = record.name, record.levelno, record.pathname, record.lineno
        with self._lock:
            left_out = self._left_out(line, now, 1)
            if left_out is None:
                return False
            others = self._left_out(place, now, LINES_PER_PLACE)
            if others is None:
                return False
        if left_out:
            record.msg, record.args = f"{record.getMessage()} (repeated {left_out}× before)", None
        elif others:
            record.msg, record.args = f"{record.getMessage()} (and {others} similar lines before)", None
        return True

    def _left_out(self, key: object, now: float, most: int) -> int | None:
        """Count what is said; return how much of it was left out in the window before, or None when there is too much in this one."""
        seen = self._seen.get(key)
        if seen is None or now - seen.since >= WINDOW_S:
            if len(self._seen) >= MAX_REMEMBERED:
                self._forget(now)
            self._seen[key] = _Seen(now, 1)
            return seen.left_out if seen is not None else 0
        if seen.count >= most:
            seen.left_out += 1
            return None
        seen.count += 1
        return 0

    def _forget(self, now: float) -> None:
        """Forget what is older than the window, and everything when that is not enough."""
        self._seen = {key: seen for key, seen in self._seen.items() if now - seen.since < WINDOW_S}
        if len(self._seen) >= MAX_REMEMBERED:
            self._seen.clear()
