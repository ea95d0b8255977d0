"""Finds and removes files left by killed processes, and packages that have not been used for long.

Whether something is in use is told by its lock, or by a socket that answers; by age only where there is neither. Never by a process
id alone: ids of another container mean nothing here, and are used again. Run by control, beside its loop, soon after its start and
then every hour; the folders of servers themselves are the business of `serving.supervision.run_folder`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import stat
import tempfile
import time
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Final

from limen.packaging.archive.package import PACKAGES
from limen.storage.locks import is_held
from limen.storage.sockets import LOCK, is_socket_folder

YOUNG_S: Final = 600.0
"""What is younger is left alone: somebody may be about to use it."""
WORK_S: Final = 86_400.0
"""How old a folder of work in progress must be to have been left; no work of ours takes that long."""
UNUSED_S: Final = 7 * 86_400.0
"""How long nobody may have used an unpacked package before it is removed; it is unpacked again when it is wanted."""
_WORK: Final = (
    "limen-scratch-*",
    "limen-publish-*",
    "limen-sign-*",
    "limen-verify-*",
    "limen-import-*",
    "limen-inspect-*",
)
_NATIVE: Final = "pygrpc-native-*"
_NATIVE_SOCKET: Final = "fallback.sock"
_UNPACKING: Final = (".staging-*", ".damaged-*")
_FETCHING: Final = ".fetch-*"


def collect(home: Path, used: Iterable[Path], *, now: float | None = None) -> list[Path]:
    """Remove what is left over in a home and among temporary files, and return what that was.

    Args:
        home: whose packages are looked at.
        used: unpacked packages that are served here; others of the same home see from their age that they are.
        now: the time of day, in seconds since the epoch.
    """
    now = time.time() if now is None else now
    found = [*_temporary(Path(tempfile.gettempdir()), now), *_in_home(home, frozenset(used), now)]
    return [path for path in found if _remove(path)]


def collect_scratch(folder: Path, names: Collection[str]) -> None:
    """Remove the scratch folders of replicas that are none of these."""
    for path in folder.glob("*"):
        if path.name not in names:
            _remove(path)


def collect_native(folder: Path, *, age_s: float = YOUNG_S, now: float | None = None) -> None:
    """Remove what processes with the native gRPC engine have left in a folder that were killed."""
    now = time.time() if now is None else now
    for path in _older(folder, _NATIVE, now - age_s):
        if not _answers(path / _NATIVE_SOCKET):
            _remove(path)


def _temporary(folder: Path, now: float) -> Iterator[Path]:
    for pattern in _WORK:
        yield from _older(folder, pattern, now - WORK_S)
    for path in _older(folder, "limen-*", now - YOUNG_S):
        lock = path / LOCK
        if is_socket_folder(path) and lock.exists() and not is_held(lock):
            yield path
    for path in _older(folder, _NATIVE, now - YOUNG_S):
        if not _answers(path / _NATIVE_SOCKET):
            yield path


def _in_home(home: Path, used: frozenset[Path], now: float) -> Iterator[Path]:
    yield from _older(home, _FETCHING, now - WORK_S)
    packages = home / PACKAGES
    for pattern in _UNPACKING:
        yield from _older(packages, pattern, now - WORK_S)
    for path in used:
        if path.parent == packages:
            with contextlib.suppress(OSError):
                os.utime(path, (now, now))
    for path in _older(packages, "[0-9a-f]*", now - UNUSED_S):
        if path not in used:
            yield path


def _older(folder: Path, pattern: str, before: float) -> list[Path]:
    """Return folders of this user that match and were last changed before then."""
    found = []
    for path in folder.glob(pattern):
        with contextlib.suppress(OSError):
            facts = path.lstat()
            if stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.getuid() and facts.st_mtime < before:
                found.append(path)
    return found


def _answers(path: Path) -> bool:
    """Return whether a process listens on a socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.settimeout(1.0)
            probe.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except OSError:  # too long a path, no right, no answer yet
            return True
    return True


def _remove(path: Path) -> bool:
    """Remove a folder whole: aside first, so that nobody takes half of it for all of it."""
    aside = path.with_name(f".damaged-{path.name}") if path.parent.name == PACKAGES else path
    try:
        if aside is not path:
            path.rename(aside)
        shutil.rmtree(aside)
    except OSError:
        return False
    return True
