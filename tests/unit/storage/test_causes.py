"""When a store does not work, people are told which, why and what to do; callers are not told where."""

import errno
import os
import sqlite3
from pathlib import Path

import pytest

from limen.cli.words import next_step
from limen.contracts.errors import Reason, Unavailable
from limen.storage import causes
from limen.storage.database import Database
from limen.storage.faults import file_faults


def opened(path: Path) -> Unavailable:
    with pytest.raises(Unavailable) as caught:
        Database.open(f"sqlite:///{path}")
    return caught.value


@pytest.mark.parametrize(
    ("number", "words", "reason"),
    [
        (errno.EACCES, causes.NOT_PERMITTED, Reason.STORAGE),
        (errno.EPERM, causes.NOT_PERMITTED, Reason.STORAGE),
        (errno.EROFS, causes.READ_ONLY, Reason.STORAGE),
        (errno.ENOSPC, causes.IS_FULL, Reason.STORAGE_FULL),
        (errno.EDQUOT, causes.IS_FULL, Reason.STORAGE_FULL),
        (errno.EEXIST, causes.IN_THE_WAY, Reason.STORAGE),
        (errno.EIO, causes.BROKEN_DISK, Reason.STORAGE),
        (errno.EMFILE, causes.UNREADABLE, Reason.STORAGE),
    ],
)
def test_a_file_says_why_and_where(number, words, reason):
    with pytest.raises(Unavailable) as caught, file_faults("the blob store"):
        raise OSError(number, os.strerror(number), "/srv/blobs/x")
    assert (caught.value.message, caught.value.reason) == (f"the blob store {words}", reason)
    assert caught.value.place == "/srv/blobs/x"
    if words is not causes.UNREADABLE:
        assert causes.next_step(caught.value.message) == next_step(reason, (), caught.value.message)


def test_a_file_that_is_no_database_is_named_and_left_alone(tmp_path):
    file = tmp_path / "limen.db"
    file.write_text("somebody's notes, which are long enough to be looked at")
    refused = opened(file)
    assert (refused.message, refused.place) == ("the registry's database is not a database", str(file))
    assert "--home" in next_step(refused.reason, (), refused.message)
    assert file.read_text().startswith("somebody's notes")


@pytest.mark.parametrize("tables", [["notes"], ["alembic_version"], ["notes", "alembic_version"]])
def test_a_database_of_another_program_is_named_and_left_alone(tables, tmp_path):
    file = tmp_path / "limen.db"
    with sqlite3.connect(file) as connection:
        for table in tables:
            connection.execute(f"CREATE TABLE {table}(version_num TEXT)")
    connection.close()
    refused = opened(file)
    assert (refused.message, refused.place) == ("the registry's database belongs to another program", str(file))
    connection = sqlite3.connect(file)
    assert {name for (name,) in connection.execute("SELECT name FROM sqlite_master")} == set(tables)
    connection.close()


def test_a_database_of_a_newer_limen_is_named(tmp_path):
    file = tmp_path / "limen.db"
    Database.open(f"sqlite:///{file}").close()
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    refused = opened(file)
    assert causes.NEWER in refused.message
    assert refused.place == str(file)
    assert "Install that release" in next_step(refused.reason, (), refused.message)


def test_a_file_where_the_folder_should_be_is_named(tmp_path):
    (tmp_path / "home").write_text("")
    refused = opened(tmp_path / "home" / "limen.db")
    assert refused.message == f"the registry's folder {causes.IN_THE_WAY}"
    assert refused.place == str(tmp_path / "home")


@pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_is_named(tmp_path):
    tmp_path.chmod(0o500)
    refused = opened(tmp_path / "home" / "limen.db")
    assert refused.message == f"the registry's folder {causes.NOT_PERMITTED}"
    assert refused.place == str(tmp_path / "home")
    tmp_path.chmod(0o700)


def test_the_command_names_the_place(tmp_path, capsys, monkeypatch):
    import sys

    from limen.cli import main

    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "limen.db").write_text("somebody's notes, which are long enough to be looked at")
    monkeypatch.setattr(sys, "argv", ["limen", "model", "list", "--home", str(tmp_path / "home")])
    with pytest.raises(SystemExit):
        main()
    told = capsys.readouterr().err
    assert f"the registry's database is not a database ({tmp_path / 'home' / 'limen.db'})" in told
    assert "hint: Nothing was changed. Choose another folder" in told
