"""Alembic migrations of the tables, run when a database is opened.

A new revision is a module in `versions`; `HEAD` names the newest one, so that Alembic is only loaded when there is something to do.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import sqlalchemy as sa

from limen.contracts.errors import Reason, Unavailable
from limen.storage import causes

HEAD: Final = "0002"
_LOCK: Final = 0x6C696D656E
"""Names our advisory lock on PostgreSQL ("limen")."""


def upgrade(connection: sa.Connection, to: str = HEAD) -> None:
    """Bring the tables to the newest revision, or an older one, inside the transaction of the connection.

    Two processes that open a database at once stand in line here.

    Raises:
        Unavailable: STORAGE, when a newer Limen has changed the database.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
    if not is_current(connection):
        _ensure_ours(connection)
        _run(connection, to)


def is_current(connection: sa.Connection) -> bool:
    """Tell whether the tables are at the newest revision."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return False
    return connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar() == HEAD


def _ensure_ours(connection: sa.Connection) -> None:
    """Leave a database of another program as it is. A PostgreSQL database may be shared, as long as the other one uses no Alembic."""
    tables = set(sa.inspect(connection).get_table_names())
    is_versioned = "alembic_version" in tables
    if "revisions" not in tables and (is_versioned or (tables and connection.dialect.name == "sqlite")):
        raise Unavailable(f"the registry's database {causes.OF_ANOTHER}", reason=Reason.STORAGE)


def _run(connection: sa.Connection, to: str) -> None:
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    script = ScriptDirectory.from_config(config)

    def steps(current: object, _context: object) -> object:
        return script._upgrade_revs(to, current)  # type: ignore[arg-type] # noqa: SLF001 - as Alembic's manual does it

    try:
        with EnvironmentContext(config, script, fn=steps) as environment:
            environment.configure(connection=connection)
            environment.run_migrations()
    except CommandError as exc:
        text = f"the registry's database {causes.NEWER}"
        raise Unavailable(text, reason=Reason.STORAGE) from exc
