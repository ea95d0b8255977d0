"""Whether the file of a SQLite database is whole."""

from __future__ import annotations

from collections.abc import Iterator

import sqlalchemy as sa

from limen.storage.database import Database


def damages(database: Database) -> Iterator[str]:
    """Yield what is damaged, at most ten findings of each kind. A database server checks its own files."""
    with database.reading() as connection:
        if connection.dialect.name != "sqlite":
            return
        said = [row[0] for row in connection.execute(sa.text("PRAGMA integrity_check(10)"))]
        yield from (f"is damaged: {text}" for text in said if text != "ok")
        broken = connection.execute(sa.text("PRAGMA foreign_key_check")).all()
        yield from (f"is damaged: a row of {row[0]} refers to a missing row of {row[2]}" for row in broken[:10])
