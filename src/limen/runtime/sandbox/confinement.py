"""The confinement of a process that loads a model, assembled from what the kernel offers.

Each step is tried. The words that come back say what holds, and are kept as evidence: `landlock` and `read-only` (files),
`seccomp` (system calls). `isolation` and `namespaces` add theirs.
"""

from __future__ import annotations

import os
import site
import sys
import sysconfig
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from limen.runtime.sandbox import landlock, seccomp
from limen.runtime.sandbox.system_calls import FILES, MACHINE, PROCESSES, SOCKETS, Call

_SYSTEM: Final = (
    *("/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d"),
    *("/etc/localtime", "/etc/nsswitch.conf", "/etc/passwd", "/etc/group", "/etc/mime.types"),
    *("/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/sys/vm", "/proc/sys/kernel"),
    *("/sys/devices/system", "/sys/fs/cgroup", "/sys/kernel/mm/transparent_hugepage"),
)
"""What native libraries read of a system."""
_DEVICES: Final = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")


def confine_to_libraries() -> list[str]:
    """Keep this process from everything but the libraries: other files, sockets, processes. For code that nobody trusts."""
    _tell_joblib()
    held = _files([*map(Path, _SYSTEM), *_libraries()], [])
    return held + _calls(MACHINE, SOCKETS, PROCESSES, FILES)


def not_contained(held: Iterable[str]) -> list[str]:
    """Return what untrusted code could still do after `confine_to_libraries`, in words that follow "from"."""
    has = set(held)
    gaps = {
        "changing your files": not has & {"landlock", "read-only"},
        "reading your files": "landlock" not in has,
        "connecting to Unix sockets": "seccomp" not in has,
        "leaving processes behind": not has & {"seccomp", "own-processes"},
    }
    return [gap for gap, is_open in gaps.items() if is_open]


def confine_to_scratch(scratch: Sequence[Path]) -> list[str]:
    """Keep this process from changing files outside its scratch folders, and from connecting. For libraries that read a model."""
    _tell_joblib()
    return _files(None, scratch) + _calls(MACHINE, SOCKETS)


def confine_from_others() -> list[str]:
    """Keep this process from looking into others and from sending them signals. For code that is trusted."""
    return ["landlock"] if _is_single() and landlock.restrict(None, None) else []


def _tell_joblib() -> None:
    """Have joblib use threads: it would try to make shared memory to see whether it can, and warn."""
    os.environ["JOBLIB_MULTIPROCESSING"] = "0"


def _files(readable: Iterable[Path] | None, writable: Sequence[Path]) -> list[str]:
    devices = [Path(device) for device in _DEVICES]
    return ["landlock"] if _is_single() and landlock.restrict(readable, [*writable, *devices]) else []


def _calls(*groups: dict[str, Call]) -> list[str]:
    return ["seccomp"] if seccomp.forbid(groups, processes=PROCESSES not in groups) else []


def _is_single() -> bool:
    """Return whether there is one thread: Landlock would leave the others as they are."""
    try:
        return len(os.listdir("/proc/self/task")) == 1  # noqa: PTH208 - names are all that is wanted
    except OSError:
        return False


def _libraries() -> list[Path]:
    """Return the folders that this interpreter and its packages are in."""
    named = [sys.prefix, sys.base_prefix, sys.exec_prefix, *sysconfig.get_paths().values(), *sys.path]
    named += [site.getusersitepackages()] if site.ENABLE_USER_SITE else []
    return [Path(name) for name in dict.fromkeys(named) if name]
