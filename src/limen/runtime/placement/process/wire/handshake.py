"""The handshake between a gateway and a replica: identities and shared memory. Called by `link`."""

from __future__ import annotations

import os
import socket
import struct
import sys
from typing import Final, NamedTuple

from limen.runtime.placement.process.wire import frames
from limen.runtime.placement.process.wire.arena import ARENA_BYTES, Arena, StatusPage, create_memory, is_fixed, seal
from limen.runtime.placement.process.wire.frames import BrokenFrame

_CREDENTIALS: Final = struct.Struct("3i")
_LOCAL_PEER_PID: Final = 2  # macOS


class Welcome(NamedTuple):
    """What a replica says about itself."""

    number: int
    """What the replica calls this connection on its status page."""
    pid: int
    can_stream: bool
    mixes_rows: bool
    wants_context: bool
    identity: bytes
    """What it has loaded, see `frames.identity`."""
    status: StatusPage | None


def dial(path: str) -> socket.socket:
    """Return a socket that is connected and does not block.

    Raises:
        OSError: nobody listens there, or nobody can be taken in just now.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.setblocking(False)
        connection.connect(path)
    except BaseException:
        connection.close()
        raise
    return connection


def say_hello(connection: socket.socket, identity: bytes) -> tuple[Arena | None, Arena | None]:
    """Greet a replica and say what it should have loaded; return the arenas for inputs and outputs, or None where there is no such memory.

    Raises:
        OSError: the replica has gone.
    """
    descriptors: list[int] = []
    inputs = outputs = None
    try:
        try:
            descriptors.append(create_memory(ARENA_BYTES))
            descriptors.append(create_memory(ARENA_BYTES))
            inputs, outputs = (Arena(descriptor, ARENA_BYTES) for descriptor in descriptors)
            seal(descriptors[0], against_writing=True)
            seal(descriptors[1], against_writing=False)
        except (OSError, ValueError):
            inputs = outputs = None
        size = 0 if outputs is None else ARENA_BYTES
        hello = frames.HELLO.pack(frames.MAGIC, size, size, identity)
        socket.send_fds(connection, [hello], descriptors if size else [])
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
    return inputs, outputs


def take_welcome(connection: socket.socket) -> Welcome:
    """Read a replica's answer to the hello.

    Raises:
        BrokenFrame: it is none.
        OSError: there is none yet (`BlockingIOError`), or the replica has gone.
    """
    text, descriptors, _, _ = socket.recv_fds(connection, frames.WELCOME.size, 1)
    try:
        if len(text) != frames.WELCOME.size:
            raise BrokenFrame("no welcome")
        magic, number, pid, traits, identity = frames.WELCOME.unpack(text)
        if magic != frames.MAGIC:
            raise BrokenFrame("a welcome of another version")
        status = None
        # A page whose owner could cut it off would be a way to end this process.
        if descriptors and is_fixed(descriptors[0], StatusPage.SIZE):
            status = StatusPage(descriptors[0], is_reader=True)
        traits_of = (frames.CAN_STREAM, frames.MIXES_ROWS, frames.WANTS_CONTEXT)
        can_stream, mixes_rows, wants_context = (bool(traits & trait) for trait in traits_of)
        return Welcome(number, _peer(connection) or pid, can_stream, mixes_rows, wants_context, identity, status)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _peer(connection: socket.socket) -> int:
    """Return the process at the other end as the system knows it, whatever it says; 0 where the system does not tell."""
    try:
        if hasattr(socket, "SO_PEERCRED"):
            pid: int = _CREDENTIALS.unpack(
                connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
            )[0]
            return pid
        return connection.getsockopt(0, _LOCAL_PEER_PID) if sys.platform == "darwin" else 0
    except OSError:
        return 0
