"""Names that mean something else on another system, or lead elsewhere, never get into a package."""

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limen.contracts.errors import InvalidPackage, Reason
from limen.packaging.paths import ensure_inside, is_ignored, list_files, path_problem, path_set_problems, shown


@pytest.mark.parametrize(
    "path",
    [
        "model.onnx",
        "a/b/c.txt",
        "größe.csv",
        "モデル/重み.bin",
        ".hidden",
        "a b.txt",
        "con-tract.txt",
        "x" * 100,
        "a/" * 15 + "b",
    ],
)
def test_portable_paths_are_good(path):
    assert path_problem(path) is None


@pytest.mark.parametrize(
    "path",
    [
        *("", "/abs", "../x", "a/../b", "a/./b", "./a", "a//b", "a/", "C:\\x", "C:x", "a\\b", "//host/share"),
        *("a\0b", "a\nb", "a\x7f", "a\u202eb", "a\u200bb", "\ud800", "\ue000"),
        *("e\u0301.txt", "x" * 101, "x" * 256, "a/" * 100 + "b", "/".join(["x" * 40] * 4), "a/" * 16 + "b"),
        *("CON", "nul.txt", "a/Com1", "lpt9.bin", "trailing.", "trailing ", " leading", "a./b"),
    ],
)  # fmt: skip
def test_b90_b91_other_paths_are_refused(path):
    assert path_problem(path)


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["a", "b"], []),
        (["a", "a"], ["a: is repeated"]),
        (["a", "A"], ["A: collides with another file of the package"]),
        (["straße", "STRASSE"], ["STRASSE: collides with another file of the package"]),
        (["ﬁle", "file"], ["file: collides with another file of the package"]),
        (["dir/a", "Dir/b"], ["Dir/b: lies in a folder whose name differs from another one's in case only"]),
        (["a/b", "a"], ["a: is a file and a folder"]),
        (["a", "A/b"], ["a: is a file and a folder"]),
        (["../a", "ok"], ["../a: must not hold empty parts, '.' or '..'"]),
    ],
)
def test_b91_paths_that_collide_are_found(paths, expected):
    assert [str(v) for v in path_set_problems(paths)] == expected


@pytest.mark.parametrize(
    "path",
    [
        ".git/config",
        "a/.git/x",
        "__pycache__/a.pyc",
        "x.pyc",
        "notes.txt~",
        ".DS_Store",
        "dist/m-0123456789ab.limen",
        ".m-abc.staging",
    ],
)
def test_what_is_ignored(path):
    assert is_ignored(path)


@pytest.mark.parametrize("path", ["model.yaml", "git/config", ".hidden/file", "a.pyc.txt", "dist/weights.bin"])
def test_what_is_not_ignored(path):
    assert not is_ignored(path)


@given(st.text(max_size=300))
def test_a_shown_path_is_short_and_harmless(path):
    text = shown(path)
    assert len(text) <= 80
    assert text.isprintable()


@given(st.text(max_size=40))
def test_b90_a_good_path_never_leaves_its_folder(tmp_path_factory, path):
    folder = tmp_path_factory.getbasetemp()
    if path_problem(path) is None:
        assert ensure_inside(folder, path).is_relative_to(folder.resolve())
    else:
        assert path.startswith("./") or _refuses(folder, path)


def _refuses(folder, path):
    with pytest.raises(InvalidPackage) as caught:
        ensure_inside(folder, path)
    return caught.value.reason is Reason.UNSAFE_ARCHIVE


class TestEnsureInside:
    @pytest.mark.parametrize(
        "path", ["../../etc/passwd", "/etc/passwd", "a/../../x", "a\\..\\x", "", "file:///etc/passwd"]
    )
    def test_b94_paths_that_lead_out_are_refused(self, tmp_path, path):
        assert _refuses(tmp_path, path)

    def test_b94_links_that_lead_out_are_refused(self, tmp_path):
        folder = tmp_path / "package"
        folder.mkdir()
        (folder / "weights").symlink_to("../secret")
        (folder / "deep").symlink_to("/")
        assert _refuses(folder, "weights")
        assert _refuses(folder, "deep/etc/passwd")

    def test_files_inside_are_given_with_their_real_path(self, tmp_path):
        assert ensure_inside(tmp_path, "./a/b.bin") == tmp_path.resolve() / "a" / "b.bin"


class TestListFiles:
    def test_files_come_sorted_and_without_ignored_ones(self, tmp_path):
        for name in ("b.txt", "a/z.txt", "a.txt", ".git/config", "a/__pycache__/x.pyc", "old.limen"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text("x")
        assert list_files(tmp_path) == ["a.txt", "a/z.txt", "b.txt"]

    def test_b90_sockets_are_refused(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("s")
            with pytest.raises(InvalidPackage, match="s: is a socket"):
                list_files(tmp_path)

    def test_the_name_of_the_index_is_taken(self, tmp_path):
        (tmp_path / "manifest.json").write_text("{}")
        with pytest.raises(InvalidPackage, match=r"manifest\.json: is a name `limen build` uses itself"):
            list_files(tmp_path)

    def test_b91_too_many_files_are_refused(self, tmp_path, monkeypatch):
        monkeypatch.setattr("limen.packaging.paths.MAX_FILES", 3)
        for i in range(4):
            (tmp_path / str(i)).touch()
        with pytest.raises(InvalidPackage, match="more than 3 files"):
            list_files(tmp_path)

    def test_b91_endless_folders_are_refused(self, tmp_path):
        deep = tmp_path.joinpath(*["d"] * 40)
        deep.mkdir(parents=True)
        with pytest.raises(InvalidPackage, match="more than 16 deep"):
            list_files(tmp_path)
