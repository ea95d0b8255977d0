"""The one database of a registry: SQLite in the home folder, or PostgreSQL.

A transaction is the only way to write, and there is one writer at a time: SQLite takes the write lock with BEGIN IMMEDIATE,
PostgreSQL the row of `revisions`, which every transaction updates first. So a number that a transaction reads is still true
when it commits, and `revision` grows with every change of anything.
Blocking: callers that are asynchronous use a thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Self

import sqlalchemy as sa

from limen.contracts.errors import InvalidArgument, InvalidPackage, LimenError, NotFound, Reason
from limen.storage import causes
from limen.storage.config import SQLITE
from limen.storage.database_faults import database_faults
from limen.storage.faults import file_faults, unavailable
from limen.storage.migrations import HEAD, is_current, upgrade
from limen.storage.postgresql import bound_waits
from limen.storage.private import make_private_file, make_private_folder
from limen.storage.schema import revisions

BUSY_TIMEOUT_S: Final = 5.0
_WRITES: Final = "limen_writes"
_POSTGRESQL: Final = "postgresql+psycopg"


class Database:
    """An open database whose tables are up to date."""

    def __init__(self, engine: sa.Engine) -> None:
        """Take an engine that `open` made."""
        self._engine = engine
        self._file = Path(_place(engine)) if _place(engine) else None
        self._mark = self._look()

    @classmethod
    def open(cls, url: str, *, create: bool = True, busy_timeout_s: float = BUSY_TIMEOUT_S, schema: str = HEAD) -> Self:
        """Open a database and bring its tables up to date.

        Args:
            url: `sqlite:////folder/limen.db` or `postgresql://…`.
            create: make the database file when there is none.
            busy_timeout_s: how long a writer waits for its turn, and a connection for its server.
            schema: the revision that the tables are brought to, where they are not newer.

        Raises:
            InvalidArgument: not an address of a database that Limen knows.
            InvalidPackage: MISSING_DEPENDENCY, when the driver is not installed.
            NotFound: there is no database file and none is to be made.
            Unavailable: STORAGE; it cannot be reached, or was written by a newer Limen.
        """
        address = _parse(url)
        if address.get_backend_name() == "sqlite":
            _prepare_file(Path(address.database or ""), create=create)
        with database_faults():
            engine = _engine(address, busy_timeout_s)
        try:
            _upgrade(engine, schema)
        except LimenError as exc:
            exc.place = exc.place or _place(engine)
            engine.dispose()
            raise
        except BaseException:
            engine.dispose()
            raise
        return cls(engine)

    @classmethod
    def in_memory(cls) -> Self:
        """Return an empty database that is gone when it is closed. All threads share its one connection, so they must take turns."""
        engine = sa.create_engine("sqlite://", poolclass=sa.pool.StaticPool, connect_args={"check_same_thread": False})
        sa.event.listen(engine, "connect", _prepare_sqlite)
        sa.event.listen(engine, "begin", _begin_sqlite)
        _upgrade(engine)
        return cls(engine)

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """Give the one writer's connection; commit at the end of the block, or roll back when it raises.

        An `Unavailable` from the end of the block leaves open whether the commit arrived: an idempotency key resolves it.

        Raises:
            Unavailable: STORAGE; nothing was changed unless the commit itself was cut off.
        """
        self._ensure_there()
        with database_faults(_place(self._engine)), _begun(self._engine, writes=True) as connection:
            connection.execute(revisions.update().values(value=revisions.c.value + 1))
            yield connection

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Give a connection that sees one moment and writes nothing.

        Raises:
            Unavailable: STORAGE.
        """
        self._ensure_there()
        with database_faults(_place(self._engine)), _begun(self._engine, writes=False) as connection:
            yield connection

    def _look(self) -> tuple[int, int] | None:
        """Return what tells the file of the database from another one at its place; None when there is none."""
        with suppress(OSError):
            facts = self._file.stat() if self._file is not None else None
            return (facts.st_dev, facts.st_ino) if facts is not None else None
        return None

    def _ensure_there(self) -> None:
        """Work on the file that is at its place: an open one that was removed would take changes that nobody ever sees again.

        Raises:
            Unavailable: STORAGE; it is gone, or what has taken its place cannot be used.
        """
        if self._file is None or (found := self._look()) == self._mark:
            return
        if found is None:
            raise unavailable(f"the registry's database {causes.GONE}", place=str(self._file))
        self._engine.dispose()
        _upgrade(self._engine)
        self._mark = found

    def close(self) -> None:
        """Close what is open."""
        self._engine.dispose()


def _parse(url: str) -> sa.URL:
    if url.startswith(SQLITE):
        # The rest is a path as it is: taken apart as an address, a `?` in the name of a folder would end it.
        return sa.URL.create("sqlite", database=url.removeprefix(SQLITE))
    try:
        address = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):
        address = None  # and not the cause: its text is the address, which may hold a password
    if address is None or address.drivername not in {"postgresql", "postgres", _POSTGRESQL}:
        raise InvalidArgument.at("database_url", "must be sqlite:////FOLDER/FILE or postgresql://HOST/NAME")
    return address.set(drivername=_POSTGRESQL)


def _place(engine: sa.Engine) -> str:
    """Return the file of a database; nothing for one that is reached over a network, whose address may hold a password."""
    return (engine.url.database or "") if engine.dialect.name == "sqlite" else ""


def _upgrade(engine: sa.Engine, schema: str = HEAD) -> None:
    """Bring the tables up to date; a database that is locked by a writer can be opened when there is nothing to do."""
    with database_faults(_place(engine)):
        with _begun(engine, writes=False) as connection:
            if is_current(connection):
                return
        with _begun(engine, writes=True) as connection:
            upgrade(connection, schema)


def _prepare_file(path: Path, *, create: bool) -> None:
    with file_faults("the registry's folder"):
        if create:
            make_private_folder(path.parent)
            # SQLite gives its other files the rights of this one.
            make_private_file(path)
        elif not path.is_file():
            raise NotFound("no registry here yet")


def _engine(address: sa.URL, busy_timeout_s: float) -> sa.Engine:
    if address.get_backend_name() == "sqlite":
        engine = sa.create_engine(address, hide_parameters=True, connect_args={"timeout": busy_timeout_s})
        sa.event.listen(engine, "connect", _prepare_sqlite)
        sa.event.listen(engine, "begin", _begin_sqlite)
        return engine
    wait_s = max(1, round(busy_timeout_s))
    options = {"connect_timeout": wait_s, "options": f"-c lock_timeout={round(busy_timeout_s * 1000)}"}
    try:
        engine = sa.create_engine(address, hide_parameters=True, pool_pre_ping=True, connect_args=options)
        bound_waits(engine, busy_timeout_s)
    except ModuleNotFoundError as exc:
        text = "PostgreSQL needs psycopg: pip install 'limen[postgres]'"
        raise InvalidPackage(text, reason=Reason.MISSING_DEPENDENCY) from exc
    return engine


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # transactions are begun by us
    for setting in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {setting}").close()


def _begin_sqlite(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextmanager
def _begun(engine: sa.Engine, *, writes: bool) -> Iterator[sa.Connection]:
    options: dict[str, Any] = {_WRITES: writes}
    if engine.dialect.name == "postgresql" and not writes:
        options |= {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    with engine.connect() as connection:
        connection.execution_options(**options)
        with connection.begin():
            yield connection
