"""Counts calls in flight, so that a stopping server knows when the last answer is sent."""

from __future__ import annotations

import asyncio

from limen.contracts.errors import Unavailable


class Calls:
    """Counts running calls; once closing, refuses further ones. Shared by the services of one server, used in one event loop."""

    __slots__ = ("_idle", "is_closing", "is_leaving", "running")

    def __init__(self) -> None:
        """Start with no call."""
        self.running = 0
        self.is_leaving = False
        """Whether the server is not ready any more; what comes all the same is answered."""
        self.is_closing = False
        """Whether it is refused."""
        self._idle = asyncio.Event()

    def begin(self) -> None:
        """Count a call; `end` must follow."""
        self.running += 1

    def end(self) -> None:
        """Count a call as answered."""
        self.running -= 1
        if self.is_closing and not self.running:
            self._idle.set()

    def check_open(self) -> None:
        """Raise `Unavailable` when no further call is to be answered."""
        if self.is_closing:
            raise Unavailable("the server is stopping")

    def leave(self) -> None:
        """Be ready no more."""
        self.is_leaving = True

    def close(self) -> None:
        """Refuse further calls."""
        self.is_leaving = self.is_closing = True

    async def idle(self, timeout_s: float) -> None:
        """Return when the calls that ran at `close` are answered or the time is up."""
        if self.running:
            try:
                async with asyncio.timeout(timeout_s):
                    await self._idle.wait()
            except TimeoutError:
                return
