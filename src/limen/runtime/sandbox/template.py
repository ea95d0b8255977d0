"""A template process: it has imported what others need, and forks one of them whenever it is asked to.

A fork shares the pages of the imported libraries with its template and begins without importing anything, so it costs what it loads
itself. The request comes over a socket together with the fork's standard streams, and the fork is handed over: it becomes a child of the
process that asked, which must adopt orphans (`sandbox.forking`), so its exit status, its signals and its end do not depend on the template.

A template must have one thread, or a lock that another one holds would stay locked in the fork for good; it counts them before each
fork and refuses when there are more. It also refuses once a folder of libraries has changed, so that what was installed meanwhile is used.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import gc
import os
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

STREAMS: Final = 3
"""Descriptors that come with a request: standard input, output and error of the fork."""
_READ_BYTES: Final = 1 << 16
_SET_NAME: Final = 15
_ARGUMENTS_AT: Final = 45
"""Where /proc/self/stat says, behind the name in brackets, from where to where the command line lies in memory."""


class Fork(msgspec.Struct, frozen=True):
    """Asks for a fork."""

    number: int
    """Comes back with the answer."""
    title: str
    """What `ps` shows of it."""
    environment: dict[str, str]
    """All of its environment."""


class Forked(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer; one of the last two is set."""

    number: int
    pid: int = 0
    refused: str = ""
    """Why there is no fork. The template ends."""


Libraries = list[tuple[str, int, int]]
"""What changes when something is installed, updated or removed where a process imports from."""


def libraries() -> Libraries:
    """Return what is so now."""
    found = []
    for folder in sys.path:
        with contextlib.suppress(OSError):
            facts = os.stat(folder)  # noqa: PTH116 - no more is imported than is there
            found.append((folder, facts.st_ino, facts.st_mtime_ns))
    return found


def prepare(work: Callable[[], None]) -> Libraries:
    """Do what forks would do one by one, such as importing, and keep what is there now out of every later garbage collection.

    Returns:
        Where it was imported from.
    """
    found = libraries()
    gc.disable()
    work()
    # A collection in a fork would write to every object, and so copy every page.
    gc.freeze()
    gc.enable()
    return found


def threads() -> int:
    """Return how many threads this process has; 1 where the system does not tell."""
    try:
        return len(os.listdir("/proc/self/task"))  # noqa: PTH208 - names are all that is wanted
    except OSError:
        return 1


def serve(channel: socket.socket, source: Libraries) -> bool:
    """Fork whenever the other end of `channel` asks for it.

    Args:
        channel: a stream socket, from which nothing has been read but whole lines.
        source: where it has imported from.

    Returns:
        True in a fork, whose streams and environment are those of the request. False in the template, when the other end has closed
        or the template is of no further use.
    """
    while (asked := _receive(channel)) is not None:
        request, streams = asked
        pid, refused = -1, _refusal(source)
        if not refused:
            try:
                pid = _fork()
            except OSError as exc:
                refused = f"the system starts no further process: {exc.strerror}"
            if pid == 0:
                _become(request, streams, channel)
                return True
        for stream in streams:
            os.close(stream)
        channel.sendall(msgspec.json.encode(Forked(request.number, max(0, pid), refused)) + b"\n")
        if refused:
            break
    return False


def _receive(channel: socket.socket) -> tuple[Fork, list[int]] | None:
    """Return the next request with its streams; None when the other end has closed."""
    said, streams, _, _ = socket.recv_fds(channel, _READ_BYTES, STREAMS)
    while said and not said.endswith(b"\n"):
        more = channel.recv(_READ_BYTES)
        said = said + more if more else b""
    return (msgspec.json.decode(said, type=Fork), streams) if said else None


def _refusal(source: Libraries) -> str:
    if (count := threads()) > 1:
        return f"it has {count} threads"
    return "" if libraries() == source else "the installed libraries have changed"


def _fork() -> int:
    """Return 0 in a fork, which is not a child of this process, and its id here.

    Raises:
        OSError: the system refuses.
    """
    heard, said = os.pipe()
    try:
        between = os.fork()
        if between == 0:
            _hand_over(said)
            return 0
        os.close(said)
        said = -1
        told = os.read(heard, 32)
        os.waitpid(between, 0)
    finally:
        os.close(heard)
        if said >= 0:
            os.close(said)
    if not told:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    return int(told)


def _hand_over(said: int) -> None:
    """Go on in a child of this process, and end the process itself, so that the child is adopted."""
    try:
        child = os.fork()
        if child:
            os.write(said, str(child).encode())
    except OSError:
        os._exit(1)
    if child:
        os._exit(0)


def _become(request: Fork, streams: Sequence[int], channel: socket.socket) -> None:
    """Be what was asked for."""
    os.setsid()
    # It may be one of the three.
    channel.detach()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()
    os.environ.update(request.environment)
    _reseed()
    _show(request.title)


def _reseed() -> None:
    """Have no two forks draw the same numbers. Python's own generator does this by itself, and others ask the system at each start."""
    if "numpy.random" in sys.modules:
        import numpy as np

        np.random.seed()  # noqa: NPY002 - the one that models share


def _show(title: str) -> None:
    """Have `ps` and `top` show what this process is. The command line is written over, for which it has to be long enough."""
    with contextlib.suppress(OSError, AttributeError, ValueError, IndexError):
        ctypes.CDLL(None).prctl(_SET_NAME, title.encode(), 0, 0, 0)
        with open("/proc/self/stat") as file:  # noqa: PTH123 - no more is imported than is there
            fields = file.read().rpartition(")")[2].split()
        start, end = int(fields[_ARGUMENTS_AT]), int(fields[_ARGUMENTS_AT + 1])
        ctypes.memmove(start, title.encode()[: end - start - 1].ljust(end - start, b"\0"), end - start)
