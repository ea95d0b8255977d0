"""Packages of versions on this machine: fetched once, checked before each use, and never another's."""

from pathlib import Path

import pytest

from limen.contracts.errors import InvalidPackage, Reason, Unavailable
from limen.serving.sources.package_cache import PackageCache
from limen.storage.faults import unavailable
from tests.services.shelf import Shelf


class Counting:
    """A blob store that counts what is fetched, and may be away."""

    def __init__(self, shelf: Shelf) -> None:
        self.blobs = shelf.stores.blobs
        self.fetched = 0
        self.is_away = False

    def fetch(self, digest: str, target: Path) -> None:
        self.fetched += 1
        if self.is_away:
            raise unavailable("the blob store is temporarily unavailable")
        self.blobs.fetch(digest, target)


@pytest.fixture
def store(shelf: Shelf) -> Counting:
    return Counting(shelf)


@pytest.fixture
def cache(store: Counting, tmp_path: Path) -> PackageCache:
    return PackageCache(tmp_path / "machine", store)


def blob_of(shelf: Shelf, number: int) -> str:
    return shelf.stores.registry.archive_of("score", number).archive


def test_a_package_is_fetched_once_and_needs_nobody_afterwards(
    shelf: Shelf, store: Counting, cache: PackageCache, tmp_path: Path
):
    version = shelf.publish(tmp_path)
    package = cache.open(version.digest, blob_of(shelf, 1), "score/1")
    assert (package.digest, package.manifest.contract.name) == (version.digest, "score")
    store.is_away = True
    assert cache.open(version.digest, blob_of(shelf, 1), "score/1").root == package.root
    assert PackageCache(tmp_path / "machine", None).open(version.digest, "", "score/1").root == package.root
    assert store.fetched == 1
    assert [path.name for path in (tmp_path / "machine").iterdir()] == ["packages"]


@pytest.mark.parametrize("damage", ["changed", "missing", "more"])
def test_f18_a_copy_that_was_damaged_is_fetched_anew(
    shelf: Shelf, store: Counting, cache: PackageCache, tmp_path: Path, damage: str
):
    version = shelf.publish(tmp_path)
    model = cache.open(version.digest, blob_of(shelf, 1), "score/1").root / "model.onnx"
    whole = model.read_bytes()
    if damage == "changed":
        model.chmod(0o644)
        model.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    elif damage == "missing":
        model.unlink()
    else:
        (model.parent / "more.bin").write_bytes(b"x")
    package = cache.open(version.digest, blob_of(shelf, 1), "score/1")
    assert (package.root / "model.onnx").read_bytes() == whole
    assert not (package.root / "more.bin").exists()
    assert store.fetched == 2


def test_f18_a_damaged_copy_is_not_served_while_the_store_is_away(
    shelf: Shelf, store: Counting, cache: PackageCache, tmp_path: Path
):
    version = shelf.publish(tmp_path)
    (cache.open(version.digest, blob_of(shelf, 1), "score/1").root / "model.onnx").unlink()
    store.is_away = True
    for one in (cache, PackageCache(tmp_path / "machine", None)):
        with pytest.raises(Unavailable):
            one.open(version.digest, blob_of(shelf, 1), "score/1")


def test_another_package_than_the_registry_names_is_refused(shelf: Shelf, cache: PackageCache, tmp_path: Path):
    first, _ = shelf.publish(tmp_path), shelf.publish(tmp_path)
    with pytest.raises(InvalidPackage, match="is a different one"):
        cache.open(first.digest, blob_of(shelf, 2), "score/1")


def test_an_archive_that_the_store_has_lost_may_come_back(shelf: Shelf, cache: PackageCache, tmp_path: Path):
    version = shelf.publish(tmp_path)
    [blob] = (shelf.home / "blobs").rglob(blob_of(shelf, 1))
    kept = blob.read_bytes()
    blob.unlink()
    with pytest.raises(Unavailable) as lost:
        cache.open(version.digest, blob_of(shelf, 1), "score/1")
    assert lost.value.reason is Reason.STORAGE
    blob.write_bytes(kept)
    assert cache.open(version.digest, blob_of(shelf, 1), "score/1").digest == version.digest


def test_a_disk_that_takes_nothing_is_tried_again_later(shelf: Shelf, store: Counting, tmp_path: Path):
    version = shelf.publish(tmp_path)
    (tmp_path / "full").write_bytes(b"")
    cache = PackageCache(tmp_path / "full", store)
    with pytest.raises(Unavailable, match="cannot unpack"):
        cache.open(version.digest, blob_of(shelf, 1), "score/1")
