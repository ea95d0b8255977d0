"""Handles large bodies outside the event loop: one thread per gateway, so they use at most one core.

The loop and the thread take turns at the interpreter's lock, so what runs here must consist of short steps: a call into C that takes
long keeps the loop waiting as if it were made there. `contracts.strict.pieces` sees to that for JSON.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from limen.gateway.engine.message import Handler

T = TypeVar("T")
H = TypeVar("H", bound=Callable[..., Any])


class Aside:
    """One thread that works on large bodies and answers in the order in which they come."""

    def __init__(self) -> None:
        """Begin without a thread; the first work starts it."""
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="limen-large")

    async def run(self, work: Callable[[], T]) -> T:
        """Return or raise what the work comes to. Whoever stops waiting before it has begun takes it back."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)


def takes_large(handler: H) -> H:
    """Mark a handler that reads large bodies aside; the others are given none."""
    found: Any = handler
    found.takes_large = True
    return handler


def does_take_large(handler: Handler) -> bool:
    """Return whether a handler is marked so."""
    return getattr(handler, "takes_large", False)
