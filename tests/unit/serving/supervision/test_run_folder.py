"""The folder of a running server, and how commands find it."""

import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec
import pytest

from limen.contracts.snapshot import Snapshot
from limen.serving.supervision import run_folder
from limen.serving.supervision.facts import OOM_WINDOW_S, OomKills, is_alive, oom_kills, rss_bytes, start_of
from limen.serving.supervision.run_folder import ServerFile
from limen.storage.files import write_whole
from limen.storage.locks import hold, is_held
from limen.storage.sockets import MAX_FOLDER, PREFIX


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
    sockets = tempfile.mkdtemp(prefix=PREFIX)
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
    assert len(own.sockets) <= MAX_FOLDER
    assert list(deep.iterdir()) == []
    run_folder.remove(tmp_path, own.sockets)


def test_a_start_without_room_leaves_nothing_and_says_why(tmp_path, monkeypatch):
    sockets = []

    def write(path, data, **options):
        sockets.append(json.loads(data)["sockets"])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(run_folder, "write_whole", write)
    with pytest.raises(OSError, match="No space left"):
        run_folder.create(tmp_path, "", "", "")
    assert list((tmp_path / "run").iterdir()) == []
    assert not Path(sockets[0]).exists()


def another(tmp_path: Path, name: str, host: str) -> Path:
    """Make what a server in another container, or on another machine, has written."""
    folder = tmp_path / "run" / name
    folder.mkdir(parents=True)
    left = ServerFile(os.getpid(), "", host, "", "", "", "")
    (folder / "server.json").write_bytes(msgspec.json.encode(left))
    return folder


def test_a_killed_container_leaves_nothing_and_a_living_one_is_left_alone(tmp_path):
    boot = run_folder.this_host().rpartition(" ")[2]
    dead, living = (another(tmp_path, name, f"pod pid:[1] {boot}") for name in ("1", "2"))
    (dead / run_folder.LOCK).touch()
    held = hold(living / run_folder.LOCK)
    run_folder.clean(tmp_path)
    assert (dead.exists(), living.exists()) == (False, True)
    os.close(held)
    run_folder.clean(tmp_path)
    assert not living.exists()


def test_a_server_on_another_machine_is_gone_when_it_has_not_touched_its_lock_for_long(tmp_path):
    folder = another(tmp_path, "1", "far pid:[1] another-boot")
    lock = folder / run_folder.LOCK
    lock.touch()
    run_folder.clean(tmp_path)
    assert folder.exists()
    for path in (folder, lock):
        os.utime(path, (0, 0))
    run_folder.clean(tmp_path)
    assert not folder.exists()


def test_a_server_of_a_version_without_locks_is_left_alone(tmp_path):
    folder = another(tmp_path, "1", "far pid:[1] another-boot")
    os.utime(folder, (0, 0))
    run_folder.clean(tmp_path)
    assert folder.exists()


def test_a_start_that_was_killed_half_way_is_removed_when_it_is_old(tmp_path):
    half = tmp_path / "run" / ".new-abc"
    half.mkdir(parents=True)
    run_folder.clean(tmp_path)
    assert half.exists()
    os.utime(half, (0, 0))
    run_folder.clean(tmp_path)
    assert not half.exists()


def test_a_removal_that_was_killed_half_way_is_finished_by_the_next_one(tmp_path, monkeypatch):
    folder, own = run_folder.create(tmp_path, "", "", "")
    with monkeypatch.context() as killed:
        killed.setattr(shutil, "rmtree", lambda *_, **__: None)
        run_folder.remove(folder, own.sockets)
    assert not folder.exists()
    assert run_folder.find(tmp_path) == []
    assert list((tmp_path / "run").iterdir()) == []


def test_a_folder_that_was_made_again_is_in_use_again(tmp_path):
    folder, own = run_folder.create(tmp_path, "", "", "")
    assert is_held(folder / run_folder.LOCK)
    shutil.rmtree(folder)
    assert run_folder.restore(folder, own)
    assert is_held(folder / run_folder.LOCK)
    run_folder.remove(folder, own.sockets)


@pytest.mark.parametrize("part", ["metrics", "sockets"])
def test_a_part_of_the_folder_that_is_lost_is_made_again(tmp_path, part):
    folder, own = run_folder.create(tmp_path, "", "", "")
    assert not run_folder.restore(folder, own)
    lost = folder / "metrics" if part == "metrics" else Path(own.sockets)
    shutil.rmtree(lost)
    assert run_folder.restore(folder, own)
    assert lost.stat().st_mode & 0o777 == 0o700
    assert not run_folder.restore(folder, own)
    run_folder.remove(folder, own.sockets)


def test_a_snapshot_is_read_as_it_was_written_or_not_at_all(tmp_path):
    assert run_folder.read_snapshot(tmp_path) is None
    write_whole(run_folder.snapshot(tmp_path), msgspec.json.encode(Snapshot(3)))
    assert run_folder.read_snapshot(tmp_path) == Snapshot(3)
    run_folder.snapshot(tmp_path).write_bytes(b"half")
    assert run_folder.read_snapshot(tmp_path) is None


def test_the_system_says_how_much_memory_a_process_has():
    assert rss_bytes(os.getpid()) > 1 << 20
    assert rss_bytes(dead_pid()) == 0
    assert oom_kills() >= 0


def test_a_kill_for_want_of_memory_is_known_for_a_few_seconds():
    counted = [3]
    kills = OomKills(lambda: counted[0])
    assert not kills.has_struck(0.0)
    counted[0] = 4
    assert kills.has_struck(10.0)
    assert kills.has_struck(10.0 + OOM_WINDOW_S)
    assert not kills.has_struck(10.1 + OOM_WINDOW_S)
