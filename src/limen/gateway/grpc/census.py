"""The connections of the gRPC listener as the system sees them: how many there are, and which of them nobody uses.

Neither engine tells. grpcio ends silent connections itself and in order, by its settings; here that is noticed and counted. The native
engine keeps them for good; here they are closed. Linux only; elsewhere there is nothing to see. Used by `gateway.grpc.server`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from limen.gateway.grpc.config import GrpcConfig
from limen.telemetry.metrics.instruments import ENDS

LOOK_S: Final = 2.0
"""How often the connections are looked at."""
GONE_S: Final = 60.0
"""How long what was sent may stay unconfirmed before the peer is taken for gone."""
_FILES: Final = "/proc/self/fd"
_PREFACE_BYTES: Final = 24
"""What a caller sends first of all if it speaks HTTP/2."""
_TCP_INFO: Final = struct.Struct("=24xI16x4x4xII68xQ")
"""Of Linux's `tcp_info`: packets that are not confirmed; milliseconds since data came, and since anything was confirmed; bytes that came."""
_INFO_BYTES: Final = 136


@dataclass(slots=True)
class _Connection:
    """One connection at the last look."""

    since: float
    silent_s: float = 0.0
    received: int = 0
    unheard_s: float = 0.0
    """How long something that was sent is not confirmed."""
    why: str = ""
    """Why it was closed here."""


class Census:
    """Counts the connections of one port, and closes those that nobody uses if the engine does not."""

    def __init__(self, config: GrpcConfig, port: int, *, closes: bool) -> None:
        """Prepare to look at connections to `port`; `closes` says whether to end those that are idle, silent or gone."""
        self._config = config
        self._port = port
        self._closes = closes
        self._known: dict[int, _Connection] = {}
        """By inode."""
        self._others: set[int] = set()
        """Sockets that are something else."""
        self.ended = dict.fromkeys(ENDS, 0)
        """How many connections were ended by this side, by why."""

    @property
    def open(self) -> int:
        """How many connections there were at the last look."""
        return len(self._known)

    async def look_always(self) -> None:
        """Look again and again, beside the event loop, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            await asyncio.to_thread(self.look, time.monotonic())

    def look(self, now: float) -> None:
        """Look at every connection once."""
        before, found = self._known, dict[int, _Connection]()
        others: set[int] = set()
        for descriptor, inode in _sockets():
            if inode in self._others:
                others.add(inode)
                continue
            with contextlib.suppress(OSError), _held(descriptor, inode) as connection:
                if inode not in before and not self._is_ours(connection):
                    others.add(inode)
                    continue
                found[inode] = self._seen(connection, before.get(inode) or _Connection(now), now)
        self._others = others
        for inode in before.keys() - found.keys():
            self._count(before[inode], now)
        # Whoever reads meanwhile gets the last look, whole.
        self._known = found

    def _is_ours(self, connection: socket.socket) -> bool:
        if connection.family not in (socket.AF_INET, socket.AF_INET6):
            return False
        # Also of a listener, which has no peer.
        return bool(connection.getsockname()[1] == self._port and connection.getpeername())

    def _seen(self, connection: socket.socket, known: _Connection, now: float) -> _Connection:
        known.unheard_s, known.silent_s, known.received = _facts(connection)
        if self._closes and not known.why:
            known.why = "gone" if known.unheard_s > GONE_S else self._verdict(known, now, 0.0)
            if known.why:
                connection.shutdown(socket.SHUT_RDWR)
        return known

    def _verdict(self, known: _Connection, now: float, early_s: float) -> str:
        """Return why a connection should end, or would have by `early_s` seconds from now."""
        if known.received < _PREFACE_BYTES:
            return "slow" if now - known.since > self._config.handshake_timeout_s - early_s else ""
        return "idle" if known.silent_s > self._config.max_connection_idle_s - early_s else ""

    def _count(self, known: _Connection, now: float) -> None:
        """Count the end of a connection, unless it was the caller's doing."""
        why = known.why
        if not why and not self._closes:
            # What the engine does is seen afterwards only.
            known.silent_s += LOOK_S
            is_gone = known.unheard_s > self._config.keepalive_timeout_s / 2
            why = "gone" if is_gone else self._verdict(known, now, LOOK_S)
        if why:
            self.ended[why] += 1


def _sockets() -> Iterator[tuple[int, int]]:
    """Yield the descriptor and inode of every socket of this process."""
    with contextlib.suppress(OSError), os.scandir(_FILES) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                facts = entry.stat()
                if stat.S_ISSOCK(facts.st_mode):
                    yield int(entry.name), facts.st_ino


@contextlib.contextmanager
def _held(descriptor: int, inode: int) -> Iterator[socket.socket]:
    """Give a socket that stays the same whatever its owner does meanwhile.

    Raises:
        OSError: it is gone.
    """
    own = os.dup(descriptor)
    try:
        if os.fstat(own).st_ino != inode:
            raise OSError
        connection = socket.socket(fileno=own)
    except BaseException:
        os.close(own)
        raise
    with connection:
        yield connection


def _facts(connection: socket.socket) -> tuple[float, float, int]:
    """Return for how many seconds something is not confirmed and no data has come, and the bytes that came."""
    data = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
    unconfirmed, came, confirmed, received = _TCP_INFO.unpack(data)
    return confirmed / 1000 if unconfirmed else 0.0, came / 1000, received
