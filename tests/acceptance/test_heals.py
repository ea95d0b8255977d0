"""What operators lose or break while a server runs, and homes of earlier versions: it heals, or goes on with what worked, and says so."""

import os
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
import sqlalchemy as sa

from limen.contracts.errors import LimenError
from limen.management.stores import FOLLOWED
from limen.storage.migrations import upgrade
from tests.services.process import WAIT_S, limen, refused
from tests.services.registry import World, world_at


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("heals")
    with world_at(folder, log=folder / "log") as found:
        found.publish(alias="champion")
        found.apply(traffic={"champion": 100})
        yield found


def until(is_so: Callable[[], object]) -> None:
    end = time.monotonic() + WAIT_S
    while True:
        with suppress(LimenError, OSError, AssertionError):
            if is_so():
                return
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.05)


def is_ready(world: World) -> bool:
    return world.management.endpoint("score").status.is_ready


def kill_replica(world: World) -> None:
    (pid,) = world.server.children("replica")
    os.kill(pid, signal.SIGKILL)
    until(lambda: world.server.children("replica") not in ([], [pid]))


def test_f18_an_alias_that_cannot_move_stays_where_what_works_is(world: World):
    archive = world.archive()
    number = world.management.publish("score", archive).version.number
    blobs = [path for path in (world.folder / "home" / "blobs").rglob("*") if path.is_file()]
    blob = max(blobs, key=lambda path: path.stat().st_mtime_ns)
    blob.chmod(0o600)
    blob.write_bytes(blob.read_bytes()[:-100])
    said = refused("alias", "set", "score", "champion", number, "--home", world.folder / "home")
    assert f"version {number} of score cannot be served" in said
    assert "Publish the same package again" in said
    (alias,) = world.management.aliases("score").items
    assert (alias.version, world.answering()) == (1, "1")
    # What the command asks for is enough.
    world.management.publish("score", archive)
    done = limen("alias", "set", "score", "champion", number, "--home", world.folder / "home")
    assert done.returncode == 0, done.stderr
    assert world.answering() == str(number)
    world.management.set_alias("score", "champion", 1)
    world.until_answering(1)


def test_a_run_folder_that_is_lost_is_made_again_and_a_replica_that_ends_then_comes_back(world: World):
    for folder in (world.folder / "home" / "run").iterdir():
        shutil.rmtree(folder)
    assert world.answering() == "1"
    until(lambda: limen("status", "--home", world.folder / "home").returncode == 0)
    kill_replica(world)
    until(lambda: world.answering() == "1" and is_ready(world))
    assert "was lost or incomplete and has been recreated" in (world.folder / "log").read_text()


def test_unpacked_packages_that_are_lost_are_unpacked_again_when_a_replica_has_to_start(world: World):
    shutil.rmtree(world.folder / "home" / "packages")
    assert world.answering() == "1"
    kill_replica(world)
    until(lambda: world.answering() == "1" and is_ready(world))
    assert any((world.folder / "home" / "packages").iterdir())


@pytest.mark.slow
def test_a_home_of_the_schema_before_is_upgraded_in_place_and_serves_what_it_served(tmp_path: Path):
    home = tmp_path / "home"
    with world_at(tmp_path) as world:
        world.publish(alias="champion")
        world.apply(traffic={"champion": 100})
    make_older(home / "limen.db", tmp_path / "older.db")
    (home / FOLLOWED).unlink()
    with world_at(tmp_path) as world:
        until(lambda: world.answering() == "1")
        assert is_ready(world)
        number = world.publish().version.number
        world.management.set_alias("score", "champion", number)
        world.until_answering(number)


def make_older(path: Path, sample: Path) -> None:
    """Take from a database what the last migration gave it, and see that it is as the migrations before make one."""
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("DROP TABLE identity")
        database.execute("UPDATE alembic_version SET version_num = '0001'")
    with sa.create_engine(f"sqlite:///{sample}").begin() as connection:
        upgrade(connection, "0001")
    assert schema(path) == schema(sample)


def schema(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as database:
        return {text for (text,) in database.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")}
