"""A registry that lives in memory and is gone when it is closed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from limen.contracts.errors import Internal, NotFound
from limen.management.stores import Stores, utc_now
from limen.packaging.archive.package import PACKAGES
from limen.registry.registry import Registry
from limen.storage.database import Database
from limen.storage.files import appearing, ensure_digest
from limen.storage.idempotency import IdempotencyStore
from limen.traffic.endpoint_store import EndpointStore


class MemoryBlobs:
    """A blob store in a dictionary, with the promises of `storage.blobs.BlobStore`."""

    is_remote = False

    def __init__(self) -> None:
        """Start empty."""
        self.contents: dict[str, bytes] = {}
        """The bytes under their digest; a test may damage or remove them."""

    def put(self, source: Path, digest: str) -> None:
        """Store a file.

        Raises:
            Internal: its SHA-256 is not `digest`.
        """
        data = source.read_bytes()
        if hashlib.sha256(data).hexdigest() != ensure_digest(digest):
            raise Internal
        self.contents[digest] = data

    def fetch(self, digest: str, target: Path) -> None:
        """Write a blob to `target` in one step.

        Raises:
            NotFound: there is no such blob.
        """
        if ensure_digest(digest) not in self.contents:
            raise NotFound("there is no such blob")
        with appearing(target) as out:
            out.write(self.contents[digest])

    def has(self, digest: str) -> bool:
        """Tell whether there is such a blob."""
        return ensure_digest(digest) in self.contents

    def is_whole(self, digest: str) -> bool:
        """Tell whether there is such a blob and its content has this digest."""
        return self.has(digest) and hashlib.sha256(self.contents[digest]).hexdigest() == digest

    def remove(self, digest: str) -> None:
        """Remove a blob, if there is one."""
        self.contents.pop(ensure_digest(digest), None)


def memory_registry(packages: Path, *, clock: Callable[[], datetime] = utc_now) -> Stores:
    """Return an empty registry whose database and blobs are in memory. Use it from one thread at a time.

    Args:
        packages: a folder, where packages are unpacked.
        clock: the time of day, with its zone; `FakeClock().utc` stands still.
    """
    database = Database.in_memory()
    return Stores(
        database=database,
        registry=Registry(database, clock),
        endpoints=EndpointStore(database, clock),
        idempotency=IdempotencyStore(clock),
        blobs=MemoryBlobs(),
        packages=packages / PACKAGES,
    )
