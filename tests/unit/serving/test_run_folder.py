"""The folder of a running server, and how commands find it."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec
import pytest

from limen.contracts.snapshot import Snapshot
from limen.serving import run_folder
from limen.serving.process_facts import is_alive, oom_kills, rss_bytes, start_of
from limen.serving.run_folder import ServerFile


def dead_pid() -> int:
    done = subprocess.run(
        [sys.executable, "-S", "-c", "import os; print(os.getpid())"], capture_output=True, check=True
    )
    return int(done.stdout)


def test_a_server_is_found_until_it_is_removed(tmp_path):
    folder, own = run_folder.create(tmp_path, "h:1", "h:2", "h:3")
    assert folder == tmp_path / "run" / str(os.getpid())
    assert run_folder.find(tmp_path) == [own]
    assert own.control.startswith(own.sockets)
    assert Path(own.sockets).stat().st_mode & 0o777 == 0o700
    run_folder.remove(folder, own.sockets)
    assert run_folder.find(tmp_path) == []
    assert not Path(own.sockets).exists()


def test_a_copy_of_a_home_does_not_lead_to_the_server_of_the_original(tmp_path):
    folder, own = run_folder.create(tmp_path / "home", "h:1", "h:2", "h:3", "h:4")
    shutil.copytree(tmp_path / "home", tmp_path / "copy")
    assert run_folder.find(tmp_path / "copy") == []
    assert run_folder.find(tmp_path / "home") == [own]
    run_folder.remove(folder, own.sockets)


def test_what_a_dead_server_has_left_is_removed_and_never_shown(tmp_path):
    sockets = tempfile.mkdtemp(prefix=run_folder.SOCKETS_PREFIX)
    pid = dead_pid()
    left = tmp_path / "run" / str(pid)
    left.mkdir(parents=True)
    (left / "server.json").write_bytes(
        msgspec.json.encode(ServerFile(pid, "", run_folder.this_host(), sockets, "", "", ""))
    )
    assert run_folder.find(tmp_path) == []
    assert not left.exists()
    assert not Path(sockets).exists()


def test_another_process_with_the_same_id_is_not_the_server(tmp_path):
    own = ServerFile(os.getpid(), "1", run_folder.this_host(), "nowhere", "", "", "")
    assert start_of(os.getpid()) != "1"
    assert not own.is_running
    assert is_alive(os.getpid(), start_of(os.getpid()))


def test_a_server_in_another_container_is_neither_shown_nor_disturbed(tmp_path):
    other = tmp_path / "run" / str(os.getpid())
    other.mkdir(parents=True)
    left = ServerFile(os.getpid(), "", "another container", "", "", "", "")
    (other / "server.json").write_bytes(msgspec.json.encode(left))
    folder, own = run_folder.create(tmp_path, "", "", "")
    assert folder != other
    assert run_folder.find(tmp_path) == [own]
    assert (other / "server.json").is_file()
    run_folder.remove(folder, own.sockets)


def test_what_a_server_has_left_before_the_machine_was_started_anew_is_removed(tmp_path):
    name, _, boot = run_folder.this_host().rpartition(" ")
    assert name
    assert boot
    left = tmp_path / "run" / "1"
    left.mkdir(parents=True)
    (left / "server.json").write_bytes(msgspec.json.encode(ServerFile(1, "", f"{name} earlier", "", "", "", "")))
    assert run_folder.find(tmp_path) == []
    assert not left.exists()


def test_a_folder_that_we_have_not_made_is_left_alone(tmp_path):
    kept = tmp_path / "precious"
    kept.mkdir()
    run_folder.remove(tmp_path / "gone", str(kept))
    assert kept.is_dir()


@pytest.mark.parametrize("content", [b"", b"{", b'{"pid": 1}'])
def test_a_server_file_that_makes_no_sense_is_ignored(tmp_path, content):
    folder = tmp_path / "run" / "1"
    folder.mkdir(parents=True)
    (folder / "server.json").write_bytes(content)
    assert run_folder.find(tmp_path) == []


def test_sockets_have_short_paths_wherever_temporary_files_are(tmp_path, monkeypatch):
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    _, own = run_folder.create(tmp_path, "", "", "")
    assert len(own.sockets) <= run_folder.MAX_SOCKET_FOLDER
    assert list(deep.iterdir()) == []
    run_folder.remove(tmp_path, own.sockets)


def test_a_snapshot_is_read_as_it_was_written_or_not_at_all(tmp_path):
    assert run_folder.read_snapshot(tmp_path) is None
    run_folder.write(run_folder.snapshot(tmp_path), msgspec.json.encode(Snapshot(3)))
    assert run_folder.read_snapshot(tmp_path) == Snapshot(3)
    run_folder.snapshot(tmp_path).write_bytes(b"half")
    assert run_folder.read_snapshot(tmp_path) is None


def test_the_system_says_how_much_memory_a_process_has():
    assert rss_bytes(os.getpid()) > 1 << 20
    assert rss_bytes(dead_pid()) == 0
    assert oom_kills() >= 0
