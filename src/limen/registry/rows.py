"""Converts rows of the registry's tables to the values of `contracts.catalogue`. Reads only; `registry.registry` writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from limen.contracts.catalogue import Alias, Evidence, EvidenceKind, Lineage, Model, ModelVersion, Verdict
from limen.contracts.contract import Contract
from limen.registry.values import KeptNumbers
from limen.storage.schema import aliases, evidence, field_numbers, tags, version_states, versions

MODEL_ITSELF: Final = 0
"""The number under which `tags` keeps the tags of a model."""

_VERSION_ROWS: Final = sa.select(
    versions, version_states.c.is_retired, version_states.c.retired_reason, version_states.c.revision
).join(version_states, (versions.c.model == version_states.c.model) & (versions.c.number == version_states.c.number))


def read_versions(connection: sa.Connection, query: sa.Select[Any]) -> list[ModelVersion]:
    """Return the versions that a query over `version_rows` finds; all of one model."""
    rows = connection.execute(query).all()
    if not rows:
        return []
    model, numbers = rows[0].model, [row.number for row in rows]
    tagged = _tags(connection, tags.c.model == model, tags.c.number.in_(numbers))
    named: dict[int, list[str]] = {}
    query = sa.select(aliases).where(aliases.c.model == model, aliases.c.version.in_(numbers))
    for row in connection.execute(query.order_by(aliases.c.alias)):
        named.setdefault(row.version, []).append(row.alias)
    return [_version(row, tagged.get((model, row.number), {}), named.get(row.number, ())) for row in rows]


def version_rows(model: str) -> sa.Select[Any]:
    """Return the query for all versions of a model."""
    return _VERSION_ROWS.where(versions.c.model == model)


def _version(row: sa.Row[Any], tagged: dict[str, str], named: Sequence[str]) -> ModelVersion:
    return ModelVersion(
        model=row.model,
        number=row.number,
        digest=row.digest,
        size=row.size,
        major=row.major,
        contract=msgspec.json.decode(row.contract, type=Contract),
        backend=row.backend,
        needs_trust=row.needs_trust,
        lineage=msgspec.json.decode(row.lineage, type=Lineage),
        tags=tagged,
        aliases=tuple(named),
        signer=row.signer,
        is_retired=row.is_retired,
        retired_reason=row.retired_reason,
        created_at=row.created_at,
        created_by=row.created_by,
        revision=row.revision,
    )


def read_models(connection: sa.Connection, query: sa.Select[Any]) -> list[Model]:
    """Return the models that a query over `models` finds, with what their versions and aliases say."""
    rows = connection.execute(query).all()
    names = [row.name for row in rows]
    tagged = _tags(connection, tags.c.model.in_(names), tags.c.number == MODEL_ITSELF)
    named: dict[str, dict[str, int]] = {}
    query = sa.select(aliases).where(aliases.c.model.in_(names)).order_by(aliases.c.alias)
    for row in connection.execute(query):
        named.setdefault(row.model, {})[row.alias] = row.version
    counted = _counts(connection, names)
    found = []
    for row in rows:
        count, latest = counted.get(row.name, (0, 0))
        model = Model(
            name=row.name,
            title=row.title,
            owner=row.owner,
            tags=tagged.get((row.name, MODEL_ITSELF), {}),
            aliases=named.get(row.name, {}),
            latest=latest,
            versions=count,
            created_at=row.created_at,
            revision=row.revision,
        )
        found.append(model)
    return found


def _counts(connection: sa.Connection, names: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Return, by model, how many versions there are and the newest that is not retired."""
    newest = sa.func.max(sa.case((version_states.c.is_retired, 0), else_=version_states.c.number))
    query = sa.select(version_states.c.model, sa.func.count(), newest)
    query = query.where(version_states.c.model.in_(names)).group_by(version_states.c.model)
    return {model: (count, latest) for model, count, latest in connection.execute(query)}


def _tags(connection: sa.Connection, *conditions: sa.ColumnElement[bool]) -> dict[tuple[str, int], dict[str, str]]:
    found: dict[tuple[str, int], dict[str, str]] = {}
    for row in connection.execute(sa.select(tags).where(*conditions).order_by(tags.c.key)):
        found.setdefault((row.model, row.number), {})[row.key] = row.value
    return found


def has_tags(
    model: sa.ColumnElement[Any], number: sa.ColumnElement[Any] | int, wanted: Mapping[str, str]
) -> list[sa.ColumnElement[bool]]:
    """Return the conditions that something carries all of these tags."""
    one = sa.select(tags.c.key).where(tags.c.model == model, tags.c.number == number)
    return [one.where(tags.c.key == key, tags.c.value == value).exists() for key, value in wanted.items()]


def alias_of(row: sa.Row[Any]) -> Alias:
    """Return a row of `aliases`."""
    return Alias(
        model=row.model, alias=row.alias, version=row.version, revision=row.revision, updated_at=row.updated_at
    )


def read_evidence(connection: sa.Connection, *conditions: sa.ColumnElement[bool]) -> list[Evidence]:
    """Return pieces of evidence, oldest first."""
    rows = connection.execute(sa.select(evidence).where(*conditions).order_by(evidence.c.id))
    return [
        Evidence(
            id=row.id,
            model=row.model,
            version=row.version,
            kind=EvidenceKind(row.kind),
            verdict=Verdict(row.verdict),
            body=msgspec.json.decode(row.body),
            created_at=row.created_at,
            created_by=row.created_by,
        )
        for row in rows
    ]


def read_numbers(connection: sa.Connection, model: str, major: int) -> KeptNumbers:
    """Return the Protobuf numbers that the fields of a model and major were ever given."""
    query = sa.select(field_numbers).where(field_numbers.c.model == model, field_numbers.c.major == major)
    found: dict[str, dict[str, int]] = {"inputs": {}, "outputs": {}}
    for row in connection.execute(query.order_by(field_numbers.c.number)):
        found[row.side][row.field] = row.number
    return KeptNumbers(found["inputs"], found["outputs"])
