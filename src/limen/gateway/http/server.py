"""The HTTP server: listening, the clock of all connections, and stopping without losing a request."""

from __future__ import annotations

import asyncio
import socket
from email.utils import formatdate
from typing import TYPE_CHECKING

from limen.gateway.connections import connection_limit
from limen.gateway.http.config import HttpLimits
from limen.gateway.http.connection import Connection
from limen.gateway.http.errors import Refused
from limen.gateway.http.heads import KnownHeads
from limen.gateway.http.phase import Phase

if TYPE_CHECKING:
    from limen.gateway.http.application import Application

SWEEP_S = 1.0
"""How often connections are looked at. One timer for all is free; one timer each costs every request."""
LAST_WORD_S = 0.5
"""How long a stream that is ended by a stopping server may take to say so."""


class HttpServer:
    """Serves one application on one listening socket."""

    def __init__(self, application: Application, limits: HttpLimits | None = None) -> None:
        """Prepare to serve; `start` listens."""
        self.application = application
        self.limits = limits or HttpLimits()
        self.connections: set[Connection] = set()
        self.known_heads = KnownHeads()
        self.is_draining = False
        self.max_connections = connection_limit()
        self.loop = asyncio.get_running_loop()
        self.clock = self.loop.time()
        self.common_head = b""
        self._sweeper: asyncio.TimerHandle | None = None
        self._server: asyncio.Server | None = None
        self._tick()

    async def start(self, listener: socket.socket) -> None:
        """Accept connections on a bound socket."""
        self._server = await self.loop.create_server(lambda: Connection(self), sock=listener, backlog=2048)

    async def stop(self) -> None:
        """Stop accepting, let requests in hand finish within the drain time, and close every connection.

        A stream that has not ended by then ends with an error inside it.
        """
        self.is_draining = True
        if self._server is not None:
            self._server.close()
        for connection in list(self.connections):
            connection.finish()
        end = self.loop.time() + self.limits.drain_s
        while any(c.is_busy for c in self.connections) and self.loop.time() < end:  # noqa: ASYNC110  once in a server's life
            await asyncio.sleep(0.01)
        told = [connection for connection in list(self.connections) if connection.break_off()]
        end = self.loop.time() + LAST_WORD_S
        while any(c.is_busy for c in told if c in self.connections) and self.loop.time() < end:  # noqa: ASYNC110  as above
            await asyncio.sleep(0.01)
        for connection in list(self.connections):
            connection.time_out(None) if connection.is_busy else connection.finish()
        if self._sweeper is not None:
            self._sweeper.cancel()
        # One turn of the loop lets the transports report that they are closed.
        await asyncio.sleep(0)

    def make_room(self) -> bool:
        """Return whether there is room for one more connection; the one that has been idle longest makes way for it."""
        if len(self.connections) < self.max_connections:
            return True
        idle = [c for c in self.connections if not c.is_busy and c.phase is Phase.IDLE]
        if not idle:
            return False
        min(idle, key=lambda connection: connection.since).finish()
        return True

    def _tick(self) -> None:
        """Advance the coarse clock and end connections that waited too long."""
        self.clock = now = self.loop.time()
        self.common_head = f"date: {formatdate(usegmt=True)}\r\nx-content-type-options: nosniff\r\n".encode()
        # First of all, so that whatever happens below the next look comes.
        self._sweeper = self.loop.call_later(SWEEP_S, self._tick)
        limits = self.limits
        for connection in list(self.connections):
            waited = now - connection.since
            connection.look_for_end()
            if connection.paused_at:
                allowed = limits.write_idle_timeout_s + connection.drained_bytes / limits.min_body_bytes_per_s
                if now - connection.paused_at > allowed:
                    connection.time_out(None)
            elif connection.phase in {Phase.HEAD, Phase.BODY} and not connection.is_reading:
                connection.since = connection.body_since = now
            elif connection.phase is Phase.HEAD:
                if waited > limits.header_timeout_s:
                    connection.time_out(Refused(408, "TIMEOUT", "the request's head took too long"))
            elif connection.phase is Phase.BODY:
                allowed = limits.body_idle_timeout_s + connection.body_bytes / limits.min_body_bytes_per_s
                if waited > limits.body_idle_timeout_s or now - connection.body_since > allowed:
                    connection.time_out(Refused(408, "TIMEOUT", "the request's body took too long"))
            elif connection.phase is Phase.CLOSING:
                if waited > 2 * SWEEP_S:
                    connection.finish()
            elif not connection.is_busy and waited > limits.keep_alive_s:
                connection.finish()
