"""Files that appear whole or not at all, and their hashes: what every store and every writer of state shares."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from limen.contracts.errors import Internal
from limen.storage import causes
from limen.storage.faults import unavailable
from limen.storage.private import make_private_file, make_private_folder

_CHUNK: Final = 1 << 20
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)


def ensure_digest(digest: str) -> str:
    """Return a key that is safe in a path; another is a mistake of ours."""
    if _DIGEST.fullmatch(digest) is None:
        raise Internal
    return digest


def hash_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits."""
    with path.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()


@contextmanager
def appearing(target: Path) -> Iterator[IO[bytes]]:
    """Give a file to write that appears at `target` in one step, complete and on disk; when writing it fails, nothing appears."""
    descriptor, staging = tempfile.mkstemp(prefix=f".{target.name[:60]}-", suffix=".staging", dir=target.parent)
    try:
        with os.fdopen(descriptor, "wb") as out:
            yield out
            out.flush()
            os.fchmod(out.fileno(), 0o644)
            os.fsync(out.fileno())
        Path(staging).replace(target)
    except BaseException:
        Path(staging).unlink(missing_ok=True)
        raise
    sync_folder(target.parent)


def write_whole(path: Path, data: bytes, *, is_private: bool = True) -> None:
    """Replace a file in one step. Quick: after a power failure the old content may be back."""
    staging = path.with_name(f".{path.name}.{os.getpid()}")
    staging.unlink(missing_ok=True)
    if is_private:
        make_private_file(staging)
    staging.write_bytes(data)
    staging.replace(path)


@contextmanager
def fetching(target: Path, digest: str) -> Iterator[Path]:
    """Give a file to write a blob to; it becomes `target` when it is what the digest says.

    Raises:
        Unavailable: STORAGE; it is not.
    """
    ensure_folder(target.parent)
    with staged(target.parent) as staging:
        yield staging
        if hash_of(staging) != digest:
            raise unavailable(causes.DAMAGED_PACKAGE)
        publish(staging, target)


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """Give a new file; remove it at the end unless it was renamed."""
    descriptor, name = tempfile.mkstemp(prefix=".", suffix=".staging", dir=folder)
    os.close(descriptor)
    staging = Path(name)
    try:
        yield staging
    finally:
        staging.unlink(missing_ok=True)


def publish(staging: Path, target: Path) -> None:
    """Make a staged file visible: its bytes are on the disk before its name is."""
    with staging.open("rb+") as written:
        os.fchmod(written.fileno(), 0o600)
        os.fsync(written.fileno())
    staging.replace(target)
    sync_folder(target.parent)


def copy(source: Path, target: Path) -> str:
    """Copy a file and return the SHA-256 of what was read."""
    hashed = hashlib.sha256()
    with source.open("rb") as data, target.open("wb") as out:
        while chunk := data.read(_CHUNK):
            hashed.update(chunk)
            out.write(chunk)
    return hashed.hexdigest()


def ensure_folder(folder: Path) -> None:
    """Make a private folder whose name is on the disk afterwards."""
    if not folder.is_dir():
        make_private_folder(folder)
        sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Put the names in a folder on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
