"""Writable temporary folders for confined processes: private, and removed afterwards."""

from __future__ import annotations

import os
import pwd
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from limen.storage.private import UNPRIVILEGED, make_private_folder


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Give a new folder for one process; it is removed afterwards with all that is in it."""
    folder = Path(tempfile.mkdtemp(prefix="limen-scratch-"))
    try:
        _share(folder)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def use(folder: Path) -> None:
    """Have this process keep its temporary files in a folder, which is made when it is not there.

    Raises:
        OSError: it cannot be made.
    """
    if not folder.is_dir():
        make_private_folder(folder.parent, is_passage=True)
        make_private_folder(folder)
        _share(folder)
    os.environ["TMPDIR"] = str(folder)
    tempfile.tempdir = None


def empty(folder: Path) -> None:
    """Remove what a process that was killed has left in its folder; nothing happens when there is none."""
    for path in folder.glob("*"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _share(folder: Path) -> None:
    """Let the unprivileged user and the one of this process write to a folder: a process of root goes on as either."""
    if os.getuid() != 0:
        folder.chmod(0o700)
        return
    folder.chmod(0o770)
    with suppress(KeyError, OSError):
        os.chown(folder, pwd.getpwnam(UNPRIVILEGED).pw_uid, -1)
