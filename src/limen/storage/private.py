"""Private folders and files, whatever the umask.

What Limen keeps holds models, answers and addresses with passwords. When root runs a server, its models run as another user where they can:
in a home that this user may pass through, it may pass through the folders of packages as well, and list or read nothing else.
"""

from __future__ import annotations

import os
import pwd
from contextlib import suppress
from pathlib import Path
from typing import Final

UNPRIVILEGED: Final = "nobody"
"""The user that processes of root go on as."""


def make_private_folder(folder: Path, *, is_passage: bool = False) -> None:
    """Make a folder, and the folders on the way to it that are missing, for their owner alone; what is there stays as it is.

    Args:
        folder: what to make.
        is_passage: whether packages are below it: then the user that processes of root go on as may pass through it.

    Raises:
        OSError: it cannot be made.
    """
    if folder.is_dir():
        return
    if folder.parent != folder:
        make_private_folder(folder.parent)
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        if not folder.is_dir():
            raise
        return
    make_private(folder, is_passage=is_passage)


def make_private(folder: Path, *, is_passage: bool = False) -> None:
    """Keep everybody but the owner out of a folder of ours; `is_passage` as in `make_private_folder`.

    Raises:
        OSError: it is not ours.
    """
    group = unprivileged_group() if is_passage else None
    if group is not None:
        with suppress(OSError):
            os.chown(folder, -1, group)
            folder.chmod(0o710)
            return
    folder.chmod(0o700)


def make_private_file(path: Path) -> None:
    """Make an empty file for its owner alone, if there is none.

    Raises:
        OSError: it cannot be made.
    """
    with suppress(FileExistsError):
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            os.fchmod(descriptor, 0o600)
        finally:
            os.close(descriptor)


def unprivileged_group() -> int | None:
    """Return the group of the user that processes of root go on as; None unless this is root and there is one."""
    if os.getuid() != 0:
        return None
    try:
        return pwd.getpwnam(UNPRIVILEGED).pw_gid
    except KeyError:
        return None
