"""Bodies of tensors: everything comes back as it went, and no bytes make a reader look past their end."""

import contextlib

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limen.contracts.errors import InvalidOutput, ModelFailed
from limen.contracts.tensors import TYPES
from limen.runtime.placement.process.wire.arena import SHARED_MIN, Arena, create_memory
from limen.runtime.placement.process.wire.frames import BATCH, HEADER, LAYOUT, SHARED, SIZE, BrokenFrame, Cutter
from limen.runtime.placement.process.wire.layout import decode_layout, key_of, layout_of
from limen.runtime.placement.process.wire.packer import MAX_LAYOUTS, Packer

ELEMENTS = st.none() | st.text(st.characters(), max_size=5) | st.binary(max_size=5)


@st.composite
def tensors(draw):
    """Draw the tensors of some requests that agree in everything but their rows."""
    found = {}
    rows = draw(st.lists(st.integers(0, 3), min_size=1, max_size=4))
    groups = [{} for _ in rows]
    for number in range(draw(st.integers(1, 3))):
        element = draw(st.sampled_from(TYPES))
        inner = tuple(draw(st.lists(st.integers(0, 3), max_size=2)))
        for group, count in zip(groups, rows, strict=True):
            shape = (count, *inner)
            size = int(np.prod(shape))
            if element.size:
                raw = draw(st.binary(min_size=size * element.size, max_size=size * element.size))
                if element.name == "bool":
                    raw = bytes(byte & 1 for byte in raw)
                array = np.frombuffer(raw, element.dtype) if size else np.empty(0, element.dtype)
            else:
                array = np.empty(size, object)
                array[:] = draw(st.lists(ELEMENTS, min_size=size, max_size=size))
            group[f"t{number}"] = array.reshape(shape)
        found[f"t{number}"] = element
    return groups, rows


def through(packer, groups, rows, parameters=None, layouts=None):
    """Return what the other side reads, and its layout."""
    data, _ = packer.pack(
        BATCH, groups, parameters or {}, call=1, first=0, count=len(groups), rows=sum(rows), time=0.0, row_counts=()
    )
    layouts = {} if layouts is None else layouts
    for buffer, start, end in Cutter().feed(data):
        _, kind, flags, number, _, _, _, total, _ = HEADER.unpack_from(buffer, start)
        if kind == LAYOUT:
            layouts[number] = decode_layout(buffer[start + SIZE : end])
        else:
            layout = layouts[number]
            return layout.unpack(buffer, start + SIZE, end, total, flags, packer.arena), layout
    raise AssertionError("no frame")


def same(found, expected):
    """Whether two arrays are the same to the bit."""
    if expected.dtype.kind == "O":
        return found.dtype == expected.dtype and found.tolist() == expected.tolist()
    return found.dtype == expected.dtype and found.shape == expected.shape and found.tobytes() == expected.tobytes()


@given(tensors())
def test_every_tensor_comes_back_as_it_went(drawn):
    groups, rows = drawn
    found, _ = through(Packer(None), groups, rows)
    for name in groups[0]:
        assert same(found[name], np.concatenate([group[name] for group in groups]))
        assert found[name].dtype.kind == "O" or not found[name].flags.writeable


@given(tensors(), st.data())
def test_a_changed_body_is_read_or_refused(drawn, data):
    groups, rows = drawn
    frame, _ = Packer(None).pack(BATCH, groups, {}, call=1, first=0, count=1, rows=sum(rows), time=0.0)
    layout = layout_of(groups[0], {})
    _, start, end = Cutter().feed(frame)[-1]
    body = bytearray(frame[start + SIZE : end])
    for place in data.draw(st.lists(st.integers(0, max(0, len(body) - 1)), max_size=4)):
        if body:
            body[place] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(body)))
    total = data.draw(st.sampled_from([sum(rows), 0, 1, 2**32 - 1]))
    with contextlib.suppress(BrokenFrame, UnicodeDecodeError):
        layout.unpack(bytes(body[:cut]), 0, cut, total, data.draw(st.sampled_from([0, SHARED])), None)


@given(st.binary(max_size=80) | st.text('[]{},:"0123456789.ab', max_size=80).map(str.encode))
def test_any_text_is_a_layout_or_refused(text):
    with contextlib.suppress(BrokenFrame):
        decode_layout(text)


@pytest.mark.parametrize("kind", ["strided", "transposed", "big-endian", "bytes", "text"])
def test_arrays_of_any_memory_order_and_fixed_texts_travel(kind):
    base = np.arange(24, dtype=np.float32).reshape(4, 6)
    array = {
        "strided": base[:, ::2],
        "transposed": base.T,
        "big-endian": base.astype(">f4"),
        "bytes": np.array([[b"a"], [b"bc"]]),
        "text": np.array(["a", "é"]),
    }[kind]
    found, _ = through(Packer(None), [{"x": array}], [len(array)])
    assert found["x"].tolist() == array.tolist()


def test_large_tensors_go_to_the_arena_and_small_ones_do_not():
    arena = Arena(create_memory(1 << 20), 1 << 20)
    packer = Packer(arena)
    large = np.arange(SHARED_MIN // 2, dtype=np.float32)
    small = np.arange(len(large), dtype=np.uint8)[:, None].astype(ml_dtypes.bfloat16)[:, :0]
    group = {"large": large, "small": small, "texts": np.full(len(large), None, object)}
    data, regions = packer.pack(BATCH, [group], {}, call=1, first=0, count=1, rows=len(large), time=0.0)
    assert len(regions) == 1
    assert len(data) < large.nbytes * 3
    found, _ = through(packer, [group], [len(large)], layouts={0: layout_of(group, {})})
    assert same(found["large"], large)
    packer.free(regions)


def test_a_full_arena_is_no_reason_to_fail():
    arena = Arena(create_memory(SHARED_MIN * 2), SHARED_MIN * 2)
    packer = Packer(arena)
    group = {"x": np.arange(SHARED_MIN // 4, dtype=np.float32)[None, :]}
    flags = []
    for _ in range(3):
        data, _ = packer.pack(BATCH, [group], {}, call=1, first=0, count=1, rows=1, time=0.0)
        flags.append(HEADER.unpack_from(*Cutter().feed(data)[-1][:2])[2])
    assert flags == [SHARED, 0, 0]


@pytest.mark.parametrize("place", [1 << 63, (1 << 64) - 2, SHARED_MIN * 4])
def test_a_place_outside_the_arena_is_refused(place):
    arena = Arena(create_memory(SHARED_MIN * 2), SHARED_MIN * 2)
    layout = layout_of({"x": np.zeros((1, SHARED_MIN // 4), np.float32)}, {})
    with pytest.raises(BrokenFrame):
        layout.unpack(place.to_bytes(8, "little"), 0, 8, 1, SHARED, arena)


@pytest.mark.parametrize(
    "value", [True, 1, 1.0, 0.0, -0.0, "1", "1.0", float("inf"), "\ud800", "\\", 1 << 90], ids=repr
)
def test_parameters_keep_their_type_and_share_no_layout_with_what_only_equals_them(value):
    array = np.zeros(1)
    layout = decode_layout(layout_of({"x": array}, {"p": value}).encode())
    assert repr(layout.parameters["p"]) == repr(value)
    for other in (True, 1, 1.0, 0.0, -0.0, "1", False):
        is_same = repr(other) == repr(value)
        assert (key_of({"x": array}, {"p": value}) == key_of({"x": array}, {"p": other})) is is_same


def test_numbers_of_layouts_are_given_anew_when_there_are_too_many():
    packer, layouts = Packer(None), {}
    for width in [*range(MAX_LAYOUTS + 10), 0, 5]:
        array = np.zeros((1, width), np.int8)
        found, _ = through(packer, [{"x": array}], [1], layouts=layouts)
        assert found["x"].shape == (1, width)
    assert len(layouts) == MAX_LAYOUTS


def test_what_cannot_travel_is_an_error_and_changes_nothing():
    packer = Packer(None)
    for group, kind in (
        ({"x": np.array([1 + 2j])}, ModelFailed),
        ({"x": np.array([object()])}, InvalidOutput),
        ({"x": np.array(1.0)}, ModelFailed),
        ({"x": np.zeros(3)}, ModelFailed),
    ):
        with pytest.raises(kind):
            packer.pack(BATCH, [group], {}, call=1, first=0, count=1, rows=1, time=0.0)
    found, _ = through(packer, [{"x": np.ones(1)}], [1])
    assert found["x"].tolist() == [1]
