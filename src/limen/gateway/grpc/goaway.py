"""Tells clients of a stopping gRPC server to reconnect elsewhere while it still answers. Used by `server`.

Neither engine can do this. Both refuse or cut off calls that arrive before a client has heard that the server stops: a few with each stop
under load. HTTP/2 has the frame for it: GOAWAY with the highest stream number means "begin nothing more here, everything you have begun is
answered". It is written to the connections beside the engine, which never learns of it.
"""

from __future__ import annotations

import contextlib
import fcntl
import socket
import struct
import termios
import time
from typing import Final

from limen.gateway.engine.listeners import sockets_at

GOAWAY: Final = struct.pack(">I", 8)[1:] + b"\x07\x00" + struct.pack(">III", 0, (1 << 31) - 1, 0)
"""On stream 0: the last stream that is answered is the last possible one, and there is no error."""
GREETING_S: Final = 0.03
"""How long a new connection has for its greeting, which comes before every other frame."""

Peer = tuple[object, ...]


class Farewell:
    """Which clients have been told."""

    def __init__(self, port: int) -> None:
        """Prepare to tell those who are connected to a port of this process."""
        self._port = port
        self._seen: dict[Peer, float] = {}
        self._told: set[Peer] = set()
        self._first: set[Peer] | None = None
        self.is_known_left = False
        """Whether some of those who were connected at the first look are still there at the last one."""
        self.is_newcomer_left = False
        """Whether somebody is there who came later."""

    def tell(self) -> None:
        """Look who is connected, and tell who has not been told."""
        now = time.monotonic()
        connected: set[Peer] = set()
        for connection in sockets_at(self._port, are_listening=False):
            with contextlib.suppress(OSError):
                peer = connection.getpeername()
                connected.add(peer)
                since = self._seen.setdefault(peer, now)
                if peer not in self._told and now - since >= GREETING_S and _is_between_frames(connection):
                    connection.send(GOAWAY, socket.MSG_DONTWAIT)
                    self._told.add(peer)
        self._seen = {peer: since for peer, since in self._seen.items() if peer in connected}
        self._told &= connected
        if self._first is None:
            self._first = connected
        self.is_known_left = not self._first.isdisjoint(connected)
        self.is_newcomer_left = not connected <= self._first


def _is_between_frames(connection: socket.socket) -> bool:
    """Whether all that the engine has written is on its way: it may be in the middle of a frame only while it waits for room."""
    try:
        (waiting,) = struct.unpack("i", fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4)))
    except OSError:
        return True
    return not waiting
