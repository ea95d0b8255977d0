"""The HTTP server: listening, time limits of all connections, and stopping without losing a request."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

from limen.gateway.engine.acceptor import Acceptor
from limen.gateway.engine.config import HttpLimits
from limen.gateway.engine.connection import Connection
from limen.gateway.engine.connection_quota import FileMark
from limen.gateway.engine.errors import Refused
from limen.gateway.engine.heads import KnownHeads
from limen.gateway.engine.held_bytes import HeldBytes
from limen.gateway.engine.listeners import SETTLE_S
from limen.gateway.engine.phase import Phase
from limen.gateway.engine.state import ServerState
from limen.telemetry.metrics.instruments import ENDS

if TYPE_CHECKING:
    from limen.gateway.engine.application import Application

SWEEP_S = 1.0
"""How often connections are looked at. One timer for all is free; one timer each costs every request."""
LAST_ASK_S = 0.5
"""How long a connection that is idle when the server stops is kept, so that a request that is on its way is answered."""
LAST_WORD_S = 0.5
"""How long a stream that is ended by a stopping server may take to say so."""
PATIENCE_S = 1.0
"""How long the head of a request, or a pause in its body, may take while others wait to be let in."""
MAKES_WAY = 32
"""Connections that are closed at a time to let others in."""


class HttpServer:
    """Serves one application on one listening socket."""

    def __init__(
        self, application: Application, limits: HttpLimits | None = None, held: HeldBytes | None = None
    ) -> None:
        """Prepare to serve; `start` listens. `held` counts the bytes of all servers of this process."""
        limits = limits or HttpLimits()
        held = held or HeldBytes(limits.most_held)
        self.state = ServerState(application, limits, held)
        self.connections: set[Connection] = set()
        self.ended = dict.fromkeys(ENDS, 0)
        """How many connections were ended by the server, by why."""
        self._mark = FileMark()
        self._sweeper: asyncio.TimerHandle | None = None
        self._acceptor: Acceptor | None = None
        self._tick()

    async def start(self, listener: socket.socket) -> None:
        """Accept connections on a bound socket."""
        self._acceptor = Acceptor(
            listener, lambda: Connection(self.state, self.connections.add, self._left), self._is_full
        )
        self._acceptor.start()

    def follow(self, limits: HttpLimits) -> None:
        """Switch to other limits, which open connections obey, too."""
        self.state.limits = limits
        self.state.held.most = limits.most_held
        # The remembered heads were accepted under the limits before.
        self.state.known_heads = KnownHeads()

    @property
    def pauses(self) -> int:
        """How often callers have had to wait outside."""
        return self._acceptor.pauses if self._acceptor is not None else 0

    async def stop(self) -> None:
        """Stop accepting, let requests in hand finish within the drain time, and close every connection.

        Whoever is connected may ask once more: the answer says that the connection closes. A stream that has not ended by then ends with an error inside it.
        """
        self.state.is_draining = True
        if self._acceptor is not None:
            await self._acceptor.leave(min(SETTLE_S, self.state.limits.drain_s))
        end = self.state.loop.time() + min(LAST_ASK_S, self.state.limits.drain_s)
        while self.connections and self.state.loop.time() < end:  # noqa: ASYNC110  once in a server's life
            await asyncio.sleep(0.01)
        for connection in list(self.connections):
            connection.finish()
        end = self.state.loop.time() + self.state.limits.drain_s
        while any(c.is_busy for c in self.connections) and self.state.loop.time() < end:  # noqa: ASYNC110  once in a server's life
            await asyncio.sleep(0.01)
        told = [connection for connection in list(self.connections) if connection.break_off()]
        end = self.state.loop.time() + LAST_WORD_S
        while any(c.is_busy for c in told if c in self.connections) and self.state.loop.time() < end:  # noqa: ASYNC110  as above
            await asyncio.sleep(0.01)
        for connection in list(self.connections):
            connection.time_out(None) if connection.is_busy else connection.finish()
        if self._sweeper is not None:
            self._sweeper.cancel()
        # One turn of the loop lets the transports report that they are closed.
        await asyncio.sleep(0)

    def _left(self, connection: Connection) -> None:
        """Take note that a connection is gone, and let somebody else in."""
        self.connections.discard(connection)
        if self._acceptor is not None and self._acceptor.is_paused:
            # Its file is closed by then.
            self.state.loop.call_soon(self._let_in)

    def _is_full(self, descriptor: int) -> bool:
        """Return whether the caller who has just come, with that descriptor, is the last one for now."""
        entering = self._acceptor.entering if self._acceptor is not None else 0
        self.state.is_crowded = (
            self._mark.is_reached(descriptor)
            or len(self.connections) + entering + 1 >= self.state.limits.max_connections
        )
        if self.state.is_crowded:
            self._make_room(1)
        return self.state.is_crowded

    def _let_in(self) -> None:
        """Let callers in again, if there is room."""
        acceptor = self._acceptor
        if acceptor is None or acceptor.is_closed or not acceptor.is_paused:
            return
        are_few = len(self.connections) + acceptor.entering < self.state.limits.max_connections
        if are_few and self._mark.has_room(acceptor.descriptor):
            self.state.is_crowded = False
            acceptor.resume()

    def _make_room(self, count: int) -> None:
        """Close what does least: whoever has asked nothing for longest, then whoever takes long to ask."""
        idle = [
            c
            for c in self.connections
            if not c.is_busy and c.phase is Phase.IDLE and c.since + SWEEP_S <= self.state.clock
        ]
        idle.sort(key=lambda connection: connection.since)
        for connection in idle[:count]:
            self._end(connection, "crowded")
        late = [c for c in self.connections if c.phase in {Phase.HEAD, Phase.BODY} and c.is_reading]
        late = [c for c in late if c.since + PATIENCE_S <= self.state.clock][: max(0, count - len(idle))]
        for connection in late:
            self._end(
                connection, "slow", Refused(408, "TIMEOUT", "the request took too long while others were waiting")
            )

    def _end(self, connection: Connection, why: str, refused: Refused | None = None, *, at_once: bool = False) -> None:
        self.ended[why] += 1
        if refused is None and not at_once:
            connection.finish()
        else:
            connection.time_out(refused)

    def _sweep(self, connection: Connection) -> None:
        """End a connection that has waited too long."""
        now, limits = self.state.clock, self.state.limits
        waited = now - connection.since
        connection.look_for_end()
        if connection.paused_at:
            allowed = limits.write_idle_timeout_s + connection.drained_bytes / limits.min_body_bytes_per_s
            if now - connection.paused_at > allowed:
                self._end(connection, "slow", at_once=True)
        elif connection.phase in {Phase.HEAD, Phase.BODY} and not connection.is_reading:
            connection.since = connection.body_since = now
        elif connection.phase is Phase.HEAD:
            if waited > limits.header_timeout_s:
                self._end(connection, "slow", Refused(408, "TIMEOUT", "the request head took too long to arrive"))
        elif connection.phase is Phase.BODY:
            allowed = limits.body_idle_timeout_s + connection.body_bytes / limits.min_body_bytes_per_s
            allowed = min(allowed, limits.body_timeout_s)
            if waited > limits.body_idle_timeout_s or now - connection.body_since > allowed:
                self._end(connection, "slow", Refused(408, "TIMEOUT", "the request body took too long to arrive"))
        elif connection.phase is Phase.CLOSING:
            if waited > (0 if self.state.is_crowded else 2 * SWEEP_S):
                connection.finish()
        elif not connection.is_busy and waited > limits.keep_alive_s:
            self._end(connection, "idle")

    def _tick(self) -> None:
        """Advance the coarse clock and end connections that waited too long."""
        self.state.tick()
        # First of all, so that whatever happens below the next look comes.
        self._sweeper = self.state.loop.call_later(SWEEP_S, self._tick)
        for connection in list(self.connections):
            self._sweep(connection)
        acceptor = self._acceptor
        if acceptor is None or acceptor.is_closed:
            return
        if acceptor.is_paused or not self._mark.has_room(acceptor.descriptor):
            # Models may have taken what callers left.
            self._make_room(MAKES_WAY)
            self._let_in()
