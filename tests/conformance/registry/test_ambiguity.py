"""F16: the line to the database breaks around COMMIT, and the idempotency key tells what happened."""

import tempfile
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import make_url

from limen.contracts.errors import Unavailable
from limen.registry.registry import Registry
from limen.storage.database import Database
from limen.storage.idempotency import IdempotencyStore
from limen.testing.clock import FakeClock
from tests.conformance.registry.making import digest, new_version
from tests.services.broken_line import broken_line
from tests.services.postgres import Postgres

ATTEMPTS = 50


class Publisher:
    """Publishes as the management API does."""

    def __init__(self, database: Database, clock: FakeClock) -> None:
        self._database = database
        self._registry = Registry(database, clock.utc)
        self._keys = IdempotencyStore(clock.utc)

    def publish(self, key: str) -> int:
        """Send one request until it is answered. Each time it would make another version, so only the key can tell."""
        for attempt in range(ATTEMPTS):
            try:
                return self._try(key, f"{key}, attempt {attempt}")
            except Unavailable:
                self._forget(key)
        raise AssertionError("never answered")

    def _try(self, key: str, content: str) -> int:
        with self._database.transaction() as connection:
            answer = self._keys.begin(connection, "ada", key, "publish", digest(key))
        if answer is not None:
            return int(answer.body)
        with self._database.transaction() as connection:
            made = self._registry.add_version(connection, new_version(content))
            self._keys.finish(connection, "ada", key, 201, str(made.number).encode())
        return made.number

    def _forget(self, key: str) -> None:
        for _ in range(ATTEMPTS):
            try:
                with self._database.transaction() as connection:
                    self._keys.forget(connection, "ada", key)
            except Unavailable:
                continue
            return


def test_f16_no_version_is_doubled_or_lost_in_100_ambiguous_commits(
    postgres_server: Postgres, open_database: Callable[..., Database], clock: FakeClock
):
    address = make_url(postgres_server.new_database())
    server = Path(str(address.query["host"]))
    # The path of a socket must be short.
    with tempfile.TemporaryDirectory(prefix="limen-line-") as folder, broken_line(server, Path(folder), 16) as line:
        through = address.update_query_dict({"host": folder}).render_as_string(hide_password=False)
        database = open_database(through)
        publisher = Publisher(database, clock)
        answered: dict[str, int] = {}
        line.breaks = 0.4
        while line.broken < 100:
            key = f"request {len(answered)}"
            answered[key] = publisher.publish(key)
        line.breaks = 0.0
        versions = Registry(database, clock.utc).versions("credit", limit=10_000)
        again = {key: publisher.publish(key) for key in answered}
        database.close()
    assert sorted(answered.values()) == list(range(1, len(answered) + 1))
    assert len(versions) == len(answered)
    assert again == answered
