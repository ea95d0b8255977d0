"""Opens a registry's stores together: the database and the blobs.

Called by the composition root, for a server and for a command that works without one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from limen.packaging.archive.package import PACKAGES
from limen.registry.registry import Registry
from limen.storage import causes
from limen.storage.blobs import BlobStore, open_blobs
from limen.storage.config import StorageConfig
from limen.storage.database import Database
from limen.storage.faults import unavailable
from limen.storage.idempotency import IdempotencyStore
from limen.traffic.endpoint_store import EndpointStore

FOLLOWED = "endpoints.json"
"""File in the home of a server that has followed a registry: what it remembers of that, see `serving.sources.plan_memory`."""


class Stores(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept, and where. One database, so that a change of several of them is one transaction."""

    database: Database
    registry: Registry
    endpoints: EndpointStore
    idempotency: IdempotencyStore
    blobs: BlobStore
    packages: Path
    """Where packages are unpacked on this machine, each under its digest."""

    def close(self) -> None:
        """Close what is open."""
        self.database.close()


def utc_now() -> datetime:
    """Return the time of the machine, with its zone."""
    return datetime.now(UTC)


class _Followed(msgspec.Struct, frozen=True):
    """What is looked at of that file here."""

    registry: str


def ensure_not_lost(config: StorageConfig) -> None:
    """Refuse to make a new database where the one that this home has followed should be.

    Raises:
        Unavailable: STORAGE; a person has to decide.
    """
    file = config.database_file
    if file is None or file.exists():
        return
    with contextlib.suppress(OSError, msgspec.DecodeError):
        followed = msgspec.json.decode((config.home / FOLLOWED).read_bytes(), type=_Followed)
        if followed.registry == config.database_id:
            raise unavailable(f"the registry's database {causes.GONE}", place=str(file))


def open_registry(
    config: StorageConfig, *, create: bool = True, anew: bool = False, clock: Callable[[], datetime] = utc_now
) -> Stores:
    """Open a registry and bring its tables up to date.

    Args:
        config: where it lives.
        create: make the database file when there is none.
        anew: also where this home has followed a registry whose file is gone.
        clock: the time, with its zone.

    Raises:
        InvalidArgument: an address that is not one.
        InvalidPackage: MISSING_DEPENDENCY; a driver is not installed.
        NotFound: there is no registry here and none is to be made.
        Unavailable: STORAGE; the database cannot be reached, was written by a newer Limen, or is gone from a home that has followed it.
    """
    if not anew:
        ensure_not_lost(config)
    blobs = open_blobs(config.blobs_address, s3_endpoint=config.s3_endpoint)
    database = Database.open(config.database_address, create=create)
    return Stores(
        database=database,
        registry=Registry(database, clock),
        endpoints=EndpointStore(database, clock),
        idempotency=IdempotencyStore(clock),
        blobs=blobs,
        packages=config.home / PACKAGES,
    )
