"""The confined process in which a model is loaded for one task: its limits, and how it is locked down first.

The same for a package that is published, one that is checked, and a file that a package is made of. Replicas live longer and close
themselves off (`placement.process.replica`); pickles get less (`conversion.program`).
"""

from __future__ import annotations

import contextlib
import os
import resource
import sys
from pathlib import Path

import msgspec

from limen.runtime.sandbox import isolation, namespaces, scratch
from limen.runtime.sandbox.allocator import keep_buffers
from limen.runtime.sandbox.confinement import confine_from_others, confine_to_scratch


class Room(msgspec.Struct, frozen=True, kw_only=True):
    """What one process is for and may use."""

    root: str
    """The folder or file that is read."""
    scratch: str
    """The one folder that it may write to, unless code of the package runs."""
    brings_code: bool
    """Whether code of the package runs, which is trusted then."""
    memory_mb: int | None = None
    """Mebibytes; no limit when None."""
    cpus: int = 1
    time_s: int | None = None
    """Seconds of processor time; no limit when None."""


def enter(room: Room) -> tuple[str, ...]:
    """Go on in a child that is closed off, and return what was taken from it, in the words of this package.

    To be called before there are threads. Nothing is given back: the process ends after one piece of work.
    """
    held = namespaces.leave(processes=True)
    namespaces.split(own_processes="own-processes" in held)
    keep_buffers(room.memory_mb)
    isolation.limit_resources(room.memory_mb, None)
    if room.time_s is not None:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_CPU, (room.time_s, room.time_s + 1))
    held += isolation.forbid_new_privileges()
    scratch.use(Path(room.scratch))
    held += confine_from_others() if room.brings_code else confine_to_scratch([Path(room.scratch)])
    isolation.set_blas_threads(room.cpus)
    return (*held, *give_up_rights(Path(room.root)))


def give_up_rights(root: Path) -> list[str]:
    """Go on as somebody without privileges who can still read a folder or file."""
    folders = [root, *(path for path in root.rglob("*") if path.is_dir())] if root.is_dir() else [root.parent]
    python = (Path(sys.prefix), Path(sys.base_prefix), Path(os.__file__).parent, Path(__file__).parent)
    gone = isolation.become_nobody((*folders, *python))
    # Root without privileges reads what is its own; what is somebody else's it was asked to look at.
    return gone + isolation.drop_capabilities(keep_reading=not gone and _is_of_another(root))


def _is_of_another(path: Path) -> bool:
    try:
        return path.stat().st_uid != os.getuid()
    except OSError:
        return False
