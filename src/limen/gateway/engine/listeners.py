"""Leaving a port that other processes listen on, too, without losing the connections that the system has accepted already.

Closing a listener resets what waits in its queue. So newcomers are kept out first: the system drops their first packet, which they send
again, to another listener by then. Whoever is in the queue is let in, and then the listener can be closed. Used by both gateways.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import stat
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

SETTLE_S: Final = 0.05
"""How long handshakes that have begun may take to come through, and the queue to be emptied."""
_SO_ATTACH_FILTER: Final = 26
_SO_DETACH_FILTER: Final = 27
_NO_NEWCOMERS: Final = b"".join(
    struct.pack("HBBI", *instruction)
    for instruction in (
        (0x30, 0, 0, 13),  # the flags of the TCP header
        (0x54, 0, 0, 0x12),  # SYN and ACK
        (0x15, 0, 1, 0x02),  # SYN alone:
        (0x06, 0, 0, 0),  # dropped
        (0x06, 0, 0, 0xFFFFFFFF),  # everything else passes
    )
)
_FOLDERS: Final = ("/proc/self/fd", "/dev/fd")


def keep_newcomers_out(listener: socket.socket) -> None:
    """Let no new connection begin on a listener; those that have begun still come. Linux only; elsewhere nothing happens."""
    if sys.platform == "linux":
        program = ctypes.create_string_buffer(_NO_NEWCOMERS, len(_NO_NEWCOMERS))
        filtering = struct.pack("HL", len(_NO_NEWCOMERS) // 8, ctypes.addressof(program))
        with contextlib.suppress(OSError):
            listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, filtering)


def let_newcomers_in(listener: socket.socket) -> None:
    """Undo `keep_newcomers_out`."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            listener.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)


def sockets_at(port: int, *, are_listening: bool) -> Iterator[socket.socket]:
    """Yield this process's sockets at a local port, also those that a library does not hand out; each is valid until the next one."""
    folder = next((Path(name) for name in _FOLDERS if Path(name).is_dir()), None)
    names = os.listdir(folder) if folder is not None else []  # noqa: PTH208 - numbers, and not paths
    for name in names:
        found = _socket_of(int(name))
        if found is None:
            continue
        with found, contextlib.suppress(OSError):
            is_here = found.family in (socket.AF_INET, socket.AF_INET6) and found.getsockname()[1] == port
            if is_here and bool(found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)) is are_listening:
                yield found


def _socket_of(descriptor: int) -> socket.socket | None:
    """Return a descriptor's socket, to be closed by itself; None when it is no socket, or closed meanwhile."""
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            return None
        own = os.dup(descriptor)
    except OSError:
        return None
    try:
        return socket.socket(fileno=own)
    except OSError:
        os.close(own)
        return None
