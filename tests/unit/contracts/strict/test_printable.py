"""Text of others is shown and never acts."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limen.contracts.strict.printable import printable


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("plain\ttext\n", "plain\ttext\n"),
        ("ünïcödé 日本 🙂", "ünïcödé 日本 🙂"),
        ("\x1b[2Jgone", "\\u001b[2Jgone"),
        ("\x1b]0;title\x07", "\\u001b]0;title\\u0007"),
        ("\x9b31m", "\\u009b31m"),
        ("over\rwritten", "over\\u000dwritten"),
        ("a\u202eb\u2066c", "a\\u202eb\\u2066c"),
        ("zero\u200bwidth\ufeff", "zero\\u200bwidth\\ufeff"),
        ("line\u2028break", "line\\u2028break"),
        ("tag\U000e0041", "tag\\udb40\\udc41"),
        ("half\ud800", "half\\ud800"),
    ],
)
def test_what_acts_on_a_terminal_is_shown_instead(given, shown):
    assert printable(given) == shown


@given(st.text())
def test_json_means_the_same_afterwards(text):
    assert json.loads(printable(json.dumps(text, ensure_ascii=False))) == text


@given(st.text(st.characters(codec="utf-8")))
def test_nothing_is_left_that_could_act(text):
    assert not [c for c in printable(text) if c not in "\n\t" and (ord(c) < 32 or 127 <= ord(c) < 160)]
