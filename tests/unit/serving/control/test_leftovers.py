"""What killed processes have left is found by its lock, its socket or its age, and nothing else is touched."""

import os
import socket
import tempfile
import time
from pathlib import Path

import pytest

from limen.serving.control.leftovers import UNUSED_S, WORK_S, YOUNG_S, collect, collect_native, collect_scratch
from limen.storage.locks import hold
from limen.storage.sockets import LOCK, is_socket_folder, make_socket_folder, remove_socket_folder

DAY_S = 86_400.0


@pytest.fixture
def temporary(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "t"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def home(tmp_path) -> Path:
    (tmp_path / "home" / "packages").mkdir(parents=True)
    return tmp_path / "home"


def made(folder: Path, name: str, age_s: float) -> Path:
    path = folder / name
    path.mkdir()
    (path / "file").write_text("x")
    os.utime(path, (time.time() - age_s,) * 2)
    return path


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_sockets_of_a_server_that_was_killed_are_removed_and_those_of_a_living_one_stay(temporary, home):
    for name in ("limen-abcdefgh", "limen-ijklmnop", "limen-qrstuvwx"):
        (temporary / name).mkdir()
        if name != "limen-qrstuvwx":
            (temporary / name / LOCK).touch()
        os.utime(temporary / name, (0, 0))
    held = hold(temporary / "limen-ijklmnop" / LOCK)
    collect(home, ())
    # The last one is not known to be ours.
    assert left(temporary) == {"limen-ijklmnop", "limen-qrstuvwx"}
    os.close(held)


def test_what_is_young_stays(temporary, home):
    made(temporary, "limen-abcdefgh", YOUNG_S / 2)
    made(temporary, "limen-scratch-abcdefgh", WORK_S / 2)
    made(temporary, "pygrpc-native-abcdefgh", YOUNG_S / 2)
    made(home / "packages", "ab" * 32, UNUSED_S / 2)
    made(home / "packages", ".staging-abc", WORK_S / 2)
    assert collect(home, ()) == []


def test_work_in_progress_of_killed_commands_is_removed_after_a_day(temporary, home):
    made(temporary, "limen-scratch-abcdefgh", 2 * DAY_S)
    made(temporary, "limen-publish-abcdefgh", 2 * DAY_S)
    made(temporary, "somebody-else", 2 * DAY_S)
    made(home, ".fetch-abc", 2 * DAY_S)
    made(home / "packages", ".staging-abc", 2 * DAY_S)
    made(home / "packages", ".damaged-abc", 2 * DAY_S)
    assert len(collect(home, ())) == 5
    assert (left(temporary), left(home), left(home / "packages")) == ({"somebody-else"}, {"packages"}, set())


def test_packages_that_nobody_uses_are_removed_after_a_week(temporary, home):
    packages = home / "packages"
    used, unused, known = (made(packages, name * 32, 8 * DAY_S) for name in ("aa", "bb", "cc"))
    os.utime(known)  # by a server of the same home
    assert collect(home, [used]) == [unused]
    assert left(packages) == {used.name, known.name}
    # And the other server sees that this one is used.
    assert time.time() - used.stat().st_mtime < DAY_S


def test_scratch_folders_go_with_their_replicas(tmp_path):
    for name in ("m-v1-1", "m-v2-1"):
        made(tmp_path, name, 0.0)
    collect_scratch(tmp_path, {"m-v2-1"})
    assert left(tmp_path) == {"m-v2-1"}
    collect_scratch(tmp_path / "missing", set())


def test_folders_of_the_native_engine_go_when_nothing_listens_in_them(tmp_path):
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        folder = Path(short)
        for name in ("pygrpc-native-a", "pygrpc-native-b"):
            (folder / name).mkdir()
        with socket.socket(socket.AF_UNIX) as living:
            living.bind(str(folder / "pygrpc-native-a" / "fallback.sock"))
            living.listen()
            for path in folder.iterdir():
                os.utime(path, (0, 0))
            collect_native(folder)
            assert left(folder) == {"pygrpc-native-a"}
        os.utime(folder / "pygrpc-native-a", (0, 0))
        collect_native(folder)
        assert left(folder) == set()


def test_a_socket_folder_is_in_use_until_it_is_removed():
    folder = make_socket_folder()
    assert is_socket_folder(Path(folder))
    assert hold(Path(folder) / LOCK) is None
    remove_socket_folder(folder)
    assert not Path(folder).exists()


def test_without_any_place_for_sockets_the_reason_names_where_it_was_tried(monkeypatch, tmp_path):
    def full(**_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "mkdtemp", full)
    with pytest.raises(OSError, match=r"cannot create a folder for sockets in .*/dev/shm"):
        make_socket_folder()
