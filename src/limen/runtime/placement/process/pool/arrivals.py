"""Requests waiting for a replica of a version, and their error if none arrives. Used by `pool`."""

from __future__ import annotations

import asyncio
from typing import Final

from limen.contracts.errors import Unavailable
from limen.runtime.outage import outage

LATE: Final = "no replica of the model answers"


class Arrivals:
    """Waits for a first replica, as long as there may be one soon."""

    def __init__(self) -> None:
        """Start with nobody waiting."""
        self._waiting: list[asyncio.Future[None]] = []

    async def wait(self, timeout_s: float) -> None:
        """Return when there is something new, or the time is up."""
        arrival: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(arrival)
        try:
            await asyncio.wait((arrival,), timeout=max(0.0, timeout_s))
        finally:
            self._waiting.remove(arrival)

    def tell(self) -> None:
        """Have everybody who waits look again."""
        for arrival in self._waiting:
            if not arrival.done():
                arrival.set_result(None)


def absence(*, is_down: bool, is_late: bool = False) -> Unavailable:
    """Return what a request is told that no replica can take.

    Args:
        is_down: whether none can be started.
        is_late: whether it has waited for one.
    """
    if is_down:
        return outage()
    return Unavailable(LATE, retry_after_s=1.0) if is_late else Unavailable()
