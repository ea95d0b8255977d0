"""Archives are the same wherever they are built, and nothing but such an archive is ever opened."""

import hashlib
import io
import os
import random
import shutil
import tarfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from limen.contracts.errors import InvalidPackage, Reason, Unavailable
from limen.packaging.archive import package as archive
from limen.packaging.archive import tarball
from limen.packaging.archive.index import FileEntry, decode_index, digest_of, encode_index
from limen.packaging.archive.package import build, hash_folder, inspect, open_package, read_index
from limen.packaging.archive.tarball import END, encode_header, padding, read_members
from limen.packaging.paths import path_problem
from tests.unit.packaging.formats.test_sniff import ONNX, PICKLE

MANIFEST = b"""name: iris
backend: onnx
artifact: model/iris.onnx
inputs: [{name: features, type: float32, shape: [4]}]
outputs: [{name: label, type: int64}]
examples: examples.json
"""
FILES = {
    "model.yaml": MANIFEST,
    "model/iris.onnx": ONNX,
    "examples.json": b'[{"inputs": {"features": [5.1, 3.5, 1.4, 0.2]}}]',
    "empty.txt": b"",
    "docs/" + "long-name-" * 8 + ".txt": b"x" * 1000,
}


def write(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def entries(files):
    return [FileEntry(name, hashlib.sha256(data).hexdigest(), len(data)) for name, data in sorted(files.items())]


def packed(files, index=None):
    """Pack an archive by hand, right or wrong."""
    index = encode_index("iris", entries(files)) if index is None else index
    out = b""
    for name, data in [("manifest.json", index), *sorted(files.items())]:
        out += encode_header(name, len(data)) + data + bytes(padding(len(data)))
    return out + END


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write(tmp_path_factory.mktemp("source"), FILES)


@pytest.fixture(scope="module")
def built(source, tmp_path_factory):
    return build(source, tmp_path_factory.mktemp("dist"))


def refuse(data, tmp_path, name="bad.limen"):
    """Open bytes as an archive; they must be refused and leave nothing behind, anywhere."""
    path = tmp_path / "in" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    before = sorted(p for p in tmp_path.rglob("*") if "cache" not in p.parts)
    with pytest.raises(InvalidPackage) as caught:
        open_package(path, tmp_path / "cache")
    assert sorted(p for p in tmp_path.rglob("*") if "cache" not in p.parts) == before
    assert list((tmp_path / "cache").rglob("*")) in ([], [tmp_path / "cache" / "packages"])
    return caught.value


class TestBuild:
    def test_the_name_holds_the_model_and_the_digest(self, built):
        assert built.path.name == f"iris-{built.digest[:12]}.limen"
        assert built.size == built.path.stat().st_size

    def test_the_same_content_gives_the_same_bytes_anywhere(self, built, tmp_path):
        other = write(tmp_path / "elsewhere", dict(reversed(FILES.items())))
        os.utime(other / "model.yaml", (1, 1))
        (other / "examples.json").chmod(0o755)
        write(other, {".git/config": b"x", "__pycache__/a.pyc": b"x", "notes.txt~": b"x", "old-1.limen": b"x"})
        again = build(other, tmp_path / "out")
        assert (again.digest, again.path.read_bytes()) == (built.digest, built.path.read_bytes())

    def test_the_digest_is_the_one_of_the_folder(self, built, source, tmp_path):
        assert open_package(source, tmp_path).digest == built.digest

    def test_any_other_content_gives_another_digest(self, built, tmp_path):
        digests = {built.digest}
        for change in ({"empty.txt": b"x"}, {"new.txt": b""}, {"model.yaml": MANIFEST + b"\n"}):
            digests.add(build(write(tmp_path / str(len(digests)), FILES | change), tmp_path).digest)
        assert len(digests) == 4

    def test_any_tar_tool_can_list_it(self, built):
        with tarfile.open(built.path) as found:
            assert found.getnames() == ["manifest.json", *sorted(FILES)]
            assert {(m.mtime, m.uid, m.gid, m.mode) for m in found.getmembers()} == {(0, 0, 0, 0o644)}
            manifest = found.extractfile("model.yaml")
            assert manifest is not None
            assert manifest.read() == MANIFEST

    def test_the_index_is_canonical_and_lists_every_file(self, built):
        with tarfile.open(built.path) as found:
            file = found.extractfile("manifest.json")
            assert file is not None
            index = msgspec.json.decode(file.read())
        assert list(index) == ["digest", "files", "format", "name"]
        assert (index["digest"], index["format"], index["name"]) == (built.digest, 1, "iris")
        assert {f["path"]: f["size"] for f in index["files"]} == {k: len(v) for k, v in FILES.items()}

    def test_an_archive_inside_its_own_folder_does_not_become_part_of_it(self, built, tmp_path):
        folder = write(tmp_path / "p", FILES)
        assert build(folder, folder).digest == built.digest
        assert build(folder, folder / "dist").digest == built.digest

    def test_a_failed_build_leaves_nothing(self, tmp_path, monkeypatch):
        folder = write(tmp_path / "p", FILES)
        monkeypatch.setattr(archive, "hash_folder", lambda _: tuple(entries(FILES | {"empty.txt": b"longer"})))
        with pytest.raises(InvalidPackage, match=r"empty\.txt: does not match the index"):
            build(folder, tmp_path / "out")
        assert list((tmp_path / "out").iterdir()) == []

    def test_a_file_that_grows_meanwhile_is_seen(self, tmp_path, monkeypatch):
        folder = write(tmp_path / "p", FILES)
        monkeypatch.setattr(archive, "hash_folder", lambda _: tuple(entries(FILES | {"model.yaml": MANIFEST[:10]})))
        with pytest.raises(InvalidPackage, match=r"model\.yaml: changed while it was read"):
            build(folder, tmp_path / "out")

    def test_b92_a_package_with_a_pickle_is_not_built(self, tmp_path):
        with pytest.raises(InvalidPackage, match="is a pickle") as caught:
            build(write(tmp_path / "p", FILES | {"data.bin": PICKLE}), tmp_path / "out")
        assert caught.value.reason is Reason.UNSAFE_FORMAT
        assert not (tmp_path / "out").exists()


class TestOpen:
    def test_a_folder_is_used_in_place(self, source, tmp_path):
        package = open_package(source, tmp_path / "cache")
        assert (package.root, package.origin) == (source, source)
        assert not (tmp_path / "cache").exists()

    def test_an_archive_is_unpacked_under_its_digest(self, built, tmp_path):
        package = open_package(built.path, tmp_path)
        assert package.root == tmp_path / "packages" / built.digest
        assert (package.digest, package.origin) == (built.digest, built.path)
        assert contents(package.root) == FILES
        assert package.manifest.contract.examples[0].inputs == {"features": [5.1, 3.5, 1.4, 0.2]}
        assert [p.name for p in (tmp_path / "packages").iterdir()] == [built.digest]

    def test_opening_again_uses_what_is_there(self, built, tmp_path):
        first = open_package(built.path, tmp_path)
        number = (first.root / "model.yaml").stat().st_ino
        assert open_package(built.path, tmp_path).root == first.root
        assert (first.root / "model.yaml").stat().st_ino == number

    @pytest.mark.parametrize("damage", ["change", "remove", "add", "link"])
    def test_a_damaged_copy_in_the_cache_is_replaced(self, built, tmp_path, damage):
        root = open_package(built.path, tmp_path).root
        if damage == "add":
            (root / "extra.txt").write_text("x")
        else:
            (root / "model.yaml").unlink()
        if damage == "change":
            (root / "model.yaml").write_bytes(MANIFEST.replace(b"iris", b"evil"))
        if damage == "link":
            (root / "model.yaml").symlink_to("/etc/passwd")
        assert contents(open_package(built.path, tmp_path).root) == FILES
        assert [p.name for p in (tmp_path / "packages").iterdir()] == [built.digest]

    def test_an_unpacked_archive_can_be_packed_again(self, built, tmp_path):
        package = open_package(built.path, tmp_path / "cache")
        assert build(package.root, tmp_path / "out").path.read_bytes() == built.path.read_bytes()

    def test_nothing_there_is_no_package(self, tmp_path):
        with pytest.raises(InvalidPackage, match="neither a folder nor a file"):
            open_package(tmp_path / "nothing", tmp_path)

    def test_a_cache_that_cannot_be_written_is_no_fault_of_the_package(self, built, tmp_path):
        (tmp_path / "packages").write_text("a file in the way")
        with pytest.raises(Unavailable, match="cache folder is not writable"):
            open_package(built.path, tmp_path)

    def test_another_process_may_be_faster(self, built, source, tmp_path, monkeypatch):
        """The loser of the race takes the winner's copy and cleans up."""
        root = tmp_path / "packages" / built.digest

        def raced(folder):
            shutil.copytree(source, root)

        monkeypatch.setattr(archive, "sync_folder", lambda folder: None if root.exists() else raced(folder))
        assert contents(open_package(built.path, tmp_path).root) == FILES
        assert list((tmp_path / "packages").iterdir()) == [root]


class TestInspect:
    def test_a_folder_and_its_archive_look_alike(self, built, source):
        folder, packed_one = inspect(source), inspect(built.path)
        assert (folder.kind, packed_one.kind) == ("folder", "archive")
        assert (folder.digest, folder.files, folder.manifest) == (built.digest, built.files, packed_one.manifest)

    def test_it_can_be_printed_as_json(self, built):
        found = msgspec.json.decode(msgspec.json.encode(inspect(built.path).plain()))
        assert (found["digest"], found["origin"]) == (built.digest, str(built.path))

    def test_a_damaged_archive_is_not_shown(self, built, tmp_path):
        data = bytearray(built.path.read_bytes())
        data[data.find(ONNX) + 100] ^= 1
        (tmp_path / "x.limen").write_bytes(data)
        with pytest.raises(InvalidPackage, match="the package is damaged"):
            inspect(tmp_path / "x.limen")


def tar_with(change, *, mode="w", fmt=tarfile.USTAR_FORMAT):
    """Return a tar archive by the standard library, with one bad member before the good ones."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode, format=fmt) as target:
        info = tarfile.TarInfo("bad")
        change(info)
        target.addfile(info, io.BytesIO(bytes(info.size)))
    return out.getvalue()


def setting(**values):
    def change(info):
        for key, value in values.items():
            setattr(info, key, value)

    return change


HOSTILE_MEMBERS = {
    "parent": (setting(name="../x"), "must not hold empty parts"),
    "absolute": (setting(name="/etc/cron.d/x"), "must be a relative path"),
    "drive": (setting(name="C:\\x"), "must be a relative path"),
    "hidden parent": (setting(name="a/../../x"), "must not hold empty parts"),
    "symbolic link": (setting(type=tarfile.SYMTYPE, linkname="/etc"), "is a symbolic link"),
    "hard link": (setting(type=tarfile.LNKTYPE, linkname="/etc/passwd"), "is a hard link"),
    "character device": (setting(type=tarfile.CHRTYPE), "is a device"),
    "block device": (setting(type=tarfile.BLKTYPE), "is a device"),
    "pipe": (setting(type=tarfile.FIFOTYPE), "is a named pipe"),
    "sparse": (setting(type=tarfile.GNUTYPE_SPARSE), "is a sparse file"),
    "folder": (setting(type=tarfile.DIRTYPE), "is a folder entry"),
    "contiguous": (setting(type=tarfile.CONTTYPE), "has a header that `limen build` does not write"),
    "setuid": (setting(mode=0o4755), "has a header that `limen build` does not write"),
    "owner": (setting(uid=0, uname="root"), "has a header that `limen build` does not write"),
    "time": (setting(mtime=1), "has a header that `limen build` does not write"),
    "device name": (setting(name="aux.txt"), "device on Windows"),
    "not NFC": (setting(name="e\u0301"), "Unicode form NFC"),
}


class TestHostileArchives:
    @pytest.mark.parametrize("name", HOSTILE_MEMBERS)
    def test_b90_members_that_are_no_plain_files_are_refused(self, tmp_path, name):
        change, expected = HOSTILE_MEMBERS[name]
        error = refuse(tar_with(change), tmp_path)
        assert error.reason is Reason.UNSAFE_ARCHIVE
        assert expected in error.message

    @pytest.mark.parametrize("fmt", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
    def test_b91_names_of_256_characters_are_refused(self, tmp_path, fmt):
        error = refuse(tar_with(setting(name="x" * 256), fmt=fmt), tmp_path)
        assert "is an extended header" in error.message or "does not write" in error.message

    @pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
    def test_b91_compressed_archives_are_no_packages(self, tmp_path, mode):
        assert (
            "it is not a package that `limen build` made"
            in refuse(tar_with(setting(size=1 << 20), mode=mode), tmp_path).message
        )

    @pytest.mark.parametrize(
        "data", [b"", b"x", bytes(511), bytes(512), bytes(1024), bytes(5000), b"PK\x03\x04" * 200, PICKLE * 20]
    )
    def test_other_files_are_no_packages(self, tmp_path, data):
        assert refuse(data, tmp_path).reason is Reason.UNSAFE_ARCHIVE

    def test_b91_a_declared_terabyte_is_refused_without_reading_it(self, tmp_path):
        header = encode_header("manifest.json", (8 << 30) - 1)
        assert "is larger than the rest" in refuse(header + END, tmp_path).message
        huge = bytearray(header)
        huge[124:136] = b"\x80" + (1 << 40).to_bytes(11, "big")
        assert "has an unreadable size" in refuse(bytes(huge) + END, tmp_path).message

    def test_b91_a_million_entries_are_refused(self, tmp_path, monkeypatch):
        monkeypatch.setattr(tarball, "MAX_FILES", 50)
        assert "more than 50 files" in refuse(encode_header("a", 0) * 60 + END, tmp_path).message

    @pytest.mark.parametrize(
        ("extra", "expected"),
        [
            ({"MODEL.yaml": b""}, "collides with another file"),
            ({"Model/x": b""}, "differs from another one's in case only"),
            ({"model/iris.onnx/x": b""}, "is a file and a folder"),
            ({".git/config": b""}, "is a file that packages must not contain"),
            ({"__pycache__/x.pyc": b""}, "is a file that packages must not contain"),
            ({"a.limen": b""}, "is a file that packages must not contain"),
        ],
    )
    def test_b91_b97_names_that_collide_or_hide_are_refused(self, tmp_path, extra, expected):
        error = refuse(packed(FILES | extra), tmp_path)
        assert error.reason is Reason.UNSAFE_ARCHIVE
        assert expected in error.message

    def test_b97_files_that_the_index_does_not_list_are_refused(self, tmp_path):
        index = encode_index("iris", entries(FILES))
        assert "does not list exactly" in refuse(packed(FILES | {"extra.txt": b""}, index), tmp_path).message
        assert (
            "does not list exactly"
            in refuse(packed({k: v for k, v in FILES.items() if k != "empty.txt"}, index), tmp_path).message
        )

    def test_b97_a_file_that_differs_from_the_index_is_refused(self, tmp_path):
        index = encode_index("iris", entries(FILES))
        other = FILES | {"examples.json": FILES["examples.json"].replace(b"5.1", b"9.9")}
        assert "examples.json: does not match the index" in refuse(packed(other, index), tmp_path).message

    def test_b97_another_name_than_the_manifest_has_is_refused(self, tmp_path):
        error = refuse(packed(FILES, encode_index("fraud", entries(FILES))), tmp_path)
        assert "has another name than model.yaml" in error.message

    def test_the_index_comes_first(self, tmp_path):
        assert "must be the first file" in refuse(packed(FILES)[encoded_size(FILES) :], tmp_path).message

    def test_b91_bytes_after_the_end_are_refused(self, tmp_path):
        assert "does not end where its last file ends" in refuse(packed(FILES) + b"x", tmp_path).message
        assert "does not end where its last file ends" in refuse(packed(FILES) + bytes(512), tmp_path).message

    @pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
    def test_b99_an_archive_that_is_cut_off_is_refused(self, tmp_path, share):
        data = packed(FILES)
        refuse(data[: int(len(data) * share)], tmp_path)

    def test_b92_a_pickle_in_a_right_archive_is_refused(self, tmp_path):
        assert refuse(packed(FILES | {"weights.bin": PICKLE}), tmp_path).reason is Reason.UNSAFE_FORMAT

    def test_b96_code_in_a_right_archive_is_refused(self, tmp_path):
        assert "is code" in refuse(packed(FILES | {"setup.py": b"import os\n"}), tmp_path).message

    def test_a_bad_manifest_in_a_right_archive_is_refused(self, tmp_path):
        assert (
            "name: must be"
            in refuse(packed(FILES | {"model.yaml": MANIFEST.replace(b"iris\n", b"I R\n")}), tmp_path).message
        )


def encoded_size(files):
    size = len(encode_index("iris", entries(files)))
    return 512 + size + padding(size)


class TestIndex:
    GOOD = encode_index("iris", entries(FILES))

    def test_a_good_index_is_read(self):
        index = decode_index(self.GOOD)
        assert index.digest == digest_of(index.files)

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"[]",
            b"{}",
            b"\xff",
            b"[" * 100_000,
            GOOD + b"\n",
            GOOD.replace(b'"format":1', b'"format":2'),
            GOOD.replace(b'"format":1', b'"format":1,"format":1'),
            GOOD.replace(b'"format":1', b'"format":1,"extra":1'),
            GOOD.replace(b'"name":"iris"', b'"name":"../iris"'),
            GOOD.replace(b'"size":0', b'"size":-1'),
            GOOD.replace(b'"size":0', b'"size":1'),
            GOOD.replace(b'"size":0', b'"size":9999999999999999'),
            GOOD.replace(b"empty.txt", b"../../pty"),
            GOOD.replace(b"model.yaml", b"other.yaml"),
            GOOD.replace(b'"sha256":"', b'"sha256":"0', 1),
            encode_index("iris", entries({"a": b""})),
            encode_index("iris", entries(FILES | {"manifest.json": b""})),
        ],
    )
    def test_any_other_index_is_refused(self, data):
        with pytest.raises(InvalidPackage) as caught:
            decode_index(data)
        assert caught.value.reason is Reason.UNSAFE_ARCHIVE


class TestLayout:
    @given(st.text(max_size=60), st.integers(0, (8 << 30) - 1))
    def test_headers_are_read_back_by_the_standard_library(self, name, size):
        if path_problem(name) is not None:
            name = "plain"
        info = tarfile.TarInfo.frombuf(encode_header(name, size), "utf-8", "strict")
        assert (info.name, info.size, info.isreg()) == (name, size, True)

    def test_long_paths_are_cut_in_two_and_put_together_again(self):
        path = "/".join(["a" * 30, "b" * 17, "c" * 100])
        (member,) = read_members(io.BytesIO(encode_header(path, 0) + END), 512 + len(END))
        assert member.path == path

    def test_bytes_between_files_are_refused(self):
        data = bytearray(packed(FILES))
        data[encoded_size(FILES) - 1] = 1
        with pytest.raises(InvalidPackage, match="followed by bytes that belong to no file"):
            read_index(io.BytesIO(bytes(data)), len(data))


def outcome(data, folder):
    """Open bytes as an archive; return the content, or None when they are refused. Nothing may appear outside."""
    path = folder / "x.limen"
    path.write_bytes(data)
    try:
        package = open_package(path, folder / "cache")
    except InvalidPackage:
        package = None
    found = contents(package.root) if package else None
    assert {p.name for p in folder.iterdir()} <= {"x.limen", "cache"}
    inside = [p.name for p in folder.glob("cache/packages/*")]
    assert inside == ([package.digest] if package else [])
    shutil.rmtree(folder / "cache", ignore_errors=True)
    return found


def test_f18_one_flipped_bit_anywhere_is_refused(built, tmp_path):
    """200 of 200: no bit of an archive is without meaning."""
    data = built.path.read_bytes()
    chosen = random.Random(18)
    for _ in range(200):
        at = chosen.randrange(len(data) * 8)
        damaged = bytearray(data)
        damaged[at // 8] ^= 1 << (at % 8)
        assert outcome(bytes(damaged), tmp_path) is None, f"bit {at}"


def test_f18_a_flipped_bit_is_seen_though_the_content_is_in_the_cache(built, tmp_path):
    open_package(built.path, tmp_path)
    data = bytearray(built.path.read_bytes())
    data[data.find(ONNX) + 7] ^= 1
    (tmp_path / "x.limen").write_bytes(data)
    with pytest.raises(InvalidPackage, match="does not match the index"):
        open_package(tmp_path / "x.limen", tmp_path)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_b90_b91_any_change_of_an_archive_is_refused_or_changes_nothing(tmp_path, data):
    """Bytes overwritten, cut out, repeated: never another content, never a file outside the cache."""
    whole = bytearray(packed(FILES))
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(whole) - 1))
        length = data.draw(st.sampled_from([0, 1, 2, 12, 100, 512]))
        whole[start : start + length] = data.draw(
            st.sampled_from([b"", b"\0", b"../", b"/", b"2", bytes(512), bytes(whole[:512])]) | st.binary(max_size=20)
        )
    assert outcome(bytes(whole), tmp_path) in (None, FILES)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.text(min_size=1, max_size=30), st.binary(max_size=50), max_size=4))
def test_b90_any_names_are_refused_or_come_out_as_they_went_in(tmp_path, extra):
    try:
        data = packed(FILES | extra)
    except (UnicodeEncodeError, ValueError):
        return
    assert outcome(data, tmp_path) in (None, FILES | extra)


@given(st.binary(max_size=3000))
def test_any_bytes_are_refused(data):
    with pytest.raises(InvalidPackage):
        read_index(io.BytesIO(data), len(data))


def test_hashes_cover_every_file(source):
    assert [(f.path, f.size) for f in hash_folder(source)] == [(k, len(v)) for k, v in sorted(FILES.items())]


def test_a_package_folder_with_a_relative_path_works(source, tmp_path, monkeypatch):
    monkeypatch.chdir(source.parent)
    assert open_package(Path(source.name), tmp_path).manifest.contract.name == "iris"
