"""Closes a listener on a shared port without losing connections that the system has already accepted.

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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

SETTLE_S: Final = 0.05
"""How long handshakes that have begun may take to come through, and the queue to be emptied."""
_SO_ATTACH_FILTER: Final = 26
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
INTERNET: Final = (socket.AF_INET, socket.AF_INET6)
_FOLDERS: Final = ("/proc/self/fd", "/dev/fd")


def keep_newcomers_out(listener: socket.socket) -> None:
    """Let no new connection begin on a listener; those that have begun still come. Linux only; elsewhere nothing happens."""
    if sys.platform == "linux":
        program = ctypes.create_string_buffer(_NO_NEWCOMERS, len(_NO_NEWCOMERS))
        filtering = struct.pack("HL", len(_NO_NEWCOMERS) // 8, ctypes.addressof(program))
        with contextlib.suppress(OSError):
            listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, filtering)


def sockets_at(port: int, *, are_listening: bool) -> Iterator[socket.socket]:
    """Yield this process's sockets at a local port; each is valid until the next one."""
    for _, found in own_sockets():
        with contextlib.suppress(OSError):
            is_here = found.family in INTERNET and found.getsockname()[1] == port
            if is_here and bool(found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)) is are_listening:
                yield found


def own_sockets(is_wanted: Callable[[int], bool] = bool) -> Iterator[tuple[int, socket.socket]]:
    """Yield every socket of this process with its inode, also those that a library does not hand out.

    Each is valid until the next one, whatever its owner does meanwhile.

    Args:
        is_wanted: takes an inode, and says whether to yield its socket.
    """
    folder = next((Path(name) for name in _FOLDERS if Path(name).is_dir()), None)
    for name in os.listdir(folder) if folder is not None else []:  # noqa: PTH208 - numbers, and not paths
        descriptor = int(name)
        with contextlib.suppress(OSError):
            facts = os.fstat(descriptor)
            if stat.S_ISSOCK(facts.st_mode) and is_wanted(facts.st_ino):
                own = os.dup(descriptor)
                try:
                    is_same = os.fstat(own).st_ino == facts.st_ino
                    found = socket.socket(fileno=own)
                except BaseException:
                    os.close(own)
                    raise
                with found:
                    if is_same:
                        yield facts.st_ino, found
