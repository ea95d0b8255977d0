"""The first tables: models, versions, aliases, evidence, endpoints and idempotency keys."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0001"
down_revision: Final = None

_NAME: Final[Any] = sa.String(length=63).with_variant(sa.String(length=63, collation="C"), "postgresql")
_MOMENT: Final = sa.DateTime(timezone=True)
_IMMUTABLE: Final = ("versions", "field_numbers", "evidence", "alias_moves", "endpoint_revisions")


def upgrade() -> None:
    """Make the tables, the first revision of the whole, and the triggers that refuse to change facts."""
    for part in (_models, _versions, _facts, _aliases, _endpoints, _keys):
        part()
    op.execute("INSERT INTO revisions (id, value) VALUES (1, 0)")
    if op.get_context().dialect.name == "sqlite":
        _refuse_on_sqlite()
    else:
        _refuse_on_postgresql()


def _refuse_on_sqlite() -> None:
    for table in _IMMUTABLE:
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_refuse_{verb.lower()} BEFORE {verb} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, 'rows of {table} are never changed'); END"
            )


def _refuse_on_postgresql() -> None:
    op.execute(
        "CREATE FUNCTION limen_refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "RAISE EXCEPTION 'rows of % are never changed', TG_TABLE_NAME USING ERRCODE = 'integrity_constraint_violation'; "
        "END $$"
    )
    for table in _IMMUTABLE:
        op.execute(
            f"CREATE TRIGGER {table}_refuse BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION limen_refuse()"
        )


def _models() -> None:
    op.create_table(
        "revisions",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_revisions")),
    )
    op.create_table(
        "models",
        sa.Column("name", _NAME, nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_models")),
    )
    op.create_table(
        "tags",
        sa.Column("model", _NAME, nullable=False),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("key", sa.String(length=63), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["model"], ["models.name"], name=op.f("fk_tags_models")),
        sa.PrimaryKeyConstraint("model", "number", "key", name=op.f("pk_tags")),
    )
    op.create_index("ix_tags_key_value", "tags", ["key", "value"], unique=False)


def _versions() -> None:
    op.create_table(
        "versions",
        sa.Column("model", _NAME, nullable=False),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("archive", sa.String(length=64), nullable=False),
        sa.Column("signature", sa.String(length=64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("major", sa.Integer(), nullable=False),
        sa.Column("contract", sa.Text(), nullable=False),
        sa.Column("backend", sa.String(length=63), nullable=False),
        sa.Column("needs_trust", sa.Boolean(), nullable=False),
        sa.Column("lineage", sa.Text(), nullable=False),
        sa.Column("signer", sa.String(length=64), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["model"], ["models.name"], name=op.f("fk_versions_models")),
        sa.PrimaryKeyConstraint("model", "number", name=op.f("pk_versions")),
        sa.UniqueConstraint("model", "digest", name=op.f("uq_versions_model_digest")),
    )
    op.create_table(
        "version_states",
        sa.Column("model", _NAME, nullable=False),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("is_retired", sa.Boolean(), nullable=False),
        sa.Column("retired_reason", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", _MOMENT, nullable=False),
        sa.Column("updated_by", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["model", "number"], ["versions.model", "versions.number"], name=op.f("fk_version_states_versions")
        ),
        sa.PrimaryKeyConstraint("model", "number", name=op.f("pk_version_states")),
    )


def _facts() -> None:
    op.create_table(
        "field_numbers",
        sa.Column("model", _NAME, nullable=False),
        sa.Column("major", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("side", sa.String(length=7), nullable=False),
        sa.Column("field", sa.String(length=63), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["model"], ["models.name"], name=op.f("fk_field_numbers_models")),
        sa.PrimaryKeyConstraint("model", "major", "side", "field", name=op.f("pk_field_numbers")),
        sa.UniqueConstraint("model", "major", "side", "number", name=op.f("uq_field_numbers_model_major_side_number")),
    )
    op.create_table(
        "evidence",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("model", _NAME, nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(length=31), nullable=False),
        sa.Column("verdict", sa.String(length=31), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["model", "version"], ["versions.model", "versions.number"], name=op.f("fk_evidence_versions")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_evidence")),
    )
    op.create_index("ix_evidence_model_version", "evidence", ["model", "version"], unique=False)


def _aliases() -> None:
    op.create_table(
        "aliases",
        sa.Column("model", _NAME, nullable=False),
        sa.Column("alias", _NAME, nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", _MOMENT, nullable=False),
        sa.ForeignKeyConstraint(
            ["model", "version"], ["versions.model", "versions.number"], name=op.f("fk_aliases_versions")
        ),
        sa.PrimaryKeyConstraint("model", "alias", name=op.f("pk_aliases")),
    )
    op.create_index("ix_aliases_model_version", "aliases", ["model", "version"], unique=False)
    op.create_table(
        "alias_moves",
        sa.Column("model", _NAME, nullable=False),
        sa.Column("alias", _NAME, nullable=False),
        sa.Column("revision", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=True),
        sa.Column("moved_at", _MOMENT, nullable=False),
        sa.Column("moved_by", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["model"], ["models.name"], name=op.f("fk_alias_moves_models")),
        sa.PrimaryKeyConstraint("model", "alias", "revision", name=op.f("pk_alias_moves")),
    )


def _endpoints() -> None:
    op.create_table(
        "endpoints",
        sa.Column("name", _NAME, nullable=False),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("updated_at", _MOMENT, nullable=False),
        sa.Column("updated_by", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_endpoints")),
    )
    op.create_table(
        "endpoint_revisions",
        sa.Column("name", _NAME, nullable=False),
        sa.Column("revision", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("spec", sa.Text(), nullable=True),
        sa.Column("changed_at", _MOMENT, nullable=False),
        sa.Column("changed_by", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", "revision", name=op.f("pk_endpoint_revisions")),
    )


def _keys() -> None:
    op.create_table(
        "idempotency_keys",
        sa.Column("principal", sa.String(length=255), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("operation", sa.String(length=255), nullable=False),
        sa.Column("body_digest", sa.String(length=64), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("answer", sa.LargeBinary(), nullable=True),
        sa.Column("started_at", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("principal", "key", name=op.f("pk_idempotency_keys")),
    )
    op.create_index("ix_idempotency_keys_started_at", "idempotency_keys", ["started_at"], unique=False)
