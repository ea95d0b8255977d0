"""Opening, migrating, locking and losing a database."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from limen.contracts.catalogue import ModelVersion
from limen.contracts.errors import InvalidArgument, LimenError, NotFound, Reason, Stale, Unavailable
from limen.registry.registry import Registry
from limen.storage import database as module
from limen.storage import migrations
from limen.storage.database import Database
from limen.storage.schema import metadata, revisions
from limen.testing.clock import FakeClock
from tests.conformance.registry.making import add, contract, digest, new_version
from tests.services.postgres import Postgres

Open = Callable[..., Database]
WRITERS = 8


# -- migrations --------------------------------------------------------------------------------------------------------------


def test_all_migrations_make_the_schema_that_is_described(new_address: Callable[[], str], open_database: Open):
    migrated = open_database(new_address())
    fresh = module._engine(module._parse(new_address()), 5)
    try:
        metadata.create_all(fresh)
        assert described(migrated._engine) == described(fresh)
    finally:
        fresh.dispose()


def described(engine: sa.Engine) -> dict[str, object]:
    """Return everything about the tables but their triggers, which only the migrations make."""
    inspector = sa.inspect(engine)
    found: dict[str, object] = {}
    for table in sorted(set(inspector.get_table_names()) - {"alembic_version"}):
        columns = [
            (c["name"], str(c["type"]), getattr(c["type"], "collation", None), c["nullable"])
            for c in inspector.get_columns(table)
        ]
        keys = [inspector.get_pk_constraint(table), inspector.get_foreign_keys(table)]
        others = [inspector.get_unique_constraints(table), inspector.get_indexes(table)]
        found[table] = (columns, *(sorted(map(str, key)) if isinstance(key, list) else key for key in keys + others))
    return found


def test_the_newest_migration_is_the_one_that_opening_looks_for():
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    assert ScriptDirectory.from_config(config).get_heads() == [migrations.HEAD]


def test_opening_again_changes_nothing(address: str, open_database: Open, clock: FakeClock):
    first = open_database(address)
    add(first, Registry(first, clock.utc))
    again = open_database(address)
    assert Registry(again, clock.utc).version("credit", 1).digest == digest("first")


def test_many_may_open_a_new_database_at_once(address: str, open_database: Open):
    opened = at_once([lambda: open_database(address) for _ in range(WRITERS)])
    for database in opened:
        assert isinstance(database, Database)
        with database.reading() as connection:
            assert connection.execute(sa.select(sa.func.count()).select_from(revisions)).scalar_one() == 1


def test_a_database_of_a_newer_limen_is_refused(address: str, open_database: Open):
    with open_database(address).transaction() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(Unavailable, match="newer") as refused:
        open_database(address)
    assert refused.value.reason is Reason.STORAGE


@pytest.mark.parametrize(
    "url", ["", "limen.db", "mysql://root:hunter2@host/x", "postgresql://a:hunter2@[::1", "sqlite:memory", "sqlite://"]
)
def test_an_address_that_is_none_is_refused_without_showing_it(url: str):
    with pytest.raises(InvalidArgument) as refused:
        Database.open(url)
    assert refused.value.violations[0].path == "database_url"
    assert "hunter2" not in str(refused.value)
    assert refused.value.__cause__ is None


def test_a_database_that_is_only_read_is_not_made(tmp_path: Path):
    with pytest.raises(NotFound):
        Database.open(f"sqlite:///{tmp_path}/none/limen.db", create=False)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_may_have_any_name(tmp_path: Path, open_database: Open):
    folder = tmp_path / "what? 100% #1 é"
    open_database(f"sqlite:///{folder}/limen.db")
    assert (folder / "limen.db").is_file()


def test_sqlite_keeps_what_it_acknowledged_through_a_power_cut(tmp_path: Path, open_database: Open):
    with open_database(f"sqlite:///{tmp_path}/limen.db").reading() as connection:
        settings = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        ]
    assert settings == ["wal", 2, 1]


# -- many writers ------------------------------------------------------------------------------------------------------------


def at_once(works: list[Callable[[], object]]) -> list[object]:
    """Run works at the same time and return what each gave, or the error it raised."""
    barrier = threading.Barrier(len(works))
    given: list[object] = [None] * len(works)

    def run(i: int) -> None:
        barrier.wait()
        try:
            given[i] = works[i]()
        except LimenError as error:
            given[i] = error

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return given


def test_packages_published_at_once_get_consecutive_numbers(address: str, open_database: Open, clock: FakeClock):
    # A connection of its own each, as processes of their own have.
    databases = [open_database(address) for _ in range(WRITERS)]
    made = at_once(
        [
            lambda database=database, i=i: [add(database, Registry(database, clock.utc), f"{i} {n}") for n in range(3)]
            for i, database in enumerate(databases)
        ]
    )
    versions = [version for each in made for version in each]
    assert sorted(version.number for version in versions) == list(range(1, 3 * WRITERS + 1))


def test_b99_one_package_published_at_once_is_one_version(address: str, open_database: Open, clock: FakeClock):
    databases = [open_database(address) for _ in range(WRITERS)]
    made = at_once([lambda database=database: add(database, Registry(database, clock.utc)) for database in databases])
    assert all(isinstance(version, ModelVersion) and version.number == 1 for version in made)


def test_b79_of_two_who_move_an_alias_at_once_one_wins(address: str, open_database: Open, clock: FakeClock):
    databases = [open_database(address) for _ in range(2)]
    registries = [Registry(database, clock.utc) for database in databases]
    for content in ("a", "b", "c"):
        add(databases[0], registries[0], content)

    def move(who: int, version: int, expected: int | None) -> int:
        with databases[who].transaction() as connection:
            alias = registries[who].set_alias(connection, "credit", "champion", version, expected=expected, by="ada")
            return alias.revision

    for _ in range(5):
        seen = move(0, 3, None)
        given = at_once([lambda who=who, seen=seen: move(who, who + 1, seen) for who in range(2)])
        assert [revision for revision in given if not isinstance(revision, Stale)] == [seen + 1]


# -- faults ------------------------------------------------------------------------------------------------------------------


@contextmanager
def locked(address: str) -> Iterator[None]:
    """Hold the write lock of a database as a stranger would."""
    engine = module._engine(module._parse(address), 5)
    try:
        with engine.connect() as connection:
            if engine.dialect.name == "postgresql":
                connection.execute(sa.select(revisions).with_for_update())
            else:
                connection.exec_driver_sql("ROLLBACK")
                connection.exec_driver_sql("BEGIN EXCLUSIVE")
            yield
            connection.rollback()
    finally:
        engine.dispose()


def test_f15_while_someone_holds_the_lock_reads_go_on_and_writes_are_refused(
    address: str, open_database: Open, clock: FakeClock
):
    made = add(first := open_database(address), Registry(first, clock.utc))
    with locked(address):
        database = open_database(address, busy_timeout_s=0.05)
        registry = Registry(database, clock.utc)
        assert registry.version("credit", 1) == made
        with pytest.raises(Unavailable, match="locked") as refused:
            add(database, registry, "b")
    assert refused.value.reason is Reason.STORAGE
    assert refused.value.retry_after_s
    assert add(database, registry, "b").number == 2


@pytest.mark.parametrize("url", ["postgresql://ada:hunter2@127.0.0.1:1/limen", "sqlite:////proc/none/limen.db"])
def test_f17_a_database_that_is_not_there_is_told_without_its_address(url: str):
    with pytest.raises(Unavailable) as refused:
        Database.open(url)
    assert refused.value.reason is Reason.STORAGE
    for secret in ("hunter2", "127.0.0.1", "/proc", "ada"):
        assert secret not in str(refused.value)


def test_a_file_that_is_no_database_is_told(tmp_path: Path):
    (tmp_path / "limen.db").write_bytes(b"not a database, but long enough to be looked at" * 100)
    with pytest.raises(Unavailable):
        Database.open(f"sqlite:///{tmp_path}/limen.db")


def test_f16_a_server_that_crashed_is_used_again_when_it_is_back(
    postgres_server: Postgres, open_database: Open, clock: FakeClock
):
    database = open_database(postgres_server.new_database())
    registry = Registry(database, clock.utc)
    made = add(database, registry)
    postgres_server.crash()
    try:
        for work in (lambda: registry.version("credit", 1), lambda: add(database, registry, "b")):
            with pytest.raises(Unavailable) as refused:
                work()
            assert refused.value.reason is Reason.STORAGE
    finally:
        postgres_server.start()
    assert registry.version("credit", 1) == made
    assert add(database, registry, "b").number == 2


def test_f16_a_crash_that_nobody_noticed_is_noticed_by_nobody(
    postgres_server: Postgres, open_database: Open, clock: FakeClock
):
    database = open_database(postgres_server.new_database())
    registry = Registry(database, clock.utc)
    made = add(database, registry)
    postgres_server.crash()
    postgres_server.start()
    assert registry.version("credit", 1) == made


def test_f16_a_server_that_crashes_in_a_transaction_undoes_it(
    postgres_server: Postgres, open_database: Open, clock: FakeClock
):
    database = open_database(postgres_server.new_database())
    registry = Registry(database, clock.utc)
    add(database, registry)
    try:
        with pytest.raises(Unavailable):
            crash_while_adding(postgres_server, database, registry)
    finally:
        postgres_server.start()
    assert [version.number for version in registry.versions("credit")] == [1]
    assert registry.numbers("credit", 1).inputs == {"amount": 1, "age": 2}


def crash_while_adding(server: Postgres, database: Database, registry: Registry) -> None:
    with database.transaction() as connection:
        registry.add_version(connection, new_version("b", contract(inputs="amount income")))
        server.crash()


# -- the file ----------------------------------------------------------------------------------------------------------------


def test_f17_a_file_that_is_removed_under_an_open_database_is_missed(
    tmp_path: Path, open_database: Open, clock: FakeClock
):
    database = open_database(f"sqlite:///{tmp_path}/limen.db")
    for path in tmp_path.glob("limen.db*"):
        path.unlink()
    for work in (database.reading, database.transaction):
        with pytest.raises(Unavailable, match="is gone"), work():
            pass
    assert list(tmp_path.iterdir()) == []


def test_f17_a_file_that_takes_the_place_of_another_is_the_one_that_is_used(
    tmp_path: Path, open_database: Open, clock: FakeClock
):
    database = open_database(f"sqlite:///{tmp_path}/limen.db")
    add(database, Registry(database, clock.utc))
    other = open_database(f"sqlite:///{tmp_path}/other.db")
    other.close()
    for path in tmp_path.glob("limen.db-*"):
        path.unlink()
    (tmp_path / "other.db").replace(tmp_path / "limen.db")
    assert Registry(database, clock.utc).models() == []
    add(database, Registry(database, clock.utc), "second")
    assert Registry(open_database(f"sqlite:///{tmp_path}/limen.db"), clock.utc).version("credit", 1).digest == digest(
        "second"
    )


def test_every_registry_has_an_id_of_its_own(new_address: Callable[[], str], open_database: Open, clock: FakeClock):
    addresses = [new_address(), new_address()]
    first, second = (Registry(open_database(address), clock.utc).identity().registry for address in addresses)
    assert first != second
    assert Registry(open_database(addresses[0]), clock.utc).identity().registry == first


def test_a_database_of_the_release_before_gets_an_id_and_keeps_everything(
    new_address: Callable[[], str], open_database: Open, clock: FakeClock
):
    address = new_address()
    old = Database.open(address, schema="0001")
    add(old, Registry(old, clock.utc))
    old.close()
    new = Registry(open_database(address), clock.utc)
    assert (new.version("credit", 1).digest, new.identity().revision) == (digest("first"), 1)
    assert len(new.identity().registry) == 32
