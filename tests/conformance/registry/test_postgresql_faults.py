"""F16: what PostgreSQL can do besides ending: be silent, be read-only, be full of others, and let nobody in."""

import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy import make_url

from limen.contracts.errors import Reason, Unavailable
from limen.registry.registry import Registry
from limen.storage import causes
from limen.storage.database import Database
from limen.storage.schema import revisions
from limen.testing.clock import FakeClock
from tests.conformance.registry.making import add, digest
from tests.services.postgres import Postgres

HANG_S = 60.0
"""A bound on hanging; what is waited for takes a few seconds."""


@pytest.fixture
def database(postgres_server: Postgres, open_database: Callable[..., Database]) -> Database:
    found = open_database(postgres_server.new_database(), busy_timeout_s=1.0)
    add(found, Registry(found, FakeClock().utc))
    return found


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the server's processes in /proc")
def test_f16_a_server_that_is_stopped_is_waited_for_once_and_said(database: Database, postgres_server: Postgres):
    registry, begun = Registry(database, FakeClock().utc), time.monotonic()
    with postgres_server.stopped():
        for work in (registry.revision, lambda: add(database, registry, "second")):
            with pytest.raises(Unavailable, match=causes.SILENT) as refused:
                work()
            assert refused.value.reason is Reason.STORAGE
    assert time.monotonic() - begun < HANG_S
    assert registry.version("credit", 1).digest == digest("first")
    assert add(database, registry, "third").number in {2, 3}


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the server's processes in /proc")
def test_f16_a_statement_that_is_never_answered_is_told_as_silence(database: Database, postgres_server: Postgres):
    with (
        pytest.raises(Unavailable) as refused,
        database.reading() as connection,
        postgres_server.stopped(),
    ):
        connection.execute(sa.text("SELECT 1"))
    assert refused.value.message == f"the registry's database {causes.SILENT}"


def test_a_statement_that_gives_something_now_and_then_is_not_silence(database: Database):
    with database.reading() as connection:
        slow = sa.text("SELECT n, pg_sleep(0.5) FROM generate_series(1, 3) AS n")
        assert len(connection.execute(slow).all()) == 3


def test_f16_a_server_that_takes_no_changes_says_so(database: Database):
    with pytest.raises(Unavailable) as refused, database.reading() as connection:
        connection.execute(revisions.update().values(value=0))
    assert refused.value.message == f"the registry's database {causes.TAKES_NO_CHANGES}"


def test_a_user_without_rights_is_told_so(postgres_server: Postgres, open_database: Callable[..., Database]):
    address = postgres_server.new_database()
    open_database(address)
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(b"DO $$ BEGIN CREATE ROLE guest LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
    guest = make_url(address).set(username="guest").render_as_string(hide_password=False)
    with pytest.raises(Unavailable) as refused:
        Registry(open_database(guest), FakeClock().utc).models()
    assert refused.value.message == f"the registry's database {causes.NOT_PERMITTED}"


def test_f16_a_server_that_is_not_there_cannot_be_reached(tmp_path: Path):
    with pytest.raises(Unavailable) as refused:
        Database.open(f"postgresql://ada:hunter2@/x?host={tmp_path}", busy_timeout_s=1.0)
    assert refused.value.message == f"the registry's database {causes.UNREACHABLE}"
