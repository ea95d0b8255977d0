"""Registers a package as a version: assigns its number and the permanent Protobuf numbers of its fields.

Functions over the connection of a transaction, which is the only writer, for `registry.registry`.
"""

from __future__ import annotations

from datetime import datetime

import msgspec
import sqlalchemy as sa

from limen.contracts.compatibility.field_numbers import Numbered, keep_numbers
from limen.contracts.contract import Contract
from limen.contracts.errors import AlreadyExists
from limen.registry.rows import read_numbers
from limen.registry.values import KeptNumbers, NewVersion
from limen.storage.schema import field_numbers, models, version_states, versions


def number_of(connection: sa.Connection, model: str, digest: str) -> int | None:
    """Return the number that a package has in a model; None when it has none yet."""
    query = sa.select(versions.c.number).where(versions.c.model == model, versions.c.digest == digest)
    return connection.execute(query).scalar_one_or_none()


def is_taken(connection: sa.Connection, model: str, number: int) -> bool:
    """Tell whether a version has this number."""
    query = sa.select(versions.c.number).where(versions.c.model == model, versions.c.number == number)
    return connection.execute(query).one_or_none() is not None


def register(connection: sa.Connection, new: NewVersion, now: datetime) -> int:
    """Write a version that is not there yet, and its model if it is the first; return its number.

    Raises:
        AlreadyExists: the number belongs to another package.
        Incompatible: a field asks for a Protobuf number that it cannot have.
    """
    contract = new.contract
    highest = _highest(connection, contract.name)
    number = highest + 1 if new.number is None else new.number
    if is_taken(connection, contract.name, number):
        raise AlreadyExists(f"version {number} is a different package, and versions are never replaced")
    if number > highest:
        _describe_model(connection, contract, now)
    kept = read_numbers(connection, contract.name, contract.major)
    numbered = keep_numbers(contract, kept.inputs, kept.outputs)
    _insert_version(connection, new, number, numbered.contract, now)
    _insert_numbers(connection, contract, kept, numbered)
    return number


def _highest(connection: sa.Connection, model: str) -> int:
    query = sa.select(sa.func.coalesce(sa.func.max(versions.c.number), 0)).where(versions.c.model == model)
    return int(connection.execute(query).scalar_one())


def _describe_model(connection: sa.Connection, contract: Contract, now: datetime) -> None:
    words = {"title": contract.title, "owner": contract.owner}
    done = connection.execute(models.update().where(models.c.name == contract.name).values(**words))
    if not done.rowcount:
        connection.execute(models.insert().values(name=contract.name, **words, created_at=now, revision=1))


def _insert_version(connection: sa.Connection, new: NewVersion, number: int, contract: Contract, now: datetime) -> None:
    key = {"model": contract.name, "number": number}
    facts = {
        "digest": new.digest,
        "archive": new.archive,
        "signature": new.signature,
        "size": new.size,
        "major": contract.major,
        "contract": msgspec.json.encode(contract).decode(),
        "backend": new.backend,
        "needs_trust": new.needs_trust,
        "lineage": msgspec.json.encode(new.lineage).decode(),
        "signer": new.signer,
        "created_at": now,
        "created_by": new.created_by,
    }
    state = {"is_retired": False, "retired_reason": "", "revision": 1}
    connection.execute(versions.insert().values(**key, **facts))
    connection.execute(version_states.insert().values(**key, **state, updated_at=now, updated_by=new.created_by))


def _insert_numbers(connection: sa.Connection, contract: Contract, kept: KeptNumbers, numbered: Numbered) -> None:
    key = {"model": contract.name, "major": contract.major}
    rows = [
        {**key, "side": side, "field": name, "number": number}
        for side, now, before in (
            ("inputs", numbered.inputs, kept.inputs),
            ("outputs", numbered.outputs, kept.outputs),
        )
        for name, number in now.items()
        if name not in before
    ]
    if rows:
        connection.execute(field_numbers.insert(), rows)
