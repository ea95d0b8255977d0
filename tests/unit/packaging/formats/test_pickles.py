"""Pickles are found by what they do, and nothing else is taken for one."""

import collections
import contextlib
import io
import pickle
import pickletools
import subprocess
import time

import joblib  # type: ignore[import-untyped]  # published without types
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limen.packaging.formats.pickles import MAX_STEPS, is_pickle


class Attack:
    def __reduce__(self):
        return subprocess.call, (["true"],)


VALUES = {
    "a call": Attack(),
    "a call in a dict": {"weights": [1.0, Attack()]},
    "plain data": {"a": [1, 2.5, None, True, b"x"], "b": ("c", {1, 2})},
    "an object": collections.Counter("hello"),
    "an array": np.arange(3.0),
    "a long text first": ["x" * 3_000_000, Attack()],
}
CALL = b"csubprocess\ncall\n(S'ls'\ntR."


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_b92_every_protocol_is_found(value, protocol):
    assert is_pickle(pickle.dumps(value, protocol))


@pytest.mark.parametrize(
    "data",
    [
        CALL,
        CALL[:-1],  # the call runs before the end is missed
        b"N." + CALL,  # a harmless pickle first
        b"\x80\x04N." + CALL,
        b"N0" * 1000 + CALL,
        b"(isubprocess\ncall\n.",
        b"(csubprocess\ncall\nS'ls'\no.",
        b"\x80\x02\x82\x01N\x85R.",  # a class from the extension registry
        b"\x8c\x0asubprocess\x8c\x04call\x93)R.",
        b"csubprocess\ncall\n)\x81.",
        b"(dp0\nS'a'\np1\nI1\ns.",
        b"N0" * MAX_STEPS,
        CALL + b"\nand any text after it",
        pickletools.optimize(pickle.dumps(Attack())),
    ],
)
def test_b92_handmade_pickles_are_found(data):
    assert is_pickle(data)


def test_b92_joblib_files_are_found():
    for value in ({"a": np.arange(1000.0)}, Attack()):
        buffer = io.BytesIO()
        joblib.dump(value, buffer)
        assert is_pickle(buffer.getvalue())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b".",
        b"N.",
        b"a.",
        b"I am a text.\n",
        b"credit,age\n1,2\n",
        b"credit\nscore\nR\n",
        b"collections\nOrderedDict\nare words, one on each line.\n",
        b"(see below).\n",
        b"tree\nversion=v4\n",
        b'{"learner": {}}',
        b"name: m\nbackend: onnx\n",
        b"import os\n",
        b"\x80\x99N.",
        b"\x08\x07\x12\x04test",
        b"PK\x03\x04" + bytes(50) + b"\n" + b"N.",
        b"X\xff\xff\xff\xffabc",
        bytes(1000),
        np.arange(1000, dtype="f4").tobytes(),
        b"K9\x82?\x81\xbe",
    ],
)
def test_other_files_are_not_taken_for_pickles(data):
    assert not is_pickle(data)


@given(st.text(max_size=300))
def test_a_text_without_a_full_stop_or_call_is_no_pickle(text):
    """Words and numbers never are one; the walk ends at the first letter that is no opcode."""
    assert not is_pickle(("The " + text).encode())


@given(
    st.recursive(
        st.integers() | st.text() | st.none(), lambda i: st.lists(i) | st.tuples(i, i) | st.dictionaries(st.text(), i)
    ),
    st.integers(2, 5),
)
def test_whatever_pickle_writes_with_a_header_is_found(value, protocol):
    assert is_pickle(pickle.dumps(value, protocol))


class Spy(pickle.Unpickler):
    """Unpickles for real, but notes a call of anything imported instead of doing it."""

    def __init__(self, data):
        super().__init__(io.BytesIO(data))
        self.calls = 0

    def find_class(self, module, name):
        def note(*args, **kwargs):
            self.calls += 1

        return type("Imported", (), {"__new__": note, "__setstate__": note})


STEPS = [
    b"cos\nsystem\n",
    b"(ios\nsystem\n",
    b"\x8c\x02os",
    b"\x93",
    b"\x80\x04",
    *(bytes([b]) for b in b"N(0.]}aetR)bold1250\x81\x85\x94"),
]


@given(st.lists(st.sampled_from(STEPS), max_size=25).map(b"".join))
def test_b92_whatever_calls_something_when_it_is_unpickled_is_found(data):
    """The walk is compared with the real unpickler: it may find more, never less."""
    spy = Spy(data)
    with contextlib.suppress(Exception):
        spy.load()
    assert is_pickle(data) or not spy.calls


@pytest.mark.parametrize(
    "data",
    [b"N" * 3_000_000, b"(" * 3_000_000, b"(1" * 1_500_000, b"N." * 1_500_000, b"c" * 3_000_000, b"N(1" * 1_000_000],
)
def test_hostile_programs_take_little_time(data):
    started = time.monotonic()
    is_pickle(data)
    assert time.monotonic() - started < 20
