"""Restricts a process's file access for the rest of its life: Linux's Landlock, from kernel 5.13.

Needs no privilege but `no_new_privs`. Children inherit it, and it also keeps the process from looking into others (`/proc/PID/environ`,
ptrace). From kernel 6.12 it keeps signals and abstract Unix sockets inside as well. Called by `confinement`.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

_CREATE, _ADD, _RESTRICT = 444, 445, 446
_ASK_VERSION: Final = 1
_BENEATH: Final = 1
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_MAKE_DEVICES: Final = 1 << 6 | 1 << 11
_TRUNCATE: Final = 1 << 14
_READ: Final = _EXECUTE | _READ_FILE | _READ_DIR
_OF_A_FILE: Final = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE
_ACCESSES: Final = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
"""Everything a version knows about files, by the first version that does. 5 brings `ioctl` on devices."""
_SCOPES: Final = 3
"""No signals to others and no abstract sockets of others, from version 6."""
_SCOPE_VERSION: Final = 6
_TRUNCATE_VERSION: Final = 3
"""The first version that covers every way to change what is in a file."""


def version() -> int:
    """Return the version of Landlock that the kernel offers; 0 when it has none."""
    if sys.platform != "linux":
        return 0
    try:
        found = int(ctypes.CDLL(None, use_errno=True).syscall(_CREATE, None, 0, _ASK_VERSION))
    except (OSError, AttributeError):
        return 0
    return max(0, found)


def restrict(readable: Iterable[Path] | None, writable: Iterable[Path] | None) -> bool:
    """Reach only these files from now on, in this thread and those it starts; return whether the kernel sees to it.

    Args:
        readable: files and folders that may be read and executed, with all that is in them; all files when None.
        writable: files and folders that may be changed as well; all files when None, but no device can be made.
    """
    found = version()
    if found < _TRUNCATE_VERSION:
        return False
    handled = next(rights for first, rights in sorted(_ACCESSES.items(), reverse=True) if first <= found)
    if readable is None:
        handled &= ~_READ
    if writable is None:
        handled &= _READ | _MAKE_DEVICES
    libc = ctypes.CDLL(None, use_errno=True)
    wanted = struct.pack("=QQQ", handled, 0, _SCOPES if found >= _SCOPE_VERSION else 0)
    ruleset = libc.syscall(_CREATE, wanted, len(wanted) if found >= _SCOPE_VERSION else 16, 0)
    if ruleset < 0:
        return False
    try:
        rules = [(path, handled & _READ) for path in readable or ()] + [(path, handled) for path in writable or ()]
        if not all(_allow(libc, ruleset, path, rights) for path, rights in rules if rights):
            return False
        return bool(libc.syscall(_RESTRICT, ruleset, 0) == 0)
    finally:
        os.close(ruleset)


def _allow(libc: ctypes.CDLL, ruleset: int, path: Path, rights: int) -> bool:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return True  # what is not there needs no permission
    try:
        if not path.is_dir():
            rights &= _OF_A_FILE | (1 << 15)
        rule = struct.pack("=Qi", rights, descriptor)
        return bool(libc.syscall(_ADD, ruleset, _BENEATH, rule, 0) == 0)
    finally:
        os.close(descriptor)
