"""Blobs on the local disk and in an S3 store: whole or not there, and what was put."""

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from limen.contracts.errors import Internal, InvalidArgument, NotFound, Reason, Unavailable
from limen.storage.blobs import BlobStore, open_blobs
from limen.storage.files import hash_of
from limen.storage.local import LocalBlobs

RANDOM_PLACES = 200


def stored(blobs: BlobStore, folder: Path, content: bytes = b"weights" * 1000) -> tuple[Path, str]:
    """Put a file and return it with its digest."""
    source = folder / "source"
    source.write_bytes(content)
    digest = hash_of(source)
    blobs.put(source, digest)
    return source, digest


def test_what_is_fetched_is_what_was_put(blobs: BlobStore, tmp_path: Path):
    source, digest = stored(blobs, tmp_path)
    target = tmp_path / "cache" / "archive"
    blobs.fetch(digest, target)
    assert target.read_bytes() == source.read_bytes()
    assert [path.name for path in target.parent.iterdir()] == ["archive"]
    assert blobs.has(digest)


@pytest.mark.parametrize("content", [b"", b"x" * 6_000_000], ids=["empty", "large"])
def test_a_blob_may_have_any_size(blobs: BlobStore, tmp_path: Path, content: bytes):
    _, digest = stored(blobs, tmp_path, content)
    blobs.fetch(digest, tmp_path / "target")
    assert hash_of(tmp_path / "target") == digest


def test_putting_twice_is_putting_once(blobs: BlobStore, tmp_path: Path):
    source, digest = stored(blobs, tmp_path)
    blobs.put(source, digest)
    blobs.fetch(digest, tmp_path / "target")


def test_what_is_not_there_is_not_found(blobs: BlobStore, tmp_path: Path):
    digest = "0" * 64
    assert not blobs.has(digest)
    with pytest.raises(NotFound):
        blobs.fetch(digest, tmp_path / "target")
    assert list(tmp_path.iterdir()) == []
    blobs.remove(digest)


def test_a_blob_that_was_removed_is_gone(blobs: BlobStore, tmp_path: Path):
    _, digest = stored(blobs, tmp_path)
    blobs.remove(digest)
    assert not blobs.has(digest)


def test_f19_a_file_that_is_not_what_its_digest_says_is_not_stored(blobs: BlobStore, tmp_path: Path):
    (tmp_path / "source").write_bytes(b"other bytes")
    with pytest.raises(Internal):
        blobs.put(tmp_path / "source", "1" * 64)
    assert not blobs.has("1" * 64)


@pytest.mark.parametrize("key", ["", "../../etc/passwd", "A" * 64, "0" * 63, "0" * 64 + "\n"], ids=repr)
def test_a_key_is_a_digest_and_nothing_else(blobs: BlobStore, tmp_path: Path, key: str):
    for work in (blobs.has, blobs.remove, lambda key: blobs.fetch(key, tmp_path / "target")):
        with pytest.raises(Internal):
            work(key)


def test_f18_one_flipped_bit_anywhere_is_never_served(tmp_path: Path):
    blobs = LocalBlobs(tmp_path / "blobs")
    source, digest = stored(blobs, tmp_path, random.Random(18).randbytes(4096))
    whole = source.read_bytes()
    path = tmp_path / "blobs" / digest[:2] / digest
    for place in random.Random(18).sample(range(8 * len(whole)), RANDOM_PLACES):
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << place % 8
        path.write_bytes(damaged)
        with pytest.raises(Unavailable, match="damaged") as refused:
            blobs.fetch(digest, tmp_path / "target")
        assert refused.value.reason is Reason.STORAGE
        assert not (tmp_path / "target").exists()
    path.write_bytes(whole[:-1])
    with pytest.raises(Unavailable, match="damaged"):
        blobs.fetch(digest, tmp_path / "target")


def test_f18_a_damaged_blob_is_whole_again_when_it_is_put_again(tmp_path: Path):
    blobs = LocalBlobs(tmp_path / "blobs")
    source, digest = stored(blobs, tmp_path)
    (tmp_path / "blobs" / digest[:2] / digest).write_bytes(b"damaged")
    blobs.put(source, digest)
    blobs.fetch(digest, tmp_path / "target")


def test_f18_an_object_that_was_damaged_is_not_served_until_it_is_put_again(
    s3_blobs: tuple[BlobStore, str], tmp_path: Path
):
    import s3fs

    blobs, prefix = s3_blobs
    source, digest = stored(blobs, tmp_path)
    s3fs.S3FileSystem(skip_instance_cache=True).pipe_file(f"{prefix}/{digest[:2]}/{digest}", source.read_bytes()[::-1])
    with pytest.raises(Unavailable, match="damaged"):
        blobs.fetch(digest, tmp_path / "target")
    assert not (tmp_path / "target").exists()
    blobs.put(source, digest)
    blobs.fetch(digest, tmp_path / "target")


def test_f19_bytes_are_on_the_disk_before_the_name_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The order that a power cut needs: file, name, folder."""
    source = tmp_path / "source"
    source.write_bytes(b"weights")
    digest = hash_of(source)
    path = tmp_path / "blobs" / digest[:2] / digest
    steps: list[str] = []
    real_sync: Callable[[int], None] = os.fsync

    def sync(descriptor: int) -> None:
        what = Path(f"/proc/self/fd/{descriptor}").readlink()
        steps.append(f"{what} {'named' if path.exists() else 'unnamed'}")
        real_sync(descriptor)

    monkeypatch.setattr(os, "fsync", sync)
    LocalBlobs(tmp_path / "blobs").put(source, digest)
    staging, folder = steps[-2:]
    assert staging.startswith(f"{tmp_path}/blobs/staging/")
    assert staging.endswith(" unnamed")
    assert folder == f"{path.parent} named"
    # The folders themselves are named in folders that were synced.
    assert [step.partition(" ")[0] for step in steps[:-2]] == [f"{tmp_path}", f"{tmp_path}/blobs", f"{tmp_path}/blobs"]


def test_f19_what_a_killed_process_left_is_removed_later(tmp_path: Path):
    staging = tmp_path / "blobs" / "staging"
    staging.mkdir(parents=True)
    for name, age in (("abandoned", 100_000), ("in use", 0)):
        (staging / name).write_bytes(b"half")
        moment = (staging / name).stat().st_mtime - age
        os.utime(staging / name, (moment, moment))
    stored(LocalBlobs(tmp_path / "blobs"), tmp_path)
    assert [path.name for path in staging.iterdir()] == ["in use"]


def test_f17_a_store_that_is_not_there_is_told_without_its_address(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ada")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    blobs = open_blobs("s3://bucket/prefix", s3_endpoint="http://127.0.0.1:1")
    with pytest.raises(Unavailable) as refused:
        blobs.has("0" * 64)
    assert refused.value.reason is Reason.STORAGE
    for secret in ("hunter2", "127.0.0.1", "bucket", "ada"):
        assert secret not in str(refused.value)


def test_a_store_that_does_not_know_who_asks_is_told(
    s3_blobs: tuple[BlobStore, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(Unavailable):
        open_blobs(f"s3://{s3_blobs[1]}").has("0" * 64)


def test_an_s3_address_needs_a_bucket():
    with pytest.raises(InvalidArgument):
        open_blobs("s3://")


def test_f18_a_blob_that_was_damaged_is_not_whole(tmp_path: Path):
    blobs = LocalBlobs(tmp_path / "blobs")
    _, digest = stored(blobs, tmp_path)
    assert blobs.is_whole(digest)
    (tmp_path / "blobs" / digest[:2] / digest).write_bytes(b"damaged")
    assert blobs.has(digest)
    assert not blobs.is_whole(digest)


def test_a_blob_is_whole_when_it_is_there(blobs: BlobStore, tmp_path: Path):
    _, digest = stored(blobs, tmp_path, b"x" * 9_000_000)
    assert blobs.is_whole(digest)
    assert not blobs.is_whole("0" * 64)
