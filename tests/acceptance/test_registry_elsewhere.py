"""A registry whose database is PostgreSQL and whose packages are in an S3 store, and what happens when they go away."""

import time

import pytest

from limen.contracts.errors import Unavailable
from limen.contracts.management import Published
from tests.services.process import WAIT_S
from tests.services.registry import World, calling, world_at


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
    tmp_path, postgres_server, s3_store, monkeypatch
):
    for name, value in s3_store.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LIMEN_DATABASE_URL", postgres_server.new_database())
    monkeypatch.setenv("LIMEN_BLOBS", "s3://limen-acceptance/registry")
    with world_at(tmp_path) as world:
        world.publish(alias="champion")
        world.apply(traffic={"champion": 100})
        assert not (tmp_path / "home" / "limen.db").exists()
        assert not (tmp_path / "home" / "blobs").exists()

        with calling(world):
            postgres_server.crash()
            with pytest.raises(Unavailable) as caught:
                world.management.set_alias("score", "champion", 1)
            assert caught.value.reason == "STORAGE"
            assert world.answering() == "1"
            postgres_server.start()
            second = settle(world, alias="champion", idempotency_key="second")
            world.until_answering(second.version.number)
        assert [v.number for v in world.management.versions("score").items] == [2, 1]


def test_a_machine_that_has_nothing_fetches_what_it_serves(tmp_path, postgres_server, s3_store, monkeypatch):
    for name, value in s3_store.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LIMEN_DATABASE_URL", postgres_server.new_database())
    monkeypatch.setenv("LIMEN_BLOBS", "s3://limen-acceptance/registry")
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    with world_at(tmp_path / "one") as world:
        world.publish(alias="champion")
        world.apply(traffic={"champion": 100})
    with world_at(tmp_path / "other") as world:
        world.until_ready("score", 1)
        assert world.answering() == "1"
