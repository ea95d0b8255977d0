"""Versions are named by a number or an alias, and the two are never mistaken for each other."""

import pytest

from limen.contracts.errors import InvalidArgument
from limen.contracts.names import is_number, is_reference, parse_alias


@pytest.mark.parametrize("text", ["champion", "a", "a-b_c9", "x" * 63])
def test_an_alias_is_a_word(text: str):
    assert parse_alias(text) == text
    assert is_reference(text)
    assert not is_number(text)


@pytest.mark.parametrize("text", ["1", "999999999999999999"])
def test_a_number_is_no_alias(text: str):
    assert is_number(text)
    assert is_reference(text)
    with pytest.raises(InvalidArgument):
        parse_alias(text)


@pytest.mark.parametrize("text", ["", "0", "01", "-1", "1e3", "latest", "A", "a b", "x" * 64, "٣", "a\n"], ids=repr)
def test_other_text_is_neither(text: str):
    assert not is_reference(text)
    with pytest.raises(InvalidArgument):
        parse_alias(text)
