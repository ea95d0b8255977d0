"""Memory mapped from a descriptor that is closed afterwards.

`mmap.mmap` keeps a copy of the descriptor for as long as the memory is mapped. A gateway maps three pieces of memory for every replica,
so that this alone would take most of the files that a process may have open.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import weakref
from functools import cache
from typing import Any, Final

_FAILED: Final = ctypes.c_void_p(-1).value


def map_memory(descriptor: int, size: int, *, is_reader: bool = False) -> memoryview:
    """Return the first `size` bytes of a file, shared with whoever else maps them.

    They stay mapped for as long as the view, or an array made of it, is there. The descriptor stays the caller's.

    Args:
        descriptor: of the file.
        size: in bytes.
        is_reader: whether the memory may only be read.

    Raises:
        ValueError: the file is smaller than that.
        OSError: it cannot be mapped.
    """
    if os.fstat(descriptor).st_size < size:
        raise ValueError("the file is smaller than what is to be mapped")
    access = mmap.PROT_READ if is_reader else mmap.PROT_READ | mmap.PROT_WRITE
    address = _libc().mmap(None, size, access, mmap.MAP_SHARED, descriptor, 0)
    if address in (None, _FAILED):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    owner = (ctypes.c_ubyte * size).from_address(address)
    # At exit the system does it.
    weakref.finalize(owner, _libc().munmap, address, size).atexit = False
    view = memoryview(owner).cast("B")
    return view.toreadonly() if is_reader else view


@cache
def _libc() -> Any:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    return libc
