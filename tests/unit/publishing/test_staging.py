"""Work in progress leaves nothing behind, however it ends (F19)."""

import subprocess
import sys

import pytest

from limen.publishing.staging import staging_folder

KILLED = """
import os, signal, sys
from pathlib import Path
from limen.publishing.staging import staging_folder

with staging_folder(Path(sys.argv[1])) as folder:
    (folder / "half").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def visible(folder):
    return [path.name for path in folder.iterdir() if not path.name.startswith(".")]


def test_the_folder_is_gone_afterwards(tmp_path):
    with staging_folder(tmp_path / "staging") as folder:
        (folder / "file").write_text("x")
        assert visible(tmp_path / "staging") == [folder.name]
    assert visible(tmp_path / "staging") == []


def test_the_folder_is_gone_after_an_error(tmp_path):
    with pytest.raises(ValueError, match="broken"), staging_folder(tmp_path):
        raise ValueError("broken")
    assert visible(tmp_path) == []


def test_f19_what_a_killed_process_left_goes_before_the_next_work(tmp_path):
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert done.returncode == -9
    assert len(visible(tmp_path)) == 1
    with staging_folder(tmp_path) as folder:
        assert visible(tmp_path) == [folder.name]
        assert not (folder / "half").exists()


def test_folders_in_use_are_left_alone(tmp_path):
    with staging_folder(tmp_path) as first, staging_folder(tmp_path) as second:
        assert set(visible(tmp_path)) == {first.name, second.name}


def test_a_folder_without_a_lock_belonged_to_a_process_that_died_early(tmp_path):
    (tmp_path / "work-abandoned").mkdir()
    with staging_folder(tmp_path) as folder:
        assert visible(tmp_path) == [folder.name]
