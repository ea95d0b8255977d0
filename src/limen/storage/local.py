"""Blobs in a folder of the local disk."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from limen.contracts.errors import Internal, NotFound
from limen.storage.faults import file_faults
from limen.storage.files import copy, ensure_digest, ensure_folder, fetching, hash_of, publish, staged

_ABANDONED_AFTER_S: Final = 3600.0
"""A staged file that was not written to for so long was left by a process that is gone."""


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
                ensure_folder(folder)
            self._remove_abandoned()
            with staged(self._staging) as staging:
                if copy(source, staging) != digest:
                    raise Internal
                publish(staging, target)

    def fetch(self, digest: str, target: Path) -> None:
        """Write a blob to `target`, in one step and only when it is whole."""
        path = self.path(digest)
        with file_faults("the blob store"):
            if not path.is_file():
                raise NotFound("no such blob")
            with fetching(target, digest) as staging:
                copy(path, staging)

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
