"""Endpoints in the registry's database: their current specs and complete history.

Reads open a connection of their own; writes take the connection of a transaction, as in `registry.registry`. Whether the versions
that a spec names exist is unknown: `serving` asks the registry in the same transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa

from limen.contracts.endpoint import EndpointSpec
from limen.contracts.errors import NotFound, Stale
from limen.contracts.management import EndpointRevision
from limen.storage.database import Database
from limen.storage.schema import endpoint_revisions, endpoints


class StoredEndpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A spec and since when it holds."""

    spec: EndpointSpec
    revision: int
    """Grows with every change, and goes on where an endpoint is made anew; the entity tag."""
    created_at: datetime
    updated_at: datetime
    updated_by: str


class EndpointStore:
    """The specs of endpoints, with their history. Safe to share between threads."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        """Work on an open database; `clock` gives the time with its zone."""
        self._database = database
        self._clock = clock

    def list(self, *, after: str = "", limit: int | None = None) -> list[StoredEndpoint]:
        """Return endpoints by name, from the one after `after`; all of them without a limit."""
        query = sa.select(endpoints).where(endpoints.c.name > after).order_by(endpoints.c.name).limit(limit)
        with self._database.reading() as connection:
            return [_endpoint(row) for row in connection.execute(query)]

    def get(self, name: str) -> StoredEndpoint:
        """Return one endpoint or raise `NotFound`."""
        with self._database.reading() as connection:
            found = _find(connection, name)
        if found is None:
            raise _not_found()
        return found

    def history(self, name: str, *, before: int = 0, limit: int = 50) -> Sequence[EndpointRevision]:
        """Return what became of an endpoint, newest first, from before a revision (0: the newest); also of one that is gone.

        Raises:
            NotFound: there never was one by that name.
        """
        query = sa.select(endpoint_revisions).where(endpoint_revisions.c.name == name)
        if before:
            query = query.where(endpoint_revisions.c.revision < before)
        with self._database.reading() as connection:
            rows = connection.execute(query.order_by(endpoint_revisions.c.revision.desc()).limit(limit)).all()
            if not rows and not _last_revision(connection, name):
                raise _not_found()
        return [
            EndpointRevision(
                revision=row.revision,
                spec=None if row.spec is None else _decode(row.spec),
                changed_at=row.changed_at,
                changed_by=row.changed_by,
            )
            for row in rows
        ]

    def apply(self, connection: sa.Connection, spec: EndpointSpec, *, expected: int | None, by: str) -> StoredEndpoint:
        """Apply a spec; nothing happens when it does already.

        Args:
            expected: the revision that the caller saw; 0 when there must be no such endpoint yet, None for whatever there is.

        Raises:
            Stale: it has changed meanwhile.
        """
        seen = _find(connection, spec.name)
        _ensure_fresh(seen, expected)
        if seen is not None and seen.spec == spec:
            return seen
        now = self._clock()
        revision = _last_revision(connection, spec.name) + 1
        text = msgspec.json.encode(spec).decode()
        values: dict[str, Any] = {"spec": text, "revision": revision, "updated_at": now, "updated_by": by}
        if seen is None:
            connection.execute(endpoints.insert().values(name=spec.name, created_at=now, **values))
        else:
            connection.execute(endpoints.update().where(endpoints.c.name == spec.name).values(**values))
        _keep(connection, spec.name, revision, text, by=by, now=now)
        created_at = now if seen is None else seen.created_at
        return StoredEndpoint(spec=spec, revision=revision, created_at=created_at, updated_at=now, updated_by=by)

    def remove(self, connection: sa.Connection, name: str, *, expected: int | None, by: str = "") -> None:
        """Remove an endpoint; its history stays.

        Raises:
            NotFound: no such endpoint.
            Stale: it has changed meanwhile.
        """
        seen = _find(connection, name)
        if seen is None:
            raise _not_found()
        _ensure_fresh(seen, expected)
        connection.execute(endpoints.delete().where(endpoints.c.name == name))
        _keep(connection, name, seen.revision + 1, None, by=by, now=self._clock())


def _find(connection: sa.Connection, name: str) -> StoredEndpoint | None:
    row = connection.execute(sa.select(endpoints).where(endpoints.c.name == name)).one_or_none()
    return None if row is None else _endpoint(row)


def _endpoint(row: sa.Row[Any]) -> StoredEndpoint:
    return StoredEndpoint(
        spec=_decode(row.spec),
        revision=row.revision,
        created_at=row.created_at,
        updated_at=row.updated_at,
        updated_by=row.updated_by,
    )


def _decode(text: str) -> EndpointSpec:
    return msgspec.json.decode(text, type=EndpointSpec)


def _last_revision(connection: sa.Connection, name: str) -> int:
    query = sa.select(sa.func.coalesce(sa.func.max(endpoint_revisions.c.revision), 0))
    return int(connection.execute(query.where(endpoint_revisions.c.name == name)).scalar_one())


def _keep(connection: sa.Connection, name: str, revision: int, spec: str | None, *, by: str, now: datetime) -> None:
    change = {"name": name, "revision": revision, "spec": spec, "changed_at": now, "changed_by": by}
    connection.execute(endpoint_revisions.insert().values(**change))


def _ensure_fresh(seen: StoredEndpoint | None, expected: int | None) -> None:
    if expected is not None and expected != (seen.revision if seen else 0):
        raise Stale


def _not_found() -> NotFound:
    return NotFound("no such endpoint")
