"""A system call filter for the rest of a process's life: Linux's seccomp, on x86-64 and aarch64.

A refused call fails with EPERM, so a library that tries one gets an ordinary error and goes on. Children inherit the filter.
Called by `confinement` once the process has what it needs.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys
from collections.abc import Iterable, Mapping
from typing import Final

from limen.runtime.sandbox.system_calls import CLONE, CLONE3, KILL, PRLIMIT, TGKILL, Call

_LOAD, _IF_EQUAL, _IF_AT_LEAST, _IF_SET, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW: Final = 0x7FFF0000
_EPERM, _ENOSYS = 0x00050001, 0x00050026
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16
_X32: Final = 0x40000000
_CLONE_THREAD: Final = 0x10000
_MACHINES: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_SET_FILTER, _ALL_THREADS = 1, 1
_SECCOMP: Final = {"x86_64": 317, "aarch64": 277}
_Program = list[tuple[int, int, int, int]]


class _Filter(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_void_p))


def forbid(calls: Iterable[Mapping[str, Call]], *, processes: bool) -> bool:
    """Refuse system calls from now on, in every thread of this process; return whether the kernel does so.

    Needs `no_new_privs`. Signals and resource limits are refused for other processes in any case.

    Args:
        calls: groups of system calls to refuse.
        processes: whether other processes than this one may still be started.
    """
    machine = platform.machine()
    if sys.platform != "linux" or machine not in _MACHINES:
        return False
    program = _program(machine, [call for group in calls for call in group.values()], processes=processes)
    code = b"".join(struct.pack("=HBBI", *line) for line in program)
    kept = ctypes.create_string_buffer(code)
    filtering = _Filter(len(program), ctypes.cast(kept, ctypes.c_void_p))
    try:
        done = ctypes.CDLL(None, use_errno=True).syscall(
            _SECCOMP[machine], _SET_FILTER, _ALL_THREADS, ctypes.byref(filtering)
        )
    except (OSError, AttributeError):
        return False
    return bool(done == 0)


def _program(machine: str, calls: Iterable[Call], *, processes: bool) -> _Program:
    def number(call: Call) -> int:
        return getattr(call, machine) or 0

    program: _Program = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_IF_EQUAL, 1, 0, _MACHINES[machine]),
        (_RETURN, 0, 0, _EPERM),
        (_LOAD, 0, 0, _NUMBER),
    ]
    if machine == "x86_64":
        program += [(_IF_AT_LEAST, 0, 1, _X32), (_RETURN, 0, 0, _EPERM)]
    refused = {getattr(call, machine) for call in calls} - {None}
    for found in sorted(refused):
        program += [(_IF_EQUAL, 0, 1, found), (_RETURN, 0, 0, _EPERM)]
    if not processes:
        # Its flags are in memory, where a filter cannot look: the C library falls back to the older call.
        program += [(_IF_EQUAL, 0, 1, number(CLONE3)), (_RETURN, 0, 0, _ENOSYS)]
        program += _when(number(CLONE), (_IF_SET, 1, 0, _CLONE_THREAD))
    for call in (KILL, TGKILL):
        program += _when(number(call), (_IF_EQUAL, 1, 0, os.getpid()))
    # The limits of this process go by two names.
    program += _when(number(PRLIMIT), (_IF_EQUAL, 2, 0, 0), (_IF_EQUAL, 1, 0, os.getpid()))
    return [*program, (_RETURN, 0, 0, _ALLOW)]


def _when(number: int, *tests: tuple[int, int, int, int]) -> _Program:
    """Refuse a call unless a test of its first argument jumps over the refusal."""
    body: _Program = [(_LOAD, 0, 0, _FIRST_ARGUMENT), *tests, (_RETURN, 0, 0, _EPERM), (_RETURN, 0, 0, _ALLOW)]
    return [(_IF_EQUAL, 0, len(body), number), *body]
