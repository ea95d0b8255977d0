"""Time limits on request bodies: a caller that sends slowly, or stops, cannot hold a connection indefinitely."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from litestar.exceptions import HTTPException
from litestar.types import HTTPReceiveMessage, Receive

IDLE_S: Final = 20.0
"""The longest pause between two pieces of a body."""
GRACE_S: Final = 30.0
"""How long a body of any size may take."""
MIN_BYTES_PER_S: Final = 32 << 10
"""How fast a larger one has to come."""


def paced(receive: Receive, *, idle_s: float = IDLE_S, grace_s: float = GRACE_S) -> Receive:
    """Return a `receive` that gives up on a body which comes too slowly.

    It raises `HTTPException` 408 then. When the body is whole, it waits for as long as it takes.
    """
    begun = time.monotonic()
    size = 0
    is_whole = False

    async def received() -> HTTPReceiveMessage:
        nonlocal size, is_whole
        if is_whole:
            return await receive()  # type: ignore[return-value]  # there are no websockets here
        until = begun + grace_s + size / MIN_BYTES_PER_S
        try:
            async with asyncio.timeout(min(idle_s, until - time.monotonic())):
                message = await receive()
        except TimeoutError:
            raise HTTPException(status_code=408) from None
        if message["type"] != "http.request":
            is_whole = True
        else:
            size += len(message.get("body", b""))
            is_whole = not message.get("more_body", False)
        return message  # type: ignore[return-value]

    return received
