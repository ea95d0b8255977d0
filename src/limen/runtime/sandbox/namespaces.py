"""Linux namespaces: an empty network, read-only files, and processes that end together.

Namespaces are left by a process with one thread, so all of this comes before libraries are loaded. Without the privilege a process becomes
the owner of a user namespace, which many systems allow and some containers do not: what is not allowed stays as it was, and the
answer says what holds.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import struct
import sys
from pathlib import Path
from typing import Any, Final, NoReturn

_NEW_MOUNTS, _NEW_USER, _NEW_PROCESSES, _NEW_NETWORK = 0x00020000, 0x10000000, 0x20000000, 0x40000000
_DIE_WITH_PARENT, _ADOPT_ORPHANS = 1, 36
_MOUNT_SETATTR: Final = 442
_PRIVATE, _RECURSIVE = 1 << 18, 1 << 14
_AT_RECURSIVE, _READ_ONLY = 0x8000, 1
_HERE: Final = -100
_BY_SIGNAL: Final = 128
"""Added to the number of a signal in an exit status, as shells do."""


def leave(*, mounts: bool = False, processes: bool = False) -> list[str]:
    """Move to namespaces of one's own, and return what that gives: `no-network`, `own-mounts`, `own-processes`.

    Args:
        mounts: also to one of mounts; `make_read_only` needs it.
        processes: also have the next child begin one of processes; `split` needs it.
    """
    if sys.platform != "linux":
        return []
    more = _NEW_MOUNTS * mounts | _NEW_PROCESSES * processes
    # All at once, so that nothing has changed when it is refused; the network alone if nothing else is to be had.
    for wanted in dict.fromkeys((_NEW_NETWORK | more, _NEW_NETWORK)):
        if _leave(wanted):
            words = {_NEW_NETWORK: "no-network", _NEW_MOUNTS: "own-mounts", _NEW_PROCESSES: "own-processes"}
            return [word for flag, word in words.items() if wanted & flag]
    return []


def _leave(wanted: int) -> bool:
    uid, gid = os.getuid(), os.getgid()
    libc = _libc()
    try:
        if libc.unshare(wanted) == 0:
            return True
        if libc.unshare(_NEW_USER | wanted) != 0:
            return False
    except (OSError, AttributeError):
        return False
    with contextlib.suppress(OSError):
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    return True


def make_read_only() -> list[str]:
    """Mount everything read-only for this process alone, in its own namespace of mounts; return `read-only` if it is."""
    libc = _libc()
    try:
        # First of all apart from the others, for whom nothing may change.
        if libc.mount(None, b"/", None, _PRIVATE | _RECURSIVE, None) != 0:
            return []
        attributes = struct.pack("=QQQQ", _READ_ONLY, 0, 0, 0)
        done = libc.syscall(_MOUNT_SETATTR, _HERE, b"/", _AT_RECURSIVE, attributes, len(attributes))
    except (OSError, AttributeError):
        return []
    return ["read-only"] if done == 0 else []


def split(*, own_processes: bool) -> None:
    """Go on in a child; the process that was started stays behind, ends everything that comes of it, and answers for it.

    Returns in the child only. The one that stays behind runs nothing of a package. When it is told to end (SIGTERM), is killed, or its
    child has ended, whatever was started is killed: by the kernel, when the child lives in a namespace of processes, whatever
    sessions and groups its descendants have made; elsewhere by looking for them. Its exit status is that of the child.

    Args:
        own_processes: whether `leave` gave a namespace of processes.
    """
    libc = _libc()
    if own_processes:
        child = os.fork()
        if child:
            _guard(child)
        # The first process of the namespace: the others can send it nothing, and when it ends they are gone.
        libc.prctl(_DIE_WITH_PARENT, signal.SIGKILL, 0, 0, 0)
    else:
        libc.prctl(_ADOPT_ORPHANS, 1, 0, 0, 0)
    child = os.fork()
    if child:
        _guard(child)
    libc.prctl(_DIE_WITH_PARENT, signal.SIGKILL, 0, 0, 0)


def _guard(child: int) -> NoReturn:
    """Wait for a child and end as it does; nothing of it is left afterwards."""

    def end(*_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)

    signal.signal(signal.SIGTERM, end)
    # The pipes are the child's alone: whoever reads them sees their end when it is gone.
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1):
        os.dup2(nothing, stream)
    os.closerange(3, 1024)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    _kill_orphans()
    if status < 0 and os.getpid() != 1:
        _end_by(-status)
    if status > _BY_SIGNAL and status - _BY_SIGNAL in set(signal.Signals):
        _end_by(status - _BY_SIGNAL)
    os._exit(status if status >= 0 else _BY_SIGNAL - status)


def _kill_orphans() -> None:
    """Kill what a child has left, and what that has started meanwhile."""
    while True:
        try:
            left = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        except OSError:
            return  # in a namespace of processes, where the kernel does it
        if not left:
            return
        # What they have started becomes ours when they end, and is found at the next look.
        for pid in map(int, left):
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)


def _end_by(number: int) -> None:
    signal.signal(number, signal.SIG_DFL) if number not in (signal.SIGKILL, signal.SIGSTOP) else None
    os.kill(os.getpid(), number)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})


def _libc() -> Any:
    return ctypes.CDLL(None, use_errno=True)
