"""Aliases: movable names of versions. Every move is kept, and a revision is never reused.

For `registry.registry`; functions over the connection of a transaction.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from limen.contracts.catalogue import Alias
from limen.contracts.errors import NotAllowedNow, NotFound, Reason, Stale
from limen.registry.rows import alias_of
from limen.registry.values import AliasMove
from limen.storage.schema import alias_moves, aliases


def find_alias(connection: sa.Connection, model: str, alias: str) -> Alias | None:
    """Return an alias as it is now."""
    query = sa.select(aliases).where(aliases.c.model == model, aliases.c.alias == alias)
    row = connection.execute(query).one_or_none()
    return None if row is None else alias_of(row)


def no_alias(connection: sa.Connection, model: str) -> NotFound:
    """Return an error that says which aliases a model has."""
    there = connection.scalars(sa.select(aliases.c.alias).where(aliases.c.model == model).order_by(aliases.c.alias))
    return NotFound(f"{model} has no such alias; its aliases: {', '.join(there) or 'none'}")


def read_moves(connection: sa.Connection, model: str, alias: str, *, before: int, limit: int) -> list[AliasMove]:
    """Return what became of an alias, newest first, from before a revision (0: the newest)."""
    query = sa.select(alias_moves).where(alias_moves.c.model == model, alias_moves.c.alias == alias)
    if before:
        query = query.where(alias_moves.c.revision < before)
    rows = connection.execute(query.order_by(alias_moves.c.revision.desc()).limit(limit))
    return [
        AliasMove(revision=row.revision, version=row.version, moved_at=row.moved_at, moved_by=row.moved_by)
        for row in rows
    ]


def point_alias(
    connection: sa.Connection, model: str, alias: str, version: int, *, expected: int | None, by: str, now: datetime
) -> Alias:
    """Make an alias point at a version; nothing happens when it does already.

    Raises:
        Stale: it is not at the revision that the caller saw.
    """
    seen = find_alias(connection, model, alias)
    ensure_fresh(seen.revision if seen else 0, expected)
    if seen is not None and seen.version == version:
        return seen
    made = Alias(
        model=model, alias=alias, version=version, revision=_next_revision(connection, model, alias), updated_at=now
    )
    values: dict[str, Any] = {"version": version, "revision": made.revision, "updated_at": now}
    if seen is None:
        connection.execute(aliases.insert().values(model=model, alias=alias, **values))
    else:
        connection.execute(aliases.update().where(*_is(model, alias)).values(**values))
    _keep_move(connection, model, alias, version, made.revision, by=by, now=now)
    return made


def drop_alias(
    connection: sa.Connection, model: str, alias: str, *, expected: int | None, by: str, now: datetime
) -> None:
    """Remove an alias; its history stays.

    Raises:
        NotFound: there is no such alias.
        Stale: it is not at the revision that the caller saw.
    """
    seen = find_alias(connection, model, alias)
    if seen is None:
        raise no_alias(connection, model)
    ensure_fresh(seen.revision, expected)
    revision = _next_revision(connection, model, alias)
    connection.execute(aliases.delete().where(*_is(model, alias)))
    _keep_move(connection, model, alias, None, revision, by=by, now=now)


def ensure_unnamed(connection: sa.Connection, model: str, number: int) -> None:
    """Raise `NotAllowedNow` when an alias points at a version."""
    query = sa.select(aliases.c.alias).where(aliases.c.model == model, aliases.c.version == number)
    names = connection.execute(query.order_by(aliases.c.alias)).scalars().all()
    if names:
        text = f"the alias {names[0]} points to it; move the alias first"
        raise NotAllowedNow(text, reason=Reason.IN_USE)


def ensure_fresh(revision: int, expected: int | None) -> None:
    """Raise `Stale` when something is not at the revision that the caller saw; None asks for nothing."""
    if expected is not None and expected != revision:
        raise Stale


def _is(model: str, alias: str) -> tuple[sa.ColumnElement[bool], ...]:
    return aliases.c.model == model, aliases.c.alias == alias


def _next_revision(connection: sa.Connection, model: str, alias: str) -> int:
    query = sa.select(sa.func.coalesce(sa.func.max(alias_moves.c.revision), 0))
    query = query.where(alias_moves.c.model == model, alias_moves.c.alias == alias)
    return int(connection.execute(query).scalar_one()) + 1


def _keep_move(
    connection: sa.Connection, model: str, alias: str, version: int | None, revision: int, *, by: str, now: datetime
) -> None:
    move = {"model": model, "alias": alias, "revision": revision, "version": version, "moved_at": now, "moved_by": by}
    connection.execute(alias_moves.insert().values(**move))
