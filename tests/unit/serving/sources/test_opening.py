"""Opening packages: verified copies that do not change with the folder."""

import os
from pathlib import Path

import pytest

from limen.contracts.errors import InvalidPackage, Reason
from limen.contracts.serving import Replicas, Serving
from limen.contracts.snapshot import ServedEndpoint, ServedVersion
from limen.packaging.archive.package import build
from limen.packaging.archive.scan import scan
from limen.serving.link.packages import package_of
from limen.serving.sources.opening import forget_copy, open_verified, reopen
from tests.services.packages import write_countdown, write_score


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_score(tmp_path / "score")


def test_a_folder_is_served_from_a_copy(folder, tmp_path):
    opened = open_verified(folder, tmp_path / "home", tmp_path / "copies", is_inline=False, trust_code=False)
    assert (opened.endpoint, opened.origin) == ("score", str(folder))
    copy = Path(opened.root)
    assert copy.parent == tmp_path / "copies"
    (folder / "model.onnx").write_bytes(b"something else")
    assert (copy / "model.onnx").read_bytes() != b"something else"
    served = ServedVersion("1", opened.root, opened.digest, opened.origin)
    assert reopen(ServedEndpoint("score"), served) == opened
    serving = Serving(replicas=Replicas(min=3, max=3))
    assert reopen(ServedEndpoint("score", serving=serving), served).serving == serving
    assert package_of(ServedEndpoint("score.v2"), served).manifest.contract.name == "score.v2"
    forget_copy(opened.root, tmp_path / "copies")
    assert not copy.exists()


def test_an_archive_is_served_from_the_cache_and_stays_there(folder, tmp_path):
    archive = build(folder, tmp_path / "dist").path
    opened = open_verified(archive, tmp_path / "home", tmp_path / "copies", is_inline=False, trust_code=False)
    assert Path(opened.root).is_relative_to(tmp_path / "home")
    forget_copy(opened.root, tmp_path / "copies")
    assert Path(opened.root).is_dir()


def test_a_package_that_is_refused_leaves_no_copy_and_is_named(folder, tmp_path):
    (folder / "model.onnx").write_bytes(b"\x80\x04cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(InvalidPackage, match=f"^{folder}: the package holds unsafe files") as refused:
        open_verified(folder, tmp_path / "home", tmp_path / "copies", is_inline=False, trust_code=False)
    assert refused.value.reason is Reason.UNSAFE_FORMAT
    assert list((tmp_path / "copies").iterdir()) == []


def test_code_that_is_not_trusted_is_not_even_copied(tmp_path):
    folder = write_countdown(tmp_path / "countdown")
    with pytest.raises(InvalidPackage, match="runs only with --trust-code"):
        open_verified(folder, tmp_path / "home", tmp_path / "copies", is_inline=False, trust_code=False)
    assert not (tmp_path / "copies").exists()
    assert (
        open_verified(folder, tmp_path / "home", tmp_path / "copies", is_inline=False, trust_code=True).endpoint
        == "countdown"
    )


def test_a_copy_that_cannot_be_made_is_a_reason_and_no_traceback(folder, tmp_path):
    (tmp_path / "copies").write_text("a file")
    with pytest.raises(InvalidPackage, match=r"cannot copy the package to .*copies: "):
        open_verified(folder, tmp_path / "home", tmp_path / "copies", is_inline=False, trust_code=False)


def test_a_scan_sees_changes_of_content_and_nothing_else(folder):
    first = scan(folder)
    assert scan(folder) == first
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "model.pyc").write_bytes(b"x")
    assert scan(folder) == first
    os.utime(folder / "model.yaml", ns=(1, 1))
    assert scan(folder) != first
    assert scan(folder / "model.yaml") == (("model.yaml", (folder / "model.yaml").stat().st_size, 1),)
    assert scan(folder / "missing") == ()


def test_a_version_whose_files_are_gone_does_not_keep_the_next_control_process_from_starting(tmp_path):
    served = ServedVersion("1", str(tmp_path / "gone"), "d", "./score", replicas=("/r1",))
    opened = reopen(ServedEndpoint("score"), served)
    assert (opened.endpoint, opened.root, opened.digest, opened.origin) == ("score", served.root, "d", "./score")
