"""The folder that a confined process may write to."""

import os
import tempfile

from limen.runtime.sandbox import scratch


def test_a_process_finds_its_folder_empty_whatever_one_before_it_has_left(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setitem(os.environ, "TMPDIR", str(tmp_path))
    folder = tmp_path / "replicas" / "m-v1-1"
    scratch.use(folder)
    (folder / "cache").mkdir()
    (folder / "cache" / "part").write_text("x")
    (folder / "file").write_text("x")
    (folder / "link").symlink_to(tmp_path)
    scratch.empty(folder)
    assert list(folder.iterdir()) == []
    assert tmp_path.is_dir()
    assert tempfile.gettempdir() == str(folder)
