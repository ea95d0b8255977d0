"""Large JSON texts in pieces: the same values as when they are decoded at once, and the same refusals."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limen.contracts.errors import InvalidArgument, Reason
from limen.contracts.strict.pieces import MAX_DEPTH, Cursor

leaves = st.none() | st.booleans() | st.integers(-99, 99) | st.text(st.sampled_from('a"\\,[]{}: é'), max_size=12)
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=3), inner, max_size=5)
)
layouts = st.sampled_from([(",", ":"), (", ", ": "), (" ,\n\t", " : ")])


def read_list(cursor: Cursor, size: int) -> list[Any]:
    """Read a list that was entered; what is larger than a group is entered, or taken whole."""
    found: list[Any] = []
    is_over = False
    while not is_over:
        group = cursor.group(b"]", size)
        if group is not None:
            found += json.loads(b"[%s]" % group.text)
            is_over = group.is_last
            continue
        if cursor.enter(b"["):
            found.append(read_list(cursor, size))
        else:
            whole = cursor.value(1 << 20)
            assert whole is not None
            found.append(json.loads(whole))
        is_over = cursor.leave(b"]")
    return found


@given(st.lists(values, max_size=8), layouts, st.integers(16, 200))
def test_groups_and_larger_elements_are_the_whole_list(value, layout, size):
    text = json.dumps(value, ensure_ascii=False, separators=layout).encode()
    cursor = Cursor(b" " + text + b"\n")
    assert cursor.enter(b"[")
    assert read_list(cursor, size) == value
    cursor.end()


@given(values.filter(lambda v: isinstance(v, (list, dict, str))), layouts)
def test_a_value_that_is_skipped_ends_where_it_ends(value, layout):
    text = json.dumps(value, ensure_ascii=False, separators=layout).encode()
    cursor = Cursor(text + b"x")
    assert cursor.value(len(text)) == text
    assert cursor.at == len(text)


@pytest.mark.parametrize(
    "text", [b"[1,2", b"[1,,2]", b"[1,]", b"[,1]", b"[1}", b'["a', b"[", b"[1]]", b"[1] 2", b'["\\"]', b"[1 2]"]
)
@pytest.mark.parametrize("size", [2, 3, 64])
def test_what_is_no_json_is_refused_however_it_is_cut(text, size):
    def read() -> None:
        cursor = Cursor(text)
        cursor.enter(b"[")
        read_list(cursor, size)
        cursor.end()

    with pytest.raises((InvalidArgument, json.JSONDecodeError)):
        read()


def test_a_key_is_taken_with_its_quotes():
    cursor = Cursor(b'{ "a\\"b" : [1]}')
    assert cursor.enter(b"{")
    assert cursor.key() == b'"a\\"b"'
    assert cursor.peek() == b"["


@pytest.mark.parametrize("text", [b"[" * (MAX_DEPTH + 1), b'{"a":' * (MAX_DEPTH + 1)])
def test_what_is_nested_too_deep_is_told_so(text):
    assert Cursor(text).refusal(InvalidArgument("other")).reason is Reason.TOO_DEEP
    with pytest.raises(InvalidArgument) as caught:
        Cursor(text).value(1 << 20)
    assert caught.value.reason is Reason.TOO_DEEP


def test_a_value_that_is_too_large_is_not_looked_at_to_its_end():
    text = b"[" + b"1," * (1 << 20) + b"]"
    cursor = Cursor(text)
    assert cursor.value(1 << 16) is None
    assert cursor.at < 1 << 19


def test_more_lists_than_anybody_means_are_refused():
    with pytest.raises(InvalidArgument) as caught:
        Cursor(b"[" + b"[]," * 100 + b"[]]").skip(99)
    assert caught.value.reason is Reason.TOO_MANY_PARTS
