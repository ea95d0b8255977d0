"""A clock that moves only when a test moves it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

START: Final = datetime(2026, 3, 1, 12, 30, 15, 123456, tzinfo=UTC)
"""The time of day at which a new clock stands."""


class FakeClock:
    """Gives seconds as `time.monotonic` does (`clock()`), and the time of day (`clock.utc()`); both move together."""

    def __init__(self, start_s: float = 0.0, utc: datetime = START) -> None:
        """Stand at `start_s` seconds and at `utc`, which needs a zone."""
        self._start_s = self.now_s = start_s
        self._utc = utc

    def __call__(self) -> float:
        """Return the seconds."""
        return self.now_s

    def utc(self) -> datetime:
        """Return the time of day, with its zone."""
        return self._utc + timedelta(seconds=self.now_s - self._start_s)

    def advance(self, seconds: float) -> None:
        """Move forward. A monotonic clock cannot go back: a negative number is a `ValueError`."""
        if seconds < 0:
            raise ValueError("a clock cannot go back")
        self.now_s += seconds
