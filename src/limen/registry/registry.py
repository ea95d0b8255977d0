"""The registry: models, immutable versions, aliases, tags and evidence, in one database.

A version is a fact: its number, digest, contract and lineage are written once and never changed. Tags, aliases and retirement may
change, each with a revision that a caller can insist on. Reads open a connection of their own and see one moment; writes take the
connection of a transaction, so that a flow can join several of them and the audit of them.
Not here: files (`storage.blobs`), whether a package is good (`publishing.publisher`), and endpoints (`traffic.endpoint_store`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Final, overload

import msgspec
import sqlalchemy as sa

from limen.contracts.catalogue import Alias, Evidence, EvidenceKind, Model, ModelVersion
from limen.contracts.errors import AlreadyExists, NotAllowedNow, NotFound, Reason
from limen.contracts.names import is_number, parse_alias
from limen.registry.aliases import (
    drop_alias,
    ensure_fresh,
    ensure_unnamed,
    find_alias,
    no_alias,
    point_alias,
    read_moves,
)
from limen.registry.registering import is_taken, number_of, register
from limen.registry.rows import (
    MODEL_ITSELF,
    alias_of,
    has_tags,
    read_evidence,
    read_models,
    read_numbers,
    read_versions,
    version_rows,
)
from limen.registry.tags import check_tags, write_tags
from limen.registry.values import AliasMove, Identity, KeptNumbers, NewVersion, StoredArchive
from limen.storage.database import Database
from limen.storage.schema import aliases, evidence, identity, models, revisions, version_states, versions

MAX_SPANS: Final = 10


class Registry:
    """What exists, and what it is called. Safe to share between threads."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        """Work on an open database; `clock` gives the time with its zone."""
        self._database = database
        self._clock = clock

    # -- reads ---------------------------------------------------------------------------------------------------------------

    def revision(self) -> int:
        """Return a number that grows with every change of anything in the database, endpoints included."""
        with self._database.reading() as connection:
            return int(connection.execute(sa.select(revisions.c.value)).scalar_one())

    def identity(self) -> Identity:
        """Return which registry this is, and its revision at the same moment."""
        query = sa.select(identity.c.registry, revisions.c.value)
        with self._database.reading() as connection:
            row = connection.execute(query.select_from(identity.join(revisions, sa.true()))).one()
            return Identity(row.registry, row.value)

    def models(self, *, after: str = "", limit: int = 50, tags: Mapping[str, str] | None = None) -> list[Model]:
        """Return models by name, from the one after `after`, that carry all of these tags."""
        query = sa.select(models).where(models.c.name > after, *has_tags(models.c.name, MODEL_ITSELF, tags or {}))
        with self._database.reading() as connection:
            return read_models(connection, query.order_by(models.c.name).limit(limit))

    def count(self) -> int:
        """Return how many models there are."""
        with self._database.reading() as connection:
            return int(connection.execute(sa.select(sa.func.count()).select_from(models)).scalar_one())

    def model(self, name: str) -> Model:
        """Return one model or raise `NotFound`."""
        with self._database.reading() as connection:
            return _model(connection, name)

    def versions(
        self,
        model: str,
        *,
        before: int = 0,
        limit: int = 50,
        tags: Mapping[str, str] | None = None,
        include_retired: bool = False,
    ) -> list[ModelVersion]:
        """Return versions, newest first, from the one before number `before` (0: the newest), that carry all of these tags.

        Raises:
            NotFound: no such model.
        """
        query = version_rows(model).where(*has_tags(versions.c.model, versions.c.number, tags or {}))
        if before:
            query = query.where(versions.c.number < before)
        if not include_retired:
            query = query.where(~version_states.c.is_retired)
        with self._database.reading() as connection:
            found = read_versions(connection, query.order_by(versions.c.number.desc()).limit(limit))
            if not found:
                _model(connection, model)
            return found

    def version(self, model: str, number: int) -> ModelVersion:
        """Return one version, retired or not, or raise `NotFound`."""
        with self._database.reading() as connection:
            return _version(connection, model, number)

    def find(self, model: str, digest: str) -> ModelVersion | None:
        """Return the version that a package is already, retired or not; None when it is none."""
        with self._database.reading() as connection:
            number = number_of(connection, model, digest)
            return None if number is None else _version(connection, model, number)

    def resolve(self, model: str, reference: str) -> ModelVersion:
        """Return the version that a number or an alias names now, or raise `NotFound`."""
        with self._database.reading() as connection:
            if is_number(reference):
                return _version(connection, model, int(reference))
            alias = find_alias(connection, model, reference)
            if alias is None:
                _model(connection, model)
                raise no_alias(connection, model)
            return _version(connection, model, alias.version)

    def incumbent(self, model: str, major: int) -> ModelVersion | None:
        """Return the newest version of a major that is not retired: what a new one is compared with."""
        query = version_rows(model).where(versions.c.major == major, ~version_states.c.is_retired)
        with self._database.reading() as connection:
            found = read_versions(connection, query.order_by(versions.c.number.desc()).limit(1))
            return found[0] if found else None

    def numbers(self, model: str, major: int) -> KeptNumbers:
        """Return the Protobuf numbers that the fields of a model and major were ever given."""
        with self._database.reading() as connection:
            return read_numbers(connection, model, major)

    def archive_of(self, model: str, number: int) -> StoredArchive:
        """Return where the files of a version are, or raise `NotFound`."""
        query = sa.select(versions.c.digest, versions.c.archive, versions.c.signature, versions.c.size)
        with self._database.reading() as connection:
            row = connection.execute(query.where(versions.c.model == model, versions.c.number == number)).one_or_none()
            if row is None:
                raise _no_version(connection, model)
            return StoredArchive(digest=row.digest, archive=row.archive, signature=row.signature, size=row.size)

    def evidence(self, model: str, number: int, kind: EvidenceKind | None = None) -> list[Evidence]:
        """Return what was found out about a version, oldest first, or raise `NotFound`."""
        conditions = [evidence.c.model == model, evidence.c.version == number]
        if kind is not None:
            conditions.append(evidence.c.kind == kind)
        with self._database.reading() as connection:
            found = read_evidence(connection, *conditions)
            if not found:
                _version(connection, model, number)
            return found

    def aliases(self, model: str) -> list[Alias]:
        """Return the aliases of a model by name, or raise `NotFound`."""
        query = sa.select(aliases).where(aliases.c.model == model).order_by(aliases.c.alias)
        with self._database.reading() as connection:
            found = [alias_of(row) for row in connection.execute(query)]
            if not found:
                _model(connection, model)
            return found

    def alias_history(self, model: str, alias: str, *, before: int = 0, limit: int = 50) -> list[AliasMove]:
        """Return what became of an alias, newest first, from before a revision (0: the newest); also of one that is gone.

        Raises:
            NotFound: no such model.
        """
        with self._database.reading() as connection:
            found = read_moves(connection, model, alias, before=before, limit=limit)
            if not found:
                _model(connection, model)
            return found

    # -- writes --------------------------------------------------------------------------------------------------------------

    def add_version(self, connection: sa.Connection, new: NewVersion) -> ModelVersion:
        """Register a package as a version; the same package again gives the version that there is.

        Raises:
            AlreadyExists: the number belongs to another package, or the package has another number.
            Incompatible: a field asks for a Protobuf number that it cannot have.
        """
        check_tags(new.tags)
        name = new.contract.name
        number = number_of(connection, name, new.digest)
        if number is None:
            number = register(connection, new, self._clock())
            write_tags(connection, name, number, new.tags)
        elif new.number not in {None, number}:
            raise AlreadyExists(f"this package is already version {number}, and a version has only one number")
        return _version(connection, name, number)

    def add_evidence(self, connection: sa.Connection, new: Evidence) -> Evidence:
        """Keep a piece of evidence for ever and return it with its id.

        Raises:
            NotFound: there is no such version.
        """
        if not is_taken(connection, new.model, new.version):
            raise _no_version(connection, new.model)
        values = {
            "model": new.model,
            "version": new.version,
            "kind": new.kind,
            "verdict": new.verdict,
            "body": msgspec.json.encode(new.body).decode(),
            "created_at": new.created_at,
            "created_by": new.created_by,
        }
        done = connection.execute(evidence.insert().values(**values).returning(evidence.c.id))
        return msgspec.structs.replace(new, id=done.scalar_one())

    def set_alias(
        self, connection: sa.Connection, model: str, alias: str, version: int, *, expected: int | None, by: str
    ) -> Alias:
        """Make an alias point at a version.

        Args:
            expected: the revision of the alias that the caller saw; 0 when there must be none yet, None for whatever it is.

        Raises:
            InvalidArgument: not a name for an alias.
            NotFound: there is no such version.
            NotAllowedNow: RETIRED; the version is.
            Stale: the alias has moved meanwhile.
        """
        parse_alias(alias)
        if _version(connection, model, version).is_retired:
            raise NotAllowedNow(f"version {version} is retired; restore it first", reason=Reason.RETIRED)
        return point_alias(connection, model, alias, version, expected=expected, by=by, now=self._clock())

    def remove_alias(
        self, connection: sa.Connection, model: str, alias: str, *, expected: int | None, by: str = ""
    ) -> None:
        """Remove an alias.

        Raises:
            NotFound: there is no such alias.
            Stale: it has moved meanwhile.
        """
        drop_alias(connection, model, alias, expected=expected, by=by, now=self._clock())

    @overload
    def set_tags(
        self,
        connection: sa.Connection,
        model: str,
        number: None,
        tags: Mapping[str, str | None],
        *,
        expected: int | None,
        by: str = "",
    ) -> Model: ...

    @overload
    def set_tags(
        self,
        connection: sa.Connection,
        model: str,
        number: int,
        tags: Mapping[str, str | None],
        *,
        expected: int | None,
        by: str = "",
    ) -> ModelVersion: ...

    def set_tags(
        self,
        connection: sa.Connection,
        model: str,
        number: int | None,
        tags: Mapping[str, str | None],
        *,
        expected: int | None,
        by: str = "",
    ) -> Model | ModelVersion:
        """Set tags of a version, or of the model without a number, and remove those that are None; the others stay.

        Raises:
            InvalidArgument: a tag is not one.
            NotFound: no such model or version.
            Stale: it has changed meanwhile.
        """
        check_tags(tags)
        seen = _model(connection, model) if number is None else _version(connection, model, number)
        ensure_fresh(seen.revision, expected)
        write_tags(connection, model, MODEL_ITSELF if number is None else number, tags)
        if isinstance(seen, ModelVersion):
            return self._change(connection, seen, by=by)
        connection.execute(models.update().where(models.c.name == model).values(revision=seen.revision + 1))
        return _model(connection, model)

    def retire(
        self, connection: sa.Connection, model: str, number: int, reason: str, *, expected: int | None, by: str
    ) -> ModelVersion:
        """Retire a version; it can be restored.

        Raises:
            NotFound: there is no such version.
            NotAllowedNow: IN_USE; an alias points at it.
            Stale: it has changed meanwhile.
        """
        seen = _version(connection, model, number)
        ensure_fresh(seen.revision, expected)
        if seen.is_retired:
            return seen
        ensure_unnamed(connection, model, number)
        return self._change(connection, seen, by=by, is_retired=True, retired_reason=reason)

    def restore(
        self, connection: sa.Connection, model: str, number: int, *, expected: int | None, by: str
    ) -> ModelVersion:
        """Restore a retired version.

        Raises:
            NotFound: there is no such version.
            Stale: it has changed meanwhile.
        """
        seen = _version(connection, model, number)
        ensure_fresh(seen.revision, expected)
        return self._change(connection, seen, by=by, is_retired=False, retired_reason="") if seen.is_retired else seen

    def _change(self, connection: sa.Connection, seen: ModelVersion, *, by: str, **values: str | bool) -> ModelVersion:
        its = (version_states.c.model == seen.model, version_states.c.number == seen.number)
        changed = {"revision": seen.revision + 1, "updated_at": self._clock(), "updated_by": by}
        connection.execute(version_states.update().where(*its).values(**values, **changed))
        return _version(connection, seen.model, seen.number)


def _model(connection: sa.Connection, name: str) -> Model:
    found = read_models(connection, sa.select(models).where(models.c.name == name))
    if not found:
        raise NotFound("no such model")
    return found[0]


def _version(connection: sa.Connection, model: str, number: int) -> ModelVersion:
    found = read_versions(connection, version_rows(model).where(versions.c.number == number))
    if not found:
        raise _no_version(connection, model)
    return found[0]


def _no_version(connection: sa.Connection, model: str) -> NotFound:
    """Return an error that says which versions there are."""
    _model(connection, model)
    query = sa.select(versions.c.number).where(versions.c.model == model).order_by(versions.c.number)
    return NotFound(f"{model} has no such version; it has {spans(list(connection.scalars(query)))}")


def spans(numbers: Sequence[int]) -> str:
    """Return ascending numbers for people, with runs as spans: `1 to 4, 6`; of many spans the last ones."""
    found: list[tuple[int, int]] = []
    for number in numbers:
        if found and found[-1][1] == number - 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    parts = [str(first) if first == last else f"{first} to {last}" for first, last in found]
    return ", ".join(["…"] * (len(parts) > MAX_SPANS) + parts[-MAX_SPANS:]) or "none"
