"""Restrictions on a replica process: memory, cores, privileges and the user id.

Every step is tried and none is needed: what a platform or a container does not allow stays as it was, and the replica says what
holds. Linux offers all of it; elsewhere only the resource limits exist. Called by `replica`, in the order of this module: limits
before the package's code runs and before there are threads, the rest once it is loaded. The network, files and system calls are the
business of `runtime.sandbox`.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import stat
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from limen.storage.private import UNPRIVILEGED, unprivileged_group

_NO_NEW_PRIVILEGES: Final = 38
_CAPABILITY_VERSION: Final = 0x20080522
_READ_ANY_FILE: Final = 1 << 2
_BLAS_SETTERS: Final = [
    f"{prefix}openblas_set_num_threads{suffix}" for prefix in ("", "scipy_") for suffix in ("", "64_")
]


def libc() -> Any:
    """Return the C library of this process."""
    return ctypes.CDLL(None, use_errno=True)


def limit_resources(memory_mb: int | None, cores: int | None) -> None:
    """Write no core dumps, and keep to `memory_mb` mebibytes of data and to that many cores."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if memory_mb is not None:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_DATA, (memory_mb << 20, memory_mb << 20))
    if cores is not None and hasattr(os, "sched_setaffinity"):
        allowed = sorted(os.sched_getaffinity(0))
        if cores < len(allowed):
            # Not the first ones: every replica would choose the same.
            first = os.getpid() % len(allowed)
            with contextlib.suppress(OSError):
                os.sched_setaffinity(0, (allowed + allowed)[first : first + cores])


def set_blas_threads(count: int) -> None:
    """Give OpenBLAS its threads, in what is loaded and in what will be.

    It starts them when it is loaded, with NumPy, and a process with threads cannot get namespaces of its own: so replicas start with
    one (`sandbox.child.model_environment`) and get the others here.
    """
    os.environ["OPENBLAS_NUM_THREADS"] = str(count)
    with contextlib.suppress(OSError):
        lines = Path("/proc/self/maps").read_text().splitlines()
        for path in {line.split(maxsplit=5)[-1] for line in lines if "openblas" in line}:
            library = ctypes.CDLL(path)
            for name in _BLAS_SETTERS:
                with contextlib.suppress(AttributeError):
                    getattr(library, name)(count)


def forbid_new_privileges() -> list[str]:
    """Let no program that is started from here have more rights than this process."""
    if sys.platform != "linux":
        return []
    with contextlib.suppress(OSError, AttributeError):
        if libc().prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) == 0:
            return ["no-new-privs"]
    return []


def become_nobody(needed: Iterable[Path]) -> list[str]:
    """Go on as the user `nobody`, if this is root and `nobody` can read the folders that are needed later."""
    if os.getuid() != 0 or not all(_is_public(folder) for folder in needed):
        return []
    import pwd

    try:
        account = pwd.getpwnam(UNPRIVILEGED)
        os.setgroups([])
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)
    except (KeyError, OSError):
        return []
    return ["uid"]


def drop_capabilities(*, keep_reading: bool = False) -> list[str]:
    """Give up what is left of root's privileges, also those inside a user namespace.

    Args:
        keep_reading: whether root may go on to read the files of other users.
    """
    if sys.platform != "linux":
        return []
    head = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    left = (ctypes.c_uint32 * 6)()
    if keep_reading:
        left[0] = left[1] = _READ_ANY_FILE
    with contextlib.suppress(OSError, AttributeError):
        if libc().capset(head, left) == 0:
            return ["only-reading" if keep_reading else "no-capabilities"]
    return []


def _is_public(folder: Path) -> bool:
    """Return whether `nobody` may reach a folder and read it and what is directly in it."""
    try:
        real = folder.resolve(strict=True)
        group = unprivileged_group()
        if not all(_is_passable(parent.stat(), group) for parent in real.parents):
            return False
        wanted = stat.S_IROTH | stat.S_IXOTH
        if real.stat().st_mode & wanted != wanted:
            return False
        return all(entry.stat().st_mode & stat.S_IROTH for entry in os.scandir(real))
    except OSError:
        return False


def _is_passable(facts: os.stat_result, group: int | None) -> bool:
    bit = stat.S_IXGRP if facts.st_gid == group else stat.S_IXOTH
    return bool(facts.st_mode & bit)
