"""What Limen keeps is its owner's alone, whatever the umask."""

import os
import stat
from pathlib import Path

import pytest

from limen.management.stores import open_registry
from limen.publishing.staging import staging_folder
from limen.registry.registry import Registry  # noqa: F401 - its tables are what is made
from limen.serving.supervision import run_folder
from limen.storage.config import StorageConfig
from limen.storage.files import write_whole
from limen.storage.private import make_private_file, make_private_folder, unprivileged_group

MASKS = [0, 0o022, 0o077, 0o277]


@pytest.fixture(params=MASKS, ids=oct)
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def rights(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


PASSAGES = {"run", "packages", "staging"}


def is_private(path: Path) -> bool:
    """Whether others can do nothing; below some folders are packages, and models of a server of root may pass through those."""
    facts = path.lstat()
    is_passage = PASSAGES & {path.name, path.parent.name} and facts.st_gid == unprivileged_group()
    allowed = 0o010 if stat.S_ISDIR(facts.st_mode) and is_passage else 0
    return stat.S_IMODE(facts.st_mode) & 0o077 & ~allowed == 0 and bool(facts.st_mode & 0o600)


def test_folders_on_the_way_are_private_and_what_is_there_stays_as_it_is(tmp_path, umask):
    there = tmp_path / "there"
    there.mkdir()
    there.chmod(0o755)
    make_private_folder(there / "a" / "b")
    make_private_folder(there / "a" / "b")
    assert is_private(there / "a")
    assert is_private(there / "a" / "b")
    assert rights(there) == 0o755
    make_private_file(there / "a" / "file")
    assert rights(there / "a" / "file") == 0o600


def test_a_home_with_everything_in_it_is_private(tmp_path, umask):
    home = tmp_path / "home"
    stores = open_registry(StorageConfig(home=home))
    with stores.database.transaction():
        pass
    source = tmp_path / "source"
    make_private_file(source)
    digest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    stores.blobs.put(source, digest)
    with staging_folder(home / "staging"):
        folder, own = run_folder.create(home, "", "", "")
        write_whole(folder / "snapshot.json", b"{}")
        tops = [home, *home.iterdir(), folder, *folder.iterdir(), Path(own.sockets)]
        assert [str(p) for p in tops if not is_private(p)] == []
    assert {p.name for p in tops} >= {"limen.db", "run", "staging", "server.json", "snapshot.json", "metrics"}
    blobs = list(home.rglob(digest))
    assert blobs
    assert all(is_private(p) for p in blobs)
    run_folder.remove(folder, own.sockets)
    stores.close()


@pytest.mark.skipif(os.getuid() != 0, reason="needs root")
def test_models_of_a_server_of_root_reach_their_package_as_nobody_and_nothing_else_of_its_home(tmp_path):
    home = tmp_path / "home"
    make_private_folder(home / "packages", is_passage=True)
    make_private_folder(home / "blobs")
    assert (rights(home / "packages"), (home / "packages").stat().st_gid) == (0o710, unprivileged_group())
    assert (rights(home), rights(home / "blobs")) == (0o700, 0o700)
