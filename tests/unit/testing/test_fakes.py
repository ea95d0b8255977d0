"""The fakes keep the promises of what they stand for."""

import hashlib
from datetime import timedelta
from pathlib import Path

import pytest

from limen.contracts.errors import Internal, NotFound
from limen.registry.values import NewVersion
from limen.storage.local import LocalBlobs
from limen.testing import FakeClock, MemoryBlobs, memory_registry
from tests.conformance.registry.making import new_version


def test_a_clock_moves_only_forward_and_the_time_of_day_with_it():
    clock = FakeClock(start_s=5)
    day = clock.utc()
    clock.advance(1.5)
    assert (clock(), clock.utc() - day) == (6.5, timedelta(seconds=1.5))
    with pytest.raises(ValueError, match="back"):
        clock.advance(-1)


@pytest.mark.parametrize("kind", ["memory", "local"])
def test_blobs_in_memory_do_as_those_on_disk(kind: str, tmp_path: Path):
    blobs = MemoryBlobs() if kind == "memory" else LocalBlobs(tmp_path / "blobs")
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"bytes")
    digest = hashlib.sha256(b"bytes").hexdigest()
    with pytest.raises(NotFound):
        blobs.fetch(digest, target)
    with pytest.raises(Internal):
        blobs.put(source, hashlib.sha256(b"other").hexdigest())
    with pytest.raises(Internal):
        blobs.has("../etc/passwd")
    blobs.put(source, digest)
    blobs.put(source, digest)
    blobs.fetch(digest, target)
    assert target.read_bytes() == b"bytes"
    assert (blobs.has(digest), blobs.is_whole(digest)) == (True, True)
    blobs.remove(digest)
    blobs.remove(digest)
    assert (blobs.has(digest), blobs.is_whole(digest)) == (False, False)


def test_a_damaged_blob_in_memory_is_seen():
    blobs = MemoryBlobs()
    digest = hashlib.sha256(b"bytes").hexdigest()
    blobs.contents[digest] = b"byteS"
    assert (blobs.has(digest), blobs.is_whole(digest)) == (True, False)


def test_a_registry_in_memory_keeps_versions_and_undoes_what_fails(tmp_path: Path):
    clock = FakeClock()
    stores = memory_registry(tmp_path, clock=clock.utc)

    def add(version: NewVersion, error: Exception | None = None) -> None:
        with stores.database.transaction() as connection:
            stores.registry.add_version(connection, version)
            if error is not None:
                raise error

    add(new_version("first"))
    with pytest.raises(RuntimeError):
        add(new_version("second"), RuntimeError())
    (version,) = stores.registry.versions("credit")
    assert (version.number, version.created_at) == (1, clock.utc())
    assert list(tmp_path.iterdir()) == []
    stores.close()
