"""How the command line speaks."""

import io

import pytest

from limen.cli.words import CommandError, counted, existing_package, headline, next_step, paint, problem, size
from limen.contracts.errors import Reason


def test_a_problem_is_what_then_where_then_what_next(capsys):
    problem("two things are wrong", ["a: no", "b: no"], hint="mend them")
    assert capsys.readouterr().err == "error: two things are wrong\n  - a: no\n  - b: no\nhint: mend them\n"


def test_a_single_mistake_that_the_sentence_holds_is_not_repeated(capsys):
    problem("model.yaml: a: no", ["a: no"])
    assert capsys.readouterr().err == "error: model.yaml: a: no\n"


@pytest.mark.parametrize(
    ("message", "mistakes", "shown"),
    [
        ("model.yaml has 2 mistakes: a: no; b: no", ["a: no", "b: no"], "model.yaml has 2 mistakes"),
        ("a: no; b: no", ["a: no", "b: no"], "there are 2 mistakes"),
        ("the file is broken: a: no", ["a: no"], "the file is broken: a: no"),
        ("the file is broken", [], "the file is broken"),
        ("something else", ["a: no", "b: no"], "something else"),
    ],
)
def test_the_headline_leaves_out_what_is_listed_below_it(message, mistakes, shown):
    assert headline(message, mistakes) == shown


def test_every_refusal_of_a_package_has_a_next_step():
    assert "ONNX, skops" in next_step(Reason.UNSAFE_FORMAT)
    assert "Read the code first" in next_step(Reason.UNTRUSTED_CODE)
    assert "limen check" in next_step(Reason.INVALID_PACKAGE)
    assert next_step(Reason.INVALID_NAME) == next_step(None) == ""


def test_a_package_is_a_folder_with_a_manifest_or_a_file(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(CommandError, match="it has no model"):
        existing_package(tmp_path / "a")
    (tmp_path / "a/model.yaml").touch()
    assert existing_package(tmp_path / "a") == tmp_path / "a"
    assert existing_package(tmp_path / "a/model.yaml") == tmp_path / "a/model.yaml"
    with pytest.raises(CommandError, match="nothing found at"):
        existing_package(tmp_path / "b")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_colours_are_for_terminals_that_want_them(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert paint("ok", "32", Terminal()) == "\x1b[32mok\x1b[0m"
    assert paint("ok", "32", io.StringIO()) == "ok"
    monkeypatch.setenv("NO_COLOR", "1")
    assert paint("ok", "32", Terminal()) == "ok"


def test_numbers_are_for_people():
    assert [counted(n, "input") for n in (0, 1, 2)] == ["0 inputs", "1 input", "2 inputs"]
    assert [size(n) for n in (0, 1023, 1024, 1536, 5 << 20, 3 << 30)] == [
        "0 B",
        "1023 B",
        "1.0 KiB",
        "1.5 KiB",
        "5.0 MiB",
        "3.0 GiB",
    ]
