"""A child process's link to its parent: reads its start message, reports to it, and ends with it.

Called by the replica and by the process that tries packages out. Before the package's code runs.
"""

from __future__ import annotations

import fcntl
import os
import signal


def take_streams() -> tuple[int, int]:
    """Return standard input and output for the one line each; what the model reads and prints goes elsewhere."""
    parent, voice = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return parent, voice


def read_line(descriptor: int) -> bytes:
    """Return what comes before the first line break, and read nothing after it."""
    line = bytearray()
    while (piece := os.read(descriptor, 1)) not in (b"", b"\n"):
        line += piece
    return bytes(line)


def die_with(parent: int) -> None:
    """End when the parent's end of standard input closes, whatever the model is doing: the signal needs no interpreter."""
    if hasattr(os, "O_ASYNC") or hasattr(fcntl, "FASYNC"):
        flag = getattr(os, "O_ASYNC", 0) or getattr(fcntl, "FASYNC", 0)
        signal.signal(signal.SIGIO, signal.SIG_DFL)
        fcntl.fcntl(parent, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(parent, fcntl.F_SETFL, fcntl.fcntl(parent, fcntl.F_GETFL) | flag)
