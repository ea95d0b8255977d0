"""The tables of the registry's database: one MetaData for SQLite and PostgreSQL.

Facts are written once, and the database itself refuses to change or remove them (`IMMUTABLE`); what may change stands beside
them, with a revision. The migrations make these tables; a test holds them against this description.
Not here: what the rows mean. `registry`, `traffic.endpoint_store` and `storage.idempotency` read and write them.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa

IMMUTABLE: Final = ("versions", "field_numbers", "evidence", "alias_moves", "endpoint_revisions")
"""Tables whose rows are never changed and never removed."""


class Moment(sa.types.TypeDecorator[datetime]):
    """A point in time with its zone; always UTC when read. SQLite keeps no zone, so it is taken off on the way in."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """Return the moment in UTC, as the database keeps it."""
        if value is None:
            return None
        moment = value.astimezone(UTC)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """Return the moment with its zone."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _name(length: int = 63) -> Any:
    # Names are compared byte by byte, so that a page ends at the same place on both databases.
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


metadata: Final = sa.MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(referred_table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)

revisions: Final = sa.Table(
    "revisions",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("value", sa.BigInteger, nullable=False),
)
"""One row: how often anything was changed. Updating it first is what makes writers stand in line on PostgreSQL."""

identity: Final = sa.Table(
    "identity",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("registry", sa.String(32), nullable=False),
)
"""One row: the id that this registry was given when it was made, or brought back from a backup."""

models: Final = sa.Table(
    "models",
    metadata,
    sa.Column("name", _name(), primary_key=True),
    sa.Column("title", sa.Text, nullable=False),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("created_at", Moment, nullable=False),
    sa.Column("revision", sa.BigInteger, nullable=False),
)

versions: Final = sa.Table(
    "versions",
    metadata,
    sa.Column("model", _name(), sa.ForeignKey("models.name"), primary_key=True),
    sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("archive", sa.String(64), nullable=False),
    sa.Column("signature", sa.String(64), nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("major", sa.Integer, nullable=False),
    sa.Column("contract", sa.Text, nullable=False),
    sa.Column("backend", sa.String(63), nullable=False),
    sa.Column("needs_trust", sa.Boolean, nullable=False),
    sa.Column("lineage", sa.Text, nullable=False),
    sa.Column("signer", sa.String(64), nullable=False),
    sa.Column("created_at", Moment, nullable=False),
    sa.Column("created_by", sa.Text, nullable=False),
    sa.UniqueConstraint("model", "digest"),
)

version_states: Final = sa.Table(
    "version_states",
    metadata,
    sa.Column("model", _name(), primary_key=True),
    sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("is_retired", sa.Boolean, nullable=False),
    sa.Column("retired_reason", sa.Text, nullable=False),
    sa.Column("revision", sa.BigInteger, nullable=False),
    sa.Column("updated_at", Moment, nullable=False),
    sa.Column("updated_by", sa.Text, nullable=False),
    sa.ForeignKeyConstraint(["model", "number"], ["versions.model", "versions.number"]),
)
"""What may change about a version."""

field_numbers: Final = sa.Table(
    "field_numbers",
    metadata,
    sa.Column("model", _name(), sa.ForeignKey("models.name"), primary_key=True),
    sa.Column("major", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("side", sa.String(7), primary_key=True),
    sa.Column("field", sa.String(63), primary_key=True),
    sa.Column("number", sa.Integer, nullable=False),
    sa.UniqueConstraint("model", "major", "side", "number"),
)
"""Protobuf numbers that were ever given to a field; `side` is `inputs` or `outputs`."""

tags: Final = sa.Table(
    "tags",
    metadata,
    sa.Column("model", _name(), sa.ForeignKey("models.name"), primary_key=True),
    sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("key", sa.String(63), primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
    sa.Index("ix_tags_key_value", "key", "value"),
)
"""Tags of versions, and of the model itself under number 0."""

aliases: Final = sa.Table(
    "aliases",
    metadata,
    sa.Column("model", _name(), primary_key=True),
    sa.Column("alias", _name(), primary_key=True),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("revision", sa.BigInteger, nullable=False),
    sa.Column("updated_at", Moment, nullable=False),
    sa.ForeignKeyConstraint(["model", "version"], ["versions.model", "versions.number"]),
    sa.Index("ix_aliases_model_version", "model", "version"),
)

alias_moves: Final = sa.Table(
    "alias_moves",
    metadata,
    sa.Column("model", _name(), sa.ForeignKey("models.name"), primary_key=True),
    sa.Column("alias", _name(), primary_key=True),
    sa.Column("revision", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("version", sa.BigInteger, nullable=True),
    sa.Column("moved_at", Moment, nullable=False),
    sa.Column("moved_by", sa.Text, nullable=False),
)
"""Every move of every alias; without a version where it was removed."""

evidence: Final = sa.Table(
    "evidence",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("model", _name(), nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("kind", sa.String(31), nullable=False),
    sa.Column("verdict", sa.String(31), nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("created_at", Moment, nullable=False),
    sa.Column("created_by", sa.Text, nullable=False),
    sa.ForeignKeyConstraint(["model", "version"], ["versions.model", "versions.number"]),
    sa.Index("ix_evidence_model_version", "model", "version"),
)

endpoints: Final = sa.Table(
    "endpoints",
    metadata,
    sa.Column("name", _name(), primary_key=True),
    sa.Column("spec", sa.Text, nullable=False),
    sa.Column("revision", sa.BigInteger, nullable=False),
    sa.Column("created_at", Moment, nullable=False),
    sa.Column("updated_at", Moment, nullable=False),
    sa.Column("updated_by", sa.Text, nullable=False),
)

endpoint_revisions: Final = sa.Table(
    "endpoint_revisions",
    metadata,
    sa.Column("name", _name(), primary_key=True),
    sa.Column("revision", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("spec", sa.Text, nullable=True),
    sa.Column("changed_at", Moment, nullable=False),
    sa.Column("changed_by", sa.Text, nullable=False),
)
"""Every spec that an endpoint ever had; none where it was removed."""

idempotency_keys: Final = sa.Table(
    "idempotency_keys",
    metadata,
    sa.Column("principal", sa.String(255), primary_key=True),
    sa.Column("key", sa.String(255), primary_key=True),
    sa.Column("operation", sa.String(255), nullable=False),
    sa.Column("body_digest", sa.String(64), nullable=False),
    sa.Column("status", sa.Integer, nullable=True),
    sa.Column("answer", sa.LargeBinary, nullable=True),
    sa.Column("started_at", Moment, nullable=False),
    sa.Index("ix_idempotency_keys_started_at", "started_at"),
)
"""Requests with a key that were begun; with a status once they are answered."""
