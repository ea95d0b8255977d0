"""Copies of a registry: whole, from one kind of database to the other, and noticed by whoever followed it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from limen.contracts.catalogue import Evidence, EvidenceKind, Verdict
from limen.contracts.endpoint import EndpointSpec
from limen.contracts.errors import AlreadyExists, InvalidArgument
from limen.registry.registry import Registry
from limen.storage.backup import HEAD_FILE, back_up, bring_back, read_backup
from limen.storage.database import Database
from limen.storage.local import LocalBlobs
from limen.storage.schema import metadata
from limen.testing.clock import START, FakeClock
from limen.traffic.endpoint_store import EndpointStore
from tests.conformance.registry.making import add, digest, put_text

Open = Callable[..., Database]
APART = {"idempotency_keys", "identity", "revisions"}


def evidence_of(model: str, number: int) -> Evidence:
    return Evidence(
        model=model,
        version=number,
        kind=EvidenceKind.GOLDEN,
        verdict=Verdict.PASS,
        body={"compared": 1},
        created_at=START,
        created_by="ada",
    )


def rows(database: Database) -> dict[str, list[tuple[object, ...]]]:
    """Return everything that is kept for good."""
    with database.reading() as connection:
        return {
            str(table.name): [tuple(row) for row in connection.execute(sa.select(table).order_by(*table.primary_key))]
            for table in metadata.sorted_tables
            if table.name not in APART
        }


@pytest.fixture
def blobs(tmp_path: Path) -> LocalBlobs:
    return LocalBlobs(tmp_path / "blobs")


@pytest.fixture
def full(database: Database, blobs: LocalBlobs, tmp_path: Path) -> Iterator[Database]:
    """A registry with something in every table."""
    clock = FakeClock()
    registry, endpoints = Registry(database, clock.utc), EndpointStore(database, clock.utc)
    for content in ("first", "second"):
        put_text(blobs, tmp_path, f"archive of {content}")
        add(database, registry, content, archive=digest(f"archive of {content}"), tags={"stage": "é \" '"})
    with database.transaction() as connection:
        registry.set_alias(connection, "credit", "champion", 1, expected=None, by="ada")
        registry.set_alias(connection, "credit", "champion", 2, expected=None, by="ada")
        registry.retire(connection, "credit", 1, "old", expected=None, by="ada")
        registry.add_evidence(connection, evidence_of("credit", 2))
        endpoints.apply(
            connection, EndpointSpec(name="credit", model="credit", traffic={"champion": 100}), expected=None, by="ada"
        )
    return database


def test_a_registry_that_is_brought_back_is_what_it_was(
    full: Database, blobs: LocalBlobs, new_address: Callable[[], str], open_database: Open, tmp_path: Path
):
    made = back_up(full, blobs, tmp_path / "backup", START)
    assert made.lacking == ()
    assert read_backup(tmp_path / "backup") == made
    before = Registry(full, FakeClock().utc).identity()
    assert (made.registry, made.revision) == (before.registry, before.revision)
    address, there = new_address(), LocalBlobs(tmp_path / "there")
    bring_back(tmp_path / "backup", made, address, there)
    again = open_database(address)
    assert rows(again) == rows(full)
    assert all(there.is_whole(key) for key in made.blobs)
    # It has its revision, and an id of its own: whoever followed the first one is to notice.
    after = Registry(again, FakeClock().utc).identity()
    assert after.revision == before.revision
    assert after.registry != before.registry
    # And it goes on: numbers continue, and facts stay facts.
    registry = Registry(again, FakeClock().utc)
    assert add(again, registry, "third").number == 3
    with again.transaction() as connection:
        registry.add_evidence(connection, evidence_of("credit", 3))


def test_what_sqlite_kept_can_be_brought_back_to_the_other_kind_and_from_it(
    full: Database, blobs: LocalBlobs, open_database: Open, tmp_path: Path
):
    made = back_up(full, blobs, tmp_path / "backup", START)
    address = f"sqlite:///{tmp_path}/other.db"
    bring_back(tmp_path / "backup", made, address, blobs)
    assert rows(open_database(address)) == rows(full)


def test_a_registry_with_something_in_it_is_not_written_over(
    full: Database, blobs: LocalBlobs, address: str, tmp_path: Path
):
    made = back_up(full, blobs, tmp_path / "backup", START)
    before = rows(full)
    with pytest.raises(AlreadyExists, match="not empty"):
        bring_back(tmp_path / "backup", made, address, blobs)
    assert rows(full) == before


@pytest.fixture
def small(open_database: Open, blobs: LocalBlobs, tmp_path: Path) -> Database:
    """A registry on SQLite with one version."""
    database = open_database(f"sqlite:///{tmp_path}/small.db")
    put_text(blobs, tmp_path, "archive")
    add(database, Registry(database, FakeClock().utc), archive=digest("archive"))
    return database


def test_the_same_folder_again_takes_only_what_is_new(small: Database, blobs: LocalBlobs, tmp_path: Path):
    folder = tmp_path / "backup"
    first = back_up(small, blobs, folder, START)
    [copied] = (folder / "blobs").rglob(digest("archive"))
    before = copied.stat().st_ino
    put_text(blobs, tmp_path, "another archive")
    add(small, Registry(small, FakeClock().utc), "second", archive=digest("another archive"))
    second = back_up(small, blobs, folder, START)
    assert copied.stat().st_ino == before
    assert (len(first.blobs), len(second.blobs)) == (1, 2)
    assert read_backup(folder) == second
    assert sorted(p.name for p in folder.iterdir()) == [HEAD_FILE, "blobs", second.tables]


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda folder: (folder / HEAD_FILE).unlink(), "is not a backup"),
        (lambda folder: (folder / HEAD_FILE).write_text("{}"), "has an invalid"),
        (lambda folder: next(folder.glob("tables-*")).write_text(""), "tables are damaged or lost"),
        (lambda folder: next(folder.glob("tables-*")).unlink(), "tables are damaged or lost"),
        (lambda folder: next((folder / "blobs").rglob(digest("archive"))).write_text(""), "damaged or lost blobs: 1"),
    ],
    ids=["no head", "another head", "rows changed", "rows gone", "a blob changed"],
)
def test_f18_a_backup_that_is_damaged_is_not_brought_back(
    small: Database, blobs: LocalBlobs, tmp_path: Path, harm: Callable[[Path], object], words: str
):
    back_up(small, blobs, tmp_path / "backup", START)
    harm(tmp_path / "backup")
    with pytest.raises(InvalidArgument, match=words):
        read_backup(tmp_path / "backup")


def test_a_backup_of_a_newer_limen_is_refused(small: Database, blobs: LocalBlobs, tmp_path: Path):
    back_up(small, blobs, tmp_path / "backup", START)
    head = tmp_path / "backup" / HEAD_FILE
    head.write_text(head.read_text().replace('"schema": "', '"schema": "9'))
    with pytest.raises(InvalidArgument, match="newer release of Limen"):
        read_backup(tmp_path / "backup")


def test_f18_a_blob_that_is_damaged_is_said_and_the_rest_is_copied(small: Database, blobs: LocalBlobs, tmp_path: Path):
    put_text(blobs, tmp_path, "good")
    add(small, Registry(small, FakeClock().utc), "second", archive=digest("good"))
    blobs.path(digest("archive")).write_bytes(b"damaged")
    made = back_up(small, blobs, tmp_path / "backup", START)
    assert made.lacking == (digest("archive"),)
    assert read_backup(tmp_path / "backup") == made
    there = LocalBlobs(tmp_path / "there")
    bring_back(tmp_path / "backup", made, f"sqlite:///{tmp_path}/again.db", there)
    assert there.is_whole(digest("good"))
    assert not there.has(digest("archive"))
