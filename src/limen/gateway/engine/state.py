"""What all connections of one HTTP server share: the application, limits, the clock, remembered heads and held bytes."""

from __future__ import annotations

import asyncio
from email.utils import formatdate
from typing import TYPE_CHECKING

from limen.gateway.engine.config import HttpLimits
from limen.gateway.engine.heads import KnownHeads
from limen.gateway.engine.held_bytes import HeldBytes

if TYPE_CHECKING:
    from limen.gateway.engine.application import Application


class ServerState:
    """Changed by the server; read by its connections."""

    __slots__ = (
        "application", "clock", "common_head", "held", "is_crowded", "is_draining", "known_heads", "limits", "loop",
    )  # fmt: skip

    def __init__(self, application: Application, limits: HttpLimits, held: HeldBytes) -> None:
        """Start the clock."""
        self.application = application
        self.limits = limits
        self.held = held
        self.known_heads = KnownHeads()
        self.is_draining = False
        self.is_crowded = False
        """Whether callers wait for a connection: then every connection closes after its current answer."""
        self.loop = asyncio.get_running_loop()
        self.tick()

    def tick(self) -> None:
        """Advance the coarse clock, and the header lines that depend on it."""
        self.clock = self.loop.time()
        self.common_head = f"date: {formatdate(usegmt=True)}\r\nx-content-type-options: nosniff\r\n".encode()
