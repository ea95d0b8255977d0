"""Accepts connections from a listener, one at a time and only while there is capacity.

An event loop's own server accepts whatever comes, and what the process has no file for is reset. Here callers wait in the system's
queue instead, and are let in as others leave. Used by `gateway.engine.server`.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Final

from limen.gateway.engine.listeners import keep_newcomers_out

LOG = logging.getLogger("limen.gateway")
BACKLOG: Final = 2048
"""Callers that may wait to be let in; the system may allow fewer."""
AT_ONCE: Final = 64
"""Callers that are let in before others have the loop."""


class Acceptor:
    """Lets callers of one listener in."""

    def __init__(
        self, listener: socket.socket, connect: Callable[[], asyncio.Protocol], is_full: Callable[[int], bool]
    ) -> None:
        """Prepare; `start` listens.

        Args:
            listener: bound; closed by `close`.
            connect: makes what speaks with a caller.
            is_full: whether the caller who got this descriptor is the last one for now. He is let in; `resume` goes on.
        """
        self._listener = listener
        self._connect = connect
        self._is_full = is_full
        self._loop = asyncio.get_running_loop()
        self._entering: set[asyncio.Task[object]] = set()
        self.descriptor = listener.fileno()
        """Of the listener."""
        self.is_closed = False
        self.is_paused = False
        """Whether callers wait outside."""
        self.pauses = 0
        """How often that has happened."""

    @property
    def entering(self) -> int:
        """How many have been let in and are not connected yet."""
        return len(self._entering)

    def start(self) -> None:
        """Listen."""
        self._listener.setblocking(False)
        self._listener.listen(BACKLOG)
        self._loop.add_reader(self._listener.fileno(), self._accept)

    def resume(self) -> None:
        """Let callers in again."""
        if self.is_paused and not self.is_closed:
            self.is_paused = False
            self._loop.add_reader(self._listener.fileno(), self._accept)

    async def leave(self, settle_s: float) -> None:
        """Close without losing those whom the system has let in already, when others listen on the port, too."""
        if not self.is_closed:
            keep_newcomers_out(self._listener)
            await asyncio.sleep(settle_s)
            self.close()

    def close(self) -> None:
        """Let nobody in any more. Idempotent."""
        if not self.is_closed:
            self.is_closed = True
            self._loop.remove_reader(self._listener.fileno())
            self._listener.close()

    def _accept(self) -> None:
        for _ in range(AT_ONCE):
            try:
                connection, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionAbortedError:
                continue  # the caller did not wait
            except OSError as exc:
                self._pause()
                LOG.warning("cannot accept connections for now: %s", exc.strerror or exc)
                return
            is_full = self._is_full(connection.fileno())
            entering = self._loop.create_task(self._enter(connection))
            self._entering.add(entering)
            entering.add_done_callback(self._entering.discard)
            if is_full:
                self._pause()
                return

    async def _enter(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._connect, connection)
        except OSError:  # gone already
            connection.close()

    def _pause(self) -> None:
        self.is_paused = True
        self.pauses += 1
        self._loop.remove_reader(self._listener.fileno())
