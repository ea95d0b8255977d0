"""Backups of a registry, readable without a server: its tables as JSON lines, and its blobs, in a folder.

    backup.json             what it is a copy of, and what it holds; written last, so that a copy is there whole or not at all
    tables-….jsonl          the rows of every table, read at one moment
    blobs/ab/ab12…          every blob that a version names, under its SHA-256

The same folder may be used again and again: blobs never change, and only those that are not there are copied. What was written from SQLite
can be brought back to PostgreSQL, and the other way round. Answers to requests with an idempotency key are not part of it.
Blocking. Not here: what a server makes of a registry that was brought back (`serving.sources.plan_memory`).
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from limen.contracts.errors import AlreadyExists, InvalidArgument, LimenError
from limen.storage.blobs import BlobStore
from limen.storage.database import Database
from limen.storage.faults import file_faults
from limen.storage.files import hash_of
from limen.storage.local import LocalBlobs
from limen.storage.migrations import HEAD
from limen.storage.private import make_private_folder
from limen.storage.schema import Moment, evidence, idempotency_keys, identity, metadata, revisions, versions

FORMAT: Final = 1
HEAD_FILE: Final = "backup.json"
_FOLDER: Final = "the folder of the backup"
_APART: Final = frozenset({revisions.name, identity.name, idempotency_keys.name})
"""Tables whose rows are not copied: what they say stands in `backup.json`, or is nobody's any more."""


class Backup(msgspec.Struct, frozen=True, kw_only=True):
    """What `backup.json` says."""

    format: int = FORMAT
    schema: str
    """The revision of the tables."""
    registry: str
    """The id of the registry."""
    revision: int
    made_at: datetime
    tables: str
    """The file with the rows."""
    tables_sha256: str
    rows: dict[str, int]
    """How many of each table."""
    blobs: tuple[str, ...]
    lacking: tuple[str, ...] = ()
    """Blobs that could not be copied, because they are damaged or lost."""


def back_up(database: Database, blobs: BlobStore, folder: Path, made_at: datetime) -> Backup:
    """Copy a registry to a folder, and return what the copy holds.

    Raises:
        Unavailable: STORAGE, STORAGE_FULL; the registry or the folder cannot be used. What the folder held before is still whole.
    """
    with file_faults(_FOLDER):
        make_private_folder(folder)
        staging = folder / ".tables.staging"
        with database.reading() as connection:
            registry = connection.execute(sa.select(identity.c.registry)).scalar_one()
            revision = connection.execute(sa.select(revisions.c.value)).scalar_one()
            wanted = tuple(sorted(_named_blobs(connection)))
            with staging.open("wb") as out:
                rows = {str(table.name): _write_rows(connection, table, out) for table in _copied_tables()}
        sha256 = hash_of(staging)
        tables = staging.rename(folder / f"tables-{sha256[:16]}.jsonl")
    lacking = _copy_blobs(blobs, folder, wanted)
    made = Backup(
        schema=HEAD,
        registry=registry,
        revision=revision,
        made_at=made_at,
        tables=tables.name,
        tables_sha256=sha256,
        rows=rows,
        blobs=wanted,
        lacking=lacking,
    )
    with file_faults(_FOLDER):
        head = folder / f".{HEAD_FILE}.staging"
        head.write_bytes(msgspec.json.format(msgspec.json.encode(made), indent=2))
        head.replace(folder / HEAD_FILE)
        for other in folder.glob("tables-*.jsonl"):
            if other != tables:
                other.unlink()
    return made


def read_backup(folder: Path) -> Backup:
    """Return what a folder holds, after looking whether everything is present and intact.

    Raises:
        InvalidArgument: it holds no backup, one of a newer Limen, or one that is damaged.
        Unavailable: STORAGE; it cannot be read.
    """
    with file_faults(_FOLDER):
        if not (folder / HEAD_FILE).is_file():
            raise InvalidArgument.at("folder", f"is not a backup: it has no {HEAD_FILE}")
        try:
            found = msgspec.json.decode((folder / HEAD_FILE).read_bytes(), type=Backup)
        except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
            raise InvalidArgument.at("folder", f"has an invalid {HEAD_FILE}") from exc
        if found.format > FORMAT or found.schema > HEAD:
            raise InvalidArgument.at("folder", "holds a backup from a newer release of Limen; install that release")
        tables = folder / found.tables
        if tables.parent != folder or not tables.is_file() or hash_of(tables) != found.tables_sha256:
            raise InvalidArgument.at("folder", "holds a backup whose tables are damaged or lost")
    copies = LocalBlobs(folder / "blobs")
    bad = [key for key in found.blobs if key not in found.lacking and not copies.is_whole(key)]
    if bad:
        raise InvalidArgument.at("folder", f"holds an incomplete backup; damaged or lost blobs: {len(bad)}")
    return found


def bring_back(folder: Path, backup: Backup, address: str, blobs: BlobStore) -> str:
    """Make an empty registry what a backup holds, and return the id that it has from now on.

    The blobs come first and the rows in one transaction, so that nothing is there by half. The id is a new one: changes that were made after
    the backup are missing, and whoever followed the registry is to notice.

    Args:
        folder: of the backup.
        backup: what `read_backup` found.
        address: the address of the database, which is made where it is a file.
        blobs: where the blobs go.

    Raises:
        AlreadyExists: the registry there is not empty.
        Unavailable: STORAGE, STORAGE_FULL.
    """
    copies = LocalBlobs(folder / "blobs")
    database = Database.open(address, schema=backup.schema)
    try:
        with database.reading() as connection:
            _ensure_empty(connection)
        for key in backup.blobs:
            if key not in backup.lacking and not (blobs.has(key) and blobs.is_whole(key)):
                blobs.put(copies.path(key), key)
        registry = uuid.uuid4().hex
        with database.transaction() as connection:
            _ensure_empty(connection)
            with file_faults(_FOLDER):
                _insert_rows(connection, folder / backup.tables)
            connection.execute(identity.update().values(registry=registry))
            connection.execute(revisions.update().values(value=backup.revision))
            if connection.dialect.name == "postgresql":
                last = sa.select(sa.func.coalesce(sa.func.max(evidence.c.id), 0) + 1).scalar_subquery()
                sequence = sa.func.pg_get_serial_sequence(evidence.name, "id")
                connection.execute(sa.select(sa.func.setval(sequence, last, sa.false())))
    finally:
        database.close()
    Database.open(address).close()  # brings older tables up to date
    return registry


def _named_blobs(connection: sa.Connection) -> set[str]:
    rows = connection.execute(sa.select(versions.c.archive, versions.c.signature))
    return {key for row in rows for key in row if key}


def _copied_tables() -> Iterator[sa.Table]:
    """Yield the tables in an order in which rows find those that they point at."""
    return (table for table in metadata.sorted_tables if table.name not in _APART)


def _write_rows(connection: sa.Connection, table: sa.Table, out: Any) -> int:
    count = 0
    for row in connection.execute(sa.select(table).order_by(*table.primary_key.columns)):
        values = {str(column.name): value for column, value in zip(table.columns, row, strict=True)}
        out.write(msgspec.json.encode([str(table.name), values]) + b"\n")
        count += 1
    return count


def _insert_rows(connection: sa.Connection, path: Path) -> None:
    with path.open("rb") as lines:
        for line in lines:
            name, values = msgspec.json.decode(line)
            table = metadata.tables[name]
            for column in table.columns:
                if isinstance(column.type, Moment) and values.get(column.name) is not None:
                    values[column.name] = datetime.fromisoformat(values[column.name])
            connection.execute(table.insert().values(**values))


def _ensure_empty(connection: sa.Connection) -> None:
    for table in _copied_tables():
        if connection.execute(sa.select(sa.literal(1)).select_from(table).limit(1)).first() is not None:
            raise AlreadyExists("the registry there is not empty; a backup can only be restored to an empty one")


def _copy_blobs(blobs: BlobStore, folder: Path, wanted: tuple[str, ...]) -> tuple[str, ...]:
    """Copy what is not there yet, and return what could not be copied."""
    copies, lacking = LocalBlobs(folder / "blobs"), []
    for key in wanted:
        if copies.is_whole(key):
            continue
        try:
            blobs.fetch(key, copies.path(key))
        except LimenError:
            if blobs.is_whole(key):  # it is not the blob that is at fault
                raise
            lacking.append(key)
    return tuple(lacking)
