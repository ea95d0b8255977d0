"""Whether files still are what their digest says (F18)."""

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from limen.contracts.errors import InvalidPackage
from limen.packaging.archive import intact
from limen.packaging.archive.index import digest_of
from limen.packaging.archive.intact import current_digest, ensure_intact, is_intact
from limen.packaging.archive.package import hash_folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "deep").mkdir()
    (tmp_path / "model.yaml").write_bytes(b"name: score\n")
    (tmp_path / "deep" / "model.onnx").write_bytes(random.Random(1).randbytes(4096))
    return tmp_path


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return the folders that are hashed from now on."""
    found: list[Path] = []

    def hash_and_note(folder: Path):
        found.append(folder)
        return hash_folder(folder)

    monkeypatch.setattr(intact, "hash_folder", hash_and_note)
    return found


def flip(path: Path, place: int, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1 << bit
    path.write_bytes(data)


def test_f18_one_bit_that_flips_anywhere_is_noticed(root: Path):
    digest, places = digest_of(hash_folder(root)), random.Random(18)
    assert is_intact(root, digest)
    model = root / "deep" / "model.onnx"
    for _ in range(200):
        place, bit = places.randrange(4096), places.randrange(8)
        flip(model, place, bit)
        assert not is_intact(root, digest)
        flip(model, place, bit)
    assert is_intact(root, digest)


@pytest.mark.parametrize(
    "harm",
    [
        lambda root: (root / "model.yaml").unlink(),
        lambda root: (root / "more.bin").write_bytes(b""),
        lambda root: (root / "deep" / "model.onnx").rename(root / "model.onnx"),
        lambda root: os.truncate(root / "model.yaml", 3),
        lambda root: (root / "link").symlink_to(root / "model.yaml"),
        lambda root: os.mkfifo(root / "pipe"),
    ],
    ids=["gone", "more", "moved", "shorter", "a link", "a pipe"],
)
def test_f18_files_that_are_gone_added_or_moved_are_damage(root: Path, harm: Callable[[Path], object]):
    digest = current_digest(root)
    harm(root)
    assert not is_intact(root, digest)
    with pytest.raises(InvalidPackage, match="damaged"):
        ensure_intact(root, digest)


def test_a_folder_that_is_gone_is_not_intact(root: Path):
    assert not is_intact(root / "nowhere", current_digest(root))


def test_files_that_nobody_touched_are_hashed_once_in_a_process(root: Path, hashed: list[Path]):
    digest = current_digest(root)
    assert ensure_intact(root, digest) == digest
    assert is_intact(root, digest)
    assert hashed == [root]


def test_who_hears_of_damage_has_the_files_hashed_again(root: Path, hashed: list[Path]):
    digest = current_digest(root)
    assert is_intact(root, digest, afresh=True)
    assert hashed == [root, root]


def test_f18_a_change_that_hides_its_time_is_noticed(root: Path):
    digest, model = current_digest(root), root / "deep" / "model.onnx"
    before = model.stat()
    flip(model, 7, 0)
    os.utime(model, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert model.stat().st_mtime_ns == before.st_mtime_ns
    assert not is_intact(root, digest)
