"""F08: the disk fills up at every step of registering a version; nothing is there by half, and a retry works once there is room."""

import os
import random
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from limen.contracts.errors import NotFound, Reason, Unavailable
from limen.management.stores import Stores, open_registry
from limen.storage.config import StorageConfig
from limen.storage.files import hash_of
from limen.storage.local import LocalBlobs
from tests.conformance.registry.making import add, contract

PAGE = 4096
ROOM = 120
"""Pages that registering one version takes, and some more."""


@pytest.fixture
def stores(small_disk: Path) -> Iterator[Stores]:
    stores = open_registry(StorageConfig(home=small_disk))
    yield stores
    stores.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 16 mebibytes: the write-ahead log grows to four before it is folded in."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("file systems cannot be mounted here")
    try:
        yield folder
    finally:
        # Lazily: a test that failed may hold a file open, and a mount that stays is in everyone's way.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def filled(folder: Path, pages_left: int) -> Iterator[None]:
    """Take all room of a file system but some pages."""
    free = os.statvfs(folder).f_bavail
    path = folder / "filler"
    with path.open("wb") as filler:
        os.posix_fallocate(filler.fileno(), 0, max(1, free - pages_left) * PAGE)
    try:
        yield
    finally:
        path.unlink()


def publish(stores: Stores, source: Path, content: str) -> int:
    digest = hash_of(source)
    stores.blobs.put(source, digest)
    return add(stores.database, stores.registry, content, contract(), archive=digest).number


def test_f08_nothing_is_there_by_half_whenever_the_disk_fills_up(stores: Stores, small_disk: Path, tmp_path: Path):
    source = tmp_path / "source"
    chance = random.Random(8)
    refused = published = 0
    for pages in range(ROOM):
        source.write_bytes(chance.randbytes(40 * PAGE))
        digest = hash_of(source)
        before = {version.number for version in versions(stores)}
        with filled(small_disk, pages):
            error = refusal(stores, source, f"content {pages}")
            if error is not None:
                assert error.reason is Reason.STORAGE_FULL
                assert str(small_disk) not in str(error)
                refused += 1
                # Old versions are served from a full disk.
                assert {version.number for version in versions(stores)} == before
            else:
                published += 1
        blob = small_disk / "blobs" / digest[:2] / digest
        assert not blob.exists() or hash_of(blob) == digest
        assert list((small_disk / "blobs").glob("staging/*")) == []
        number = publish(stores, source, f"content {pages}")
        assert number == max(before, default=0) + 1
        stores.blobs.remove(digest)  # the disk is small
    assert refused
    assert published


def refusal(stores: Stores, source: Path, content: str) -> Unavailable | None:
    try:
        publish(stores, source, content)
    except Unavailable as error:
        return error
    return None


def versions(stores: Stores) -> list[object]:
    try:
        return list(stores.registry.versions("credit", limit=1000))
    except NotFound:
        return []


def test_f08_a_blob_that_does_not_fit_is_not_there(tmp_path: Path):
    """The same where no file system can be mounted: no file may grow beyond a limit."""
    source = tmp_path / "source"
    source.write_bytes(b"x" * (3 << 20))
    digest = hash_of(source)
    blobs = LocalBlobs(tmp_path / "blobs")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 << 20, hard))
    try:
        with pytest.raises(Unavailable, match="full") as refused:
            blobs.put(source, digest)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert refused.value.reason is Reason.STORAGE_FULL
    assert not blobs.has(digest)
    assert [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()] == []
    blobs.put(source, digest)
    blobs.fetch(digest, tmp_path / "target")
