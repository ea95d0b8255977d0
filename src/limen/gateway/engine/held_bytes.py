"""Counts and limits the bytes of requests and answers that a gateway holds, across all protocols.

What is small always fits, so that callers with large bodies cannot keep everybody else out.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final

from limen.contracts.errors import Reason, ResourceExhausted

SMALL: Final = 64 << 10
"""Bytes up to which a body is not counted: so much may come in one piece on any connection."""


class HeldBytes:
    """Counts bytes. Used from one event loop."""

    __slots__ = ("most", "now", "peak", "refused")

    def __init__(self, most: int) -> None:
        """Hold nothing yet, and at most that many."""
        self.most = most
        self.now = 0
        self.peak = 0
        """The most there have been since `take_peak`."""
        self.refused = 0
        """Bodies there was no room for."""

    def fits(self, size: int) -> bool:
        """Whether there is room for so many more; one there is none for is counted as refused."""
        if size <= SMALL or self.now + size <= self.most:
            return True
        self.refused += 1
        return False

    def take(self, size: int) -> None:
        """Hold so many more."""
        self.now += size
        self.peak = max(self.peak, self.now)

    def give(self, size: int) -> None:
        """Hold so many less."""
        self.now -= size

    @contextlib.contextmanager
    def holding(self, size: int) -> Iterator[None]:
        """Hold the bytes of a whole message while it is answered.

        Raises:
            ResourceExhausted: there is no room for them.
        """
        if size <= SMALL:
            yield
            return
        if not self.fits(size):
            text = "the server is processing too many large requests; try again later"
            raise ResourceExhausted(text, reason=Reason.OVERLOADED, retry_after_s=1.0)
        self.take(size)
        try:
            yield
        finally:
            self.give(size)

    def take_peak(self) -> int:
        """Return the most there have been since the last time this was asked."""
        peak, self.peak = self.peak, self.now
        return peak
