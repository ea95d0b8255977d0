"""Where the bytes of packages are kept: under the SHA-256 of what they are, on the local disk or in an S3 store.

A blob is there whole or not at all, and what is fetched is what was put: both are checked by hashing. Blobs are put before the
database names them, so that a version never points at nothing; one that was put and never named does no harm.
Blocking. Not here: which blobs belong to a version (`registry`).
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Protocol

from limen.contracts.errors import Internal, NotFound
from limen.storage import causes
from limen.storage.faults import file_faults, unavailable
from limen.storage.private import make_private_folder

_CHUNK: Final = 1 << 20
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
_ABANDONED_AFTER_S: Final = 3600.0
"""A staged file that nobody wrote to for so long was left by a process that is gone."""


class BlobStore(Protocol):
    """Bytes under their own SHA-256. Safe to share between threads and processes."""

    is_remote: bool
    """Whether reading a blob brings it over a network."""

    def put(self, source: Path, digest: str) -> None:
        """Store a file; one that is there stays as it is, or is made whole if it was damaged.

        Raises:
            Unavailable: STORAGE; full, or not reachable. Nothing of it is visible.
            Internal: the file is not what the digest says.
        """
        ...

    def fetch(self, digest: str, target: Path) -> None:
        """Write a blob to `target`, in one step and only when it is whole.

        Raises:
            NotFound: there is no such blob.
            Unavailable: STORAGE; not reachable, or what is stored is damaged.
        """
        ...

    def has(self, digest: str) -> bool:
        """Tell whether there is such a blob; what it holds is not looked at."""
        ...

    def is_whole(self, digest: str) -> bool:
        """Tell whether there is such a blob and it is what its digest says. All of it is read."""
        ...

    def remove(self, digest: str) -> None:
        """Remove a blob; nothing happens when there is none."""
        ...


def open_blobs(where: str, *, s3_endpoint: str = "") -> BlobStore:
    """Return the store at a folder or at `s3://bucket/prefix`; nothing is touched yet.

    Args:
        where: path of a folder, or an S3 address.
        s3_endpoint: address of the S3 service; the one of the environment or of AWS when empty.
    """
    if where.startswith("s3://"):
        from limen.storage.s3 import S3Blobs

        return S3Blobs(where, endpoint=s3_endpoint)
    return LocalBlobs(Path(where))


class LocalBlobs:
    """Blobs in a folder: `ab/ab12…`, staged beside them, synced and renamed."""

    is_remote = False

    def __init__(self, root: Path) -> None:
        """Take a folder, which is made when something is put."""
        self._root = root
        self._staging = root / "staging"

    def put(self, source: Path, digest: str) -> None:
        """Store a file; one that is there is left alone unless it was damaged."""
        target = self.path(digest)
        with file_faults("the blob store"):
            if target.is_file() and hash_of(target) == digest:
                return
            for folder in (self._root, self._staging, target.parent):
                _make_folder(folder)
            self._remove_abandoned()
            with _staged(self._staging) as staging:
                if _copy(source, staging) != digest:
                    raise Internal
                _publish(staging, target)

    def fetch(self, digest: str, target: Path) -> None:
        """Write a blob to `target`, in one step and only when it is whole."""
        path = self.path(digest)
        with file_faults("the blob store"):
            if not path.is_file():
                raise NotFound("there is no such blob")
            with fetching(target, digest) as staging:
                _copy(path, staging)

    def has(self, digest: str) -> bool:
        """Tell whether there is such a blob."""
        with file_faults("the blob store"):
            return self.path(digest).is_file()

    def is_whole(self, digest: str) -> bool:
        """Tell whether there is such a blob and it is what its digest says."""
        path = self.path(digest)
        with file_faults("the blob store"):
            return path.is_file() and hash_of(path) == digest

    def remove(self, digest: str) -> None:
        """Remove a blob; nothing happens when there is none."""
        with file_faults("the blob store"):
            self.path(digest).unlink(missing_ok=True)

    def path(self, digest: str) -> Path:
        """Return the file of a blob, whether or not there is one."""
        return self._root / ensure_digest(digest)[:2] / digest

    def _remove_abandoned(self) -> None:
        oldest = time.time() - _ABANDONED_AFTER_S
        for path in self._staging.iterdir():
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < oldest:
                    path.unlink()


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
def fetching(target: Path, digest: str) -> Iterator[Path]:
    """Give a file to write a blob to; it becomes `target` when it is what the digest says.

    Raises:
        Unavailable: STORAGE; it is not.
    """
    _make_folder(target.parent)
    with _staged(target.parent) as staging:
        yield staging
        if hash_of(staging) != digest:
            raise unavailable(causes.DAMAGED_PACKAGE)
        _publish(staging, target)


@contextmanager
def _staged(folder: Path) -> Iterator[Path]:
    """Give a new file; remove it at the end unless it was renamed."""
    descriptor, name = tempfile.mkstemp(prefix=".", suffix=".staging", dir=folder)
    os.close(descriptor)
    staging = Path(name)
    try:
        yield staging
    finally:
        staging.unlink(missing_ok=True)


def _publish(staging: Path, target: Path) -> None:
    """Make a staged file visible: its bytes are on the disk before its name is."""
    with staging.open("rb+") as written:
        os.fchmod(written.fileno(), 0o600)
        os.fsync(written.fileno())
    staging.replace(target)
    _sync_folder(target.parent)


def _copy(source: Path, target: Path) -> str:
    """Copy a file and return the SHA-256 of what was read."""
    hashed = hashlib.sha256()
    with source.open("rb") as data, target.open("wb") as out:
        while chunk := data.read(_CHUNK):
            hashed.update(chunk)
            out.write(chunk)
    return hashed.hexdigest()


def _make_folder(folder: Path) -> None:
    if not folder.is_dir():
        make_private_folder(folder)
        _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
