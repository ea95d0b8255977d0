"""Checks that the files of a package still match its digest, each time before they are loaded.

Disks lose bits, and people edit what they find. A process hashes a folder once; after that it looks at what the system says of each file,
and hashes again when any of it is different. Called by the placements, and by whoever keeps packages on this machine.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from limen.contracts.errors import InvalidPackage, LimenError
from limen.packaging.archive.index import digest_of
from limen.packaging.archive.package import hash_folder
from limen.packaging.paths import list_files

DAMAGED: Final = "the files of the package are damaged or were changed"
_MAX_KNOWN: Final = 1024
_SMALL_BYTES: Final = 16 << 20

_Facts = tuple[tuple[str, int, int, int, int, int], ...]
"""Of each file: its path, device, inode, size, and when its content and anything about it changed."""
_known: dict[Path, tuple[str, _Facts]] = {}
"""What folders held when this process hashed them last."""


def is_intact(root: Path, digest: str, *, afresh: bool = False) -> bool:
    """Tell whether a folder holds exactly the files that a digest names.

    Args:
        root: the folder of the package.
        digest: names the content.
        afresh: hash the files even when nothing seems to have happened to them, as when somebody says they are damaged.
    """
    try:
        return root.is_dir() and current_digest(root, afresh=afresh) == digest
    except (OSError, LimenError):
        return False


def ensure_intact(root: Path, digest: str) -> str:
    """Return the digest of what a folder holds, or refuse a package whose files are not what its digest says.

    Raises:
        InvalidPackage: they are not; nothing of it may be loaded.
    """
    try:
        found = current_digest(root)
    except (OSError, LimenError):
        found = ""
    if found != digest:
        raise InvalidPackage(DAMAGED)
    return found


def current_digest(root: Path, *, afresh: bool = False) -> str:
    """Return the digest of what a folder holds now.

    Raises:
        InvalidPackage: it holds what no package may hold.
        OSError: it cannot be read.
    """
    before = _facts(root)
    known = _known.get(root)
    if known is not None and known[1] == before and not afresh:
        return known[0]
    digest = digest_of(hash_folder(root))
    if _facts(root) == before:  # else somebody writes to it, and the next one hashes again
        while len(_known) >= _MAX_KNOWN:
            _known.pop(next(iter(_known)), None)
        _known[root] = digest, before
    return digest


def is_small(root: Path) -> bool:
    """Tell whether the files of a package are hashed in no time."""
    try:
        return sum(size for _, _, _, size, _, _ in _facts(root)) <= _SMALL_BYTES
    except (OSError, LimenError):
        return True


def _facts(root: Path) -> _Facts:
    found = []
    for path in list_files(root):
        facts = (root / path).lstat()
        times = facts.st_mtime_ns, facts.st_ctime_ns
        found.append((path, facts.st_dev, facts.st_ino, facts.st_size, *times))
    return tuple(found)
