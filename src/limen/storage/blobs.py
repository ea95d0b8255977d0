"""Stores package bytes under their SHA-256, on the local disk or in S3.

A blob is there whole or not at all, and what is fetched is what was put: both are checked by hashing. Blobs are put before the
database names them, so that a version never points at nothing; one that was put and never named does no harm.
Blocking. Not here: which blobs belong to a version (`registry`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from limen.storage.local import LocalBlobs


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
            NotFound: no such blob.
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
