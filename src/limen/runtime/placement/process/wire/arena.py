"""Shared memory for large tensors, and the status page of a replica.

Memory without a name: its descriptor travels over the socket once, and it is gone with the last process that has it. Where the
platform can, it is sealed, so that the other side cannot take it away from under a reader, nor write where it should only read.

An arena belongs to one direction of one connection. Its writer keeps a `Ring` of the regions it has handed out, its reader says
when it is done; a tensor that does not fit travels over the socket.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import tempfile
from collections import deque
from typing import Any, Final

from limen.contracts.tensors import Array
from limen.runtime.placement.process.wire.mapping import map_memory

SHARED_MIN: Final = 64 << 10
"""Bytes from which a tensor travels through shared memory. Measured by `benchmarks.placement`."""
ARENA_BYTES: Final = 64 << 20
"""Bytes of an arena. Only what has been used takes memory, from the start on."""
HEAD: Final = 64
"""Bytes at the start of an arena for its reader: how many frames it has taken out."""
_COUNT: Final = struct.Struct("<Q")
_STATE: Final = struct.Struct("<QQ")
_FUTURE_WRITE: Final = 0x0010  # F_SEAL_FUTURE_WRITE, not in `fcntl` before Python 3.13
_ALIGN: Final = 64


def create_memory(size: int) -> int:
    """Return the descriptor of anonymous memory that others can map."""
    if hasattr(os, "memfd_create"):
        found = os.memfd_create("limen", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    else:
        with tempfile.TemporaryFile() as file:
            found = os.dup(file.fileno())
    try:
        os.ftruncate(found, size)
    except BaseException:
        os.close(found)
        raise
    return found


def seal(descriptor: int, *, against_writing: bool) -> None:
    """Fix the size of memory, and let nobody map it for writing from now on. Does nothing where there are no seals."""
    if not hasattr(fcntl, "F_ADD_SEALS"):
        return
    fixed = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
    if against_writing:
        try:
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fixed | _FUTURE_WRITE)
        except OSError:  # a kernel before 5.1
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fixed)
    else:
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fixed)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SEAL)


def is_fixed(descriptor: int, size: int) -> bool:
    """Return whether memory that somebody else made has this size and keeps it."""
    if os.fstat(descriptor).st_size != size:
        return False
    return not hasattr(fcntl, "F_GET_SEALS") or bool(fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK)


class Region:
    """A piece of an arena in use."""

    __slots__ = ("end", "is_free", "start")

    def __init__(self, start: int, end: int) -> None:
        self.start = start
        self.end = end
        self.is_free = False


class Ring:
    """Hands out pieces of an arena, in order; a piece that stays in use holds up what comes after the lap."""

    __slots__ = ("_first", "_size", "_used")

    def __init__(self, size: int, first: int = HEAD) -> None:
        self._first = first
        self._size = size
        self._used: deque[Region] = deque()

    def take(self, size: int) -> Region | None:
        """Return a piece of at least `size` bytes, or None when there is none just now."""
        size = size + _ALIGN - 1 & -_ALIGN
        used = self._used
        # An empty ring begins at its start again: the same pages stay in use, and in the cache.
        start, end = (used[-1].end, self._size) if used else (self._first, self._size)
        if used and start <= used[0].start:
            end = used[0].start
        elif used and size > end - start:
            start, end = self._first, used[0].start
        if size > end - start:
            return None
        region = Region(start, start + size)
        used.append(region)
        return region

    def free(self, region: Region) -> None:
        """Take a piece back."""
        region.is_free = True
        used = self._used
        while used and used[0].is_free:
            used.popleft()

    @property
    def is_empty(self) -> bool:
        """Whether nothing is in use."""
        return not self._used


class Arena:
    """The shared memory of one direction, mapped into this process."""

    __slots__ = ("_owner", "map", "ring", "size")

    def __init__(self, descriptor: int, size: int, *, is_reader: bool = False) -> None:
        """Map the memory; the descriptor stays the caller's."""
        self.map: Any = map_memory(descriptor, size, is_reader=is_reader)
        self._owner: object = self.map.obj
        self.size = size
        self.ring = Ring(size)

    def holds(self, array: Array) -> bool:
        """Whether the numbers of an array lie here."""
        return array.base is self._owner

    @property
    def taken(self) -> int:
        """How many frames the reader has taken out."""
        count: int = _COUNT.unpack_from(self.map)[0]
        return count

    @taken.setter
    def taken(self, count: int) -> None:
        _COUNT.pack_into(self.map, 0, count)


class StatusPage:
    """What a replica is at, for every gateway to read, also when the replica has died or hangs.

    `running` names the connection and the call in hand (0: none); `steps` counts up with every change.
    """

    __slots__ = ("_map", "_steps")
    SIZE: Final = mmap.PAGESIZE

    def __init__(self, descriptor: int, *, is_reader: bool) -> None:
        """Map the page; the descriptor stays the caller's."""
        self._map = map_memory(descriptor, self.SIZE, is_reader=is_reader)
        self._steps = 0

    def begin(self, connection: int, call: int) -> None:
        """Say that a call is in hand."""
        self._steps += 1
        _STATE.pack_into(self._map, 0, connection << 32 | call, self._steps)

    def end(self) -> None:
        """Say that nothing is in hand."""
        self._steps += 1
        _STATE.pack_into(self._map, 0, 0, self._steps)

    def read(self) -> tuple[int, int, int]:
        """Return connection and call in hand (0, 0 when none) and the number of steps."""
        running, steps = _STATE.unpack_from(self._map)
        return running >> 32, running & 0xFFFFFFFF, steps
