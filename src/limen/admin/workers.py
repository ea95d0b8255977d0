"""Dedicated threads for work that may take minutes, so that reads of the registry never wait for it.

There are as many as may work at once; more is refused at the door (503, with a time to come again) and not queued. Work ends with
its caller.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, TypeVar

from litestar import Request

from limen.contracts.errors import Cancelled, Reason, Unavailable
from limen.contracts.inference import Deadline
from limen.runtime.sandbox.exchange import Stop

T = TypeVar("T")
RETRY_AFTER_S: Final = 5.0


class Workers:
    """Threads for one kind of work. Used from one event loop."""

    def __init__(self, count: int, name: str, doing: str) -> None:
        """Have `count` threads called `name`; `doing` completes "too many …" for people."""
        self._count = count
        self._threads = ThreadPoolExecutor(count, thread_name_prefix=f"limen-{name}")
        self._doing = doing
        self._busy = 0

    def ensure_free(self) -> None:
        """Raise `Unavailable` (OVERLOADED) when nothing more can be taken on just now."""
        if self._busy >= self._count:
            text = f"{self._doing}: the limit is {self._count} at a time; try again in a moment"
            raise Unavailable(text, reason=Reason.OVERLOADED, retry_after_s=RETRY_AFTER_S)

    async def run(self, request: Request[Any, Any, Any], deadline: Deadline, work: Callable[[Stop], T]) -> T:
        """Return what blocking work gives; it is told to stop when the caller leaves or its time is up.

        Args:
            request: its body was read.
            deadline: when the answer is of no use any more.
            work: heeds the `Stop`, and raises `Cancelled` when it ended for it.

        Raises:
            Unavailable: OVERLOADED.
            DeadlineExceeded: the time was up.
            Cancelled: the caller left.
        """
        self.ensure_free()
        self._busy += 1
        stop = Stop()
        done = asyncio.get_running_loop().run_in_executor(self._threads, work, stop)
        # The thread counts until it has ended, whatever becomes of whoever waits for it.
        done.add_done_callback(lambda _: self._finish(stop))
        try:
            async with _stopping(request, deadline, stop):
                return await asyncio.shield(done)
        except Cancelled:
            deadline.check()
            raise

    def _finish(self, stop: Stop) -> None:
        self._busy -= 1
        stop.close()


@asynccontextmanager
async def _stopping(request: Request[Any, Any, Any], deadline: Deadline, stop: Stop) -> AsyncIterator[None]:
    """Set `stop` when the caller leaves, when its time is up, and at the end."""

    async def watch() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        stop.set()

    watching = asyncio.create_task(watch())
    timer = None
    if deadline.is_set:
        timer = asyncio.get_running_loop().call_later(max(0.0, deadline.remaining_s()), stop.set)
    try:
        yield
    finally:
        if timer is not None:
            timer.cancel()
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
        stop.set()
