"""The connections of the gRPC listener as the system sees them: their number, their traffic, and which are idle.

Neither engine tells. grpcio ends silent connections itself and in order, by its settings; here that is noticed and counted. The native
engine keeps them for good; here they are closed. Both take messages without an end or a limit over all; here the connections with the most
of it are closed. Linux only; elsewhere there is nothing to see. Used by `gateway.grpc.server`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from limen.gateway.engine.connection_quota import grpc_connections
from limen.gateway.engine.held_bytes import SMALL
from limen.gateway.engine.listeners import INTERNET, own_sockets
from limen.gateway.grpc.arrivals import ELSEWHERE, Arrivals, Peer, plain
from limen.gateway.grpc.config import GrpcConfig
from limen.telemetry.metrics.instruments import ENDS

LOG = logging.getLogger("limen.gateway")
LOOK_S: Final = 2.0
"""How often the connections are looked at."""
SOON_S: Final = 0.1
"""The same while large messages are arriving."""
GONE_S: Final = 60.0
"""How long what was sent may stay unconfirmed before the peer is taken for gone."""
TALK_BYTES_PER_S: Final = 8 << 10
"""What a connection may receive besides messages: pings, confirmations."""
TALK_SHARE: Final = 64
"""The same for one that is sent much: it confirms that, with one byte for so many."""
_PREFACE_BYTES: Final = 24
"""What a caller sends first of all if it speaks HTTP/2."""
_TCP_INFO: Final = struct.Struct("=24xI16x4x4xII60xQQ")
"""Of Linux's `tcp_info`: packets that are not confirmed; milliseconds since data came, and since anything was confirmed; bytes that were
confirmed, and that came."""
_INFO_BYTES: Final = 136


class _Facts(NamedTuple):
    """What the system says of a connection."""

    unheard_s: float
    """How long something that was sent is not confirmed."""
    silent_s: float
    """How long nothing has come."""
    sent: int
    received: int


_UNSEEN: Final = _Facts(0.0, 0.0, 0, 0)


@dataclass(slots=True)
class _Connection:
    """One connection at the last look."""

    since: float
    peer: Peer = ELSEWHERE
    facts: _Facts = _UNSEEN
    seen_at: float = 0.0
    arriving: int = 0
    """Bytes of messages that are not whole."""
    whole_at: float = 0.0
    """When a message became whole, or nothing large was arriving."""
    why: str = ""
    """Why it was closed here."""


class Census:
    """Counts the connections of one port, and closes those that nobody uses if the engine does not."""

    def __init__(self, config: GrpcConfig, port: int, arrivals: Arrivals, *, closes: bool) -> None:
        """Prepare to look.

        Args:
            config: how long connections may be silent.
            port: theirs.
            arrivals: knows which messages are whole, and counts those that are not.
            closes: whether to end connections that are idle, silent, gone or too many: the engine does not.
        """
        self._config = config
        self._port = port
        self._arrivals = arrivals
        self._closes = closes
        self._most = grpc_connections()
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
        pause_s = LOOK_S
        while True:
            await asyncio.sleep(pause_s)
            begun = time.monotonic()
            await asyncio.to_thread(self.look, begun, self._arrivals.take())
            self._arrivals.note({c.peer: c.arriving for c in self._known.values() if c.arriving > SMALL and not c.why})
            if crowded := self._crowded():
                await asyncio.to_thread(self._end, crowded)
            is_busy = any(c.arriving > SMALL for c in self._known.values())
            # With many connections a look takes its time.
            pause_s = max(min(SOON_S, LOOK_S), 9 * (time.monotonic() - begun)) if is_busy else LOOK_S

    def look(self, now: float, came: Mapping[Peer, int] | None = None) -> None:
        """Look at every connection once; `came` are the bytes of whole messages since the last look."""
        before, found = self._known, dict[int, _Connection]()
        others: set[int] = set()

        def is_wanted(inode: int) -> bool:
            if inode in self._others:
                others.add(inode)
            return inode not in self._others

        for inode, connection in own_sockets(is_wanted):
            with contextlib.suppress(OSError):
                if inode not in before and not self._is_ours(connection):
                    others.add(inode)
                    continue
                found[inode] = self._seen(connection, before.get(inode) or _Connection(now), now, came or {})
        self._others = others
        for inode in before.keys() - found.keys():
            self._count(before[inode], now)
        # Whoever reads meanwhile gets the last look, whole.
        self._known = found

    def _is_ours(self, connection: socket.socket) -> bool:
        # Also of a listener, which has no peer.
        return connection.family in INTERNET and bool(
            connection.getsockname()[1] == self._port and connection.getpeername()
        )

    def _seen(self, connection: socket.socket, known: _Connection, now: float, came: Mapping[Peer, int]) -> _Connection:
        if known.peer == ELSEWHERE:
            host, port = connection.getpeername()[:2]
            known.peer, known.seen_at, known.whole_at = (plain(host), port), known.since, known.since
        before, known.facts = known.facts, _facts(connection)
        whole = came.get(known.peer, 0)
        talk = int(TALK_BYTES_PER_S * (now - known.seen_at)) + (known.facts.sent - before.sent) // TALK_SHARE
        known.seen_at = now
        more = known.facts.received - before.received - whole - came.get(ELSEWHERE, 0) - talk
        known.arriving = max(0, known.arriving + more)
        if whole or known.arriving <= SMALL:
            known.whole_at = now
        if not known.why:
            known.why = self._verdict(known, now)
            if known.why:
                connection.shutdown(socket.SHUT_RDWR)
        return known

    def _verdict(self, known: _Connection, now: float) -> str:
        """Return why a connection is to be closed here."""
        if now - known.whole_at > self._config.message_timeout_s:
            return "slow"
        if not self._closes:
            return ""
        return "gone" if known.facts.unheard_s > GONE_S else self._unused(known, now, 0.0)

    def _unused(self, known: _Connection, now: float, early_s: float) -> str:
        """Return why a connection that nobody uses should end, or would have by `early_s` seconds from now."""
        if known.facts.received < _PREFACE_BYTES:
            return "slow" if now - known.since > self._config.handshake_timeout_s - early_s else ""
        return "idle" if known.facts.silent_s > self._config.max_connection_idle_s - early_s else ""

    def _crowded(self) -> set[int]:
        """Return the connections that there is no room for: those with the most of messages that are not whole, and the last to come."""
        there = {inode: known for inode, known in self._known.items() if not known.why}
        found: set[int] = set()
        excess = self._arrivals.held.now - self._arrivals.held.most
        for inode in sorted(there, key=lambda i: -there[i].arriving):
            if excess <= 0 or there[inode].arriving <= SMALL:
                break
            excess -= there[inode].arriving
            found.add(inode)
        if len(there) >= self._most:
            LOG.warning("the limit of %d gRPC connections is reached; further ones are closed", self._most)
            if self._closes:
                found.update(sorted(there, key=lambda i: there[i].since)[self._most :])
        return found

    def _end(self, inodes: set[int]) -> None:
        """Close connections to make room."""
        for inode, connection in own_sockets(inodes.__contains__):
            self._known[inode].why = "crowded"
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _count(self, known: _Connection, now: float) -> None:
        """Count the end of a connection, unless it was the caller's doing."""
        why = known.why
        if not why and not self._closes:
            # What the engine does is seen afterwards only.
            known.facts = known.facts._replace(silent_s=known.facts.silent_s + LOOK_S)
            is_gone = known.facts.unheard_s > self._config.keepalive_timeout_s / 2
            why = "gone" if is_gone else self._unused(known, now, LOOK_S)
        if why:
            self.ended[why] += 1


def _facts(connection: socket.socket) -> _Facts:
    data = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
    unconfirmed, came, confirmed, sent, received = _TCP_INFO.unpack(data)
    return _Facts(confirmed / 1000 if unconfirmed else 0.0, came / 1000, sent, received)
