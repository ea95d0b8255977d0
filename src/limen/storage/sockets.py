"""Folders for Unix sockets, with paths short enough for the system's limit wherever the home and temporary files are.

Each has a lock that its maker holds, so that others can see whether it is in use.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from limen.storage.locks import hold

PREFIX: Final = "limen-"
LOCK: Final = "lock"
MAX_FOLDER: Final = 60
"""Characters: a socket's path has at most 107, on some systems 103, and the native gRPC engine adds 38."""
_NAME: Final = re.compile(re.escape(PREFIX) + r"[a-z0-9_]{8}")
_HELD: Final[dict[str, int]] = {}


def make_socket_folder() -> str:
    """Return a new folder, of this process's user alone, that is in use until it is removed or this process ends.

    Raises:
        OSError: there is no place for it.
    """
    for place in _places():
        if len(place) + len(PREFIX) + 9 > MAX_FOLDER:
            continue
        folder = ""
        try:
            folder = tempfile.mkdtemp(prefix=PREFIX, dir=place)
            descriptor = hold(Path(folder) / LOCK)
        except OSError:
            if folder:
                shutil.rmtree(folder, ignore_errors=True)
            continue
        if descriptor is not None:
            _HELD[folder] = descriptor
        return folder
    tried = ", ".join(_places())
    raise OSError(errno.ENOSPC, f"cannot create a folder for sockets in {tried}")


def remove_socket_folder(folder: str) -> None:
    """Remove a folder that `make_socket_folder` has made, here or in another process; anything else stays."""
    descriptor = _HELD.pop(folder, None)
    if descriptor is not None:
        os.close(descriptor)
    found = Path(folder)
    # The name may come from a file: whatever it says, only a folder that we have made goes.
    if is_socket_folder(found):
        shutil.rmtree(found, ignore_errors=True)


def is_socket_folder(found: Path) -> bool:
    """Return whether this is a folder of ours for sockets."""
    try:
        is_ours = found.is_dir() and not found.is_symlink() and found.stat().st_uid == os.getuid()
    except OSError:
        return False
    return is_ours and _NAME.fullmatch(found.name) is not None


def _places() -> Iterator[str]:
    """Yield where such folders may be, the best first."""
    places = [tempfile.gettempdir(), "/tmp", "/var/tmp", f"/run/user/{os.getuid()}", "/dev/shm"]  # noqa: S108 - private ones are made in them
    return iter(dict.fromkeys(places))
