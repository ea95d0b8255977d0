"""Nothing that is printed acts on the terminal but colours of our own."""

import io
import sys

import typer

from limen.cli.terminal import safe_output
from limen.cli.words import paint


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_our_colours_arrive_and_those_of_others_are_shown(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.delenv("NO_COLOR", raising=False)
    with safe_output():
        print(paint("\x1b[31mtitle\x1b[0m", "1"))
    assert terminal.getvalue() == "\x1b[1m\\u001b[31mtitle\\u001b[0m\x1b[0m\n"


def test_without_a_terminal_there_are_no_colours(monkeypatch):
    shown = io.StringIO()
    monkeypatch.setattr(sys, "stdout", shown)
    with safe_output():
        print(paint("title", "1"), "\x1b[2J", "\r\u202e")
    assert shown.getvalue() == "title \\u001b[2J \\u000d\\u202e\n"


def test_standard_error_is_safe_as_well_and_both_are_given_back(monkeypatch):
    shown = io.StringIO()
    monkeypatch.setattr(sys, "stderr", shown)
    before = sys.stdout
    with safe_output():
        sys.stderr.write("\x07")
        sys.stderr.writelines(["a", "\x1b"])
        sys.stderr.flush()
    assert (shown.getvalue(), sys.stdout, sys.stderr) == ("\\u0007a\\u001b", before, shown)


def test_bytes_pass_the_same_way(monkeypatch):
    shown = Terminal()
    monkeypatch.setattr(sys, "stdout", shown)
    with safe_output():
        typer.echo('{"title": "\u202e\x1b"}'.encode())
    assert shown.getvalue() == '{"title": "\\u202e\\u001b"}\n'
