"""`limen registry …` as people use it: what it says, and what it ends with."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from limen.cli import app
from limen.cli.words import CommandError
from limen.contracts.errors import AlreadyExists, Unavailable
from limen.management.stores import open_registry
from limen.serving.sources.plan_memory import PlanMemory
from limen.serving.sources.planning import plan_of
from limen.storage.config import StorageConfig
from tests.services.shelf import Shelf, spec


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A registry with a version and an endpoint, in a home that a server has followed."""
    shelf = Shelf(tmp_path / "home")
    shelf.point("champion", shelf.add())
    shelf.apply(spec())
    config = StorageConfig(home=shelf.home)
    identity = shelf.stores.registry.identity()
    PlanMemory(shelf.home, config.database_id).keep(plan_of(shelf.stores), identity.registry, {})
    shelf.stores.close()
    return shelf.home


def run(home: Path, *arguments: object) -> Result:
    return CliRunner().invoke(app, ["registry", *map(str, arguments), "--home", str(home)])


def lose(home: Path) -> None:
    for path in home.glob("limen.db*"):
        path.unlink()


def damage(home: Path) -> None:
    [blob] = [path for path in (home / "blobs").glob("??/*") if path.is_file()]
    blob.write_bytes(b"damaged")


def test_a_registry_is_backed_up_and_restored_where_it_was_lost(home: Path, tmp_path: Path):
    assert "at revision 3: 1 version, 1 endpoint" in run(home, "backup", tmp_path / "backup").output
    lose(home)
    assert isinstance(run(home, "check").exception, Unavailable)
    restored = run(home, "restore", tmp_path / "backup")
    assert "the registry is restored to" in restored.output
    assert (run(home, "check").exit_code, run(home, "adopt").exit_code) == (0, 0)
    assert "already follows this registry" in run(home, "adopt").output


def test_a_registry_that_is_there_is_not_written_over(home: Path, tmp_path: Path):
    run(home, "backup", tmp_path / "backup")
    assert isinstance(run(home, "restore", tmp_path / "backup").exception, AlreadyExists)


def test_f18_a_backup_that_lacks_something_says_so_and_ends_with_1(home: Path, tmp_path: Path):
    damage(home)
    done = run(home, "backup", tmp_path / "backup")
    assert isinstance(done.exception, CommandError)
    assert "could not copy 1 blob" in done.exception.what


def test_f18_a_check_names_what_is_damaged(home: Path):
    whole = run(home, "check")
    assert (whole.exit_code, whole.output.splitlines()[-1]) == (0, "everything is present and intact")
    damage(home)
    assert run(home, "check", "--quick").exit_code == 0
    found = run(home, "check")
    assert found.exit_code == 1
    assert "credit/1: the package stored for this version is damaged" in found.output
    assert "Publish the same package again" in found.output
    assert json.loads(run(home, "check", "--json").output)["findings"][0]["about"] == "credit/1"


def test_a_check_of_nothing_says_that_there_is_nothing(tmp_path: Path):
    assert isinstance(run(tmp_path, "check").exception, CommandError)
    assert isinstance(run(tmp_path, "backup", tmp_path / "backup").exception, CommandError)
    assert list(tmp_path.iterdir()) == []


def test_f17_adopting_tells_first_what_it_changes_and_asks(home: Path):
    lose(home)
    asked = run(home, "adopt")
    assert "there now        registry (a new, empty one), revision 0" in asked.output
    assert "  - credit: no longer served" in asked.output
    assert isinstance(asked.exception, CommandError)
    assert not (home / "limen.db").exists()
    assert run(home, "adopt", "--yes").exit_code == 0
    stores = open_registry(StorageConfig(home=home))
    stores.close()
    assert "already follows this registry" in run(home, "adopt").output
