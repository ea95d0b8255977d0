"""Raw tensor bytes, their sizes, and what may serve as the outline of a request."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limen.contracts.contract import Field, Tolerance
from limen.contracts.errors import InvalidArgument, Reason
from limen.contracts.inference import InferenceRequest
from limen.contracts.oip.classification import classify
from limen.contracts.oip.outline import Outline
from limen.contracts.oip.wire import decode_raw, element_count, encode_raw
from limen.contracts.tensors import BY_WIRE
from limen.contracts.validation.comparison import differences

NUMERIC = [wire for wire, element in BY_WIRE.items() if element.size]


@pytest.mark.parametrize("wire", NUMERIC)
def test_numbers_come_back_as_they_went(wire):
    dtype = BY_WIRE[wire].dtype
    array = np.array([[0, 1, 1], [1, 0, 1]]).astype(dtype)
    again = decode_raw(BY_WIRE[wire], (2, 3), encode_raw(array), "x")
    assert again.dtype == dtype
    np.testing.assert_array_equal(again, array)


@given(st.lists(st.binary(max_size=20), max_size=8))
def test_bytes_come_back_as_they_went(values):
    array = np.empty(len(values), object)
    array[:] = values
    assert decode_raw(BY_WIRE["BYTES"], (len(values),), encode_raw(array), "x").tolist() == values


@given(st.binary(max_size=64), st.integers(0, 6))
def test_b41_no_bytes_are_read_past_the_end(data, count):
    try:
        found = decode_raw(BY_WIRE["BYTES"], (count,), data, "x")
    except InvalidArgument:
        return
    assert encode_raw(found) == data


@pytest.mark.parametrize("data", [b"", b"123", b"12345678"])
def test_b42_a_wrong_size_is_refused_with_both_sizes(data):
    with pytest.raises(InvalidArgument, match=f"4 bytes are needed.*{len(data)} were sent"):
        decode_raw(BY_WIRE["FP32"], (1,), data, "x")


def test_b31_a_bool_is_0_or_1():
    with pytest.raises(InvalidArgument):
        decode_raw(BY_WIRE["BOOL"], (2,), b"\1\2", "x")


@pytest.mark.parametrize(
    "shape", [[16, (1 << 60) + 2], [4, (1 << 60) + 2], [1] * 33, [1 << 40], [0, 1 << 40], [1 << 20, 1 << 20]]
)
def test_b29_an_absurd_shape_is_refused_by_arithmetic(shape):
    with pytest.raises(InvalidArgument) as caught:
        element_count(shape, "x.shape")
    assert caught.value.reason is Reason.SHAPE_OVERFLOW


def test_an_outline_reads_the_next_request_from_its_bytes_alone():
    first = {"a": np.array([[1, 2]], np.float32), "b": np.array([3], np.int64)}
    outline = Outline.of(InferenceRequest("m", first, "1", parameters={"k": 1}), 16)
    data = b"??" + encode_raw(np.array([[5, 6]], np.float32)) + encode_raw(np.array([7], np.int64))
    again = outline.read(data, 2)
    assert (again.model_name, again.model_version, again.parameters) == ("m", "1", {"k": 1})
    assert {name: array.tolist() for name, array in again.inputs.items()} == {"a": [[5, 6]], "b": [7]}


@pytest.mark.parametrize(
    ("inputs", "size", "name"),
    [
        ({"a": np.array([True])}, 1, ""),
        ({"a": np.array([b"x"], object)}, 5, ""),
        ({"a": np.zeros(1, np.float32)}, 4, "an-id"),
        ({"a": np.zeros(1, np.float32)}, 8, ""),
        ({"a": np.zeros((0,), np.float32)}, 0, ""),
    ],
)
def test_what_must_be_looked_at_every_time_has_no_outline(inputs, size, name):
    assert Outline.of(InferenceRequest("m", inputs, id=name), size) is None


def test_the_best_classes_come_first_with_their_labels():
    field = Field(name="p", type="float32", shape=(3,), labels=("cat", "dog", "eel"))
    found = classify(np.array([[0.1, 3.3, 0.2], [1, 0, 0]], np.float32), 2, field)
    assert found.tolist() == [["3.300000:1:dog", "0.200000:2:eel"], ["1.000000:0:cat", "0.000000:1:dog"]]


@pytest.mark.parametrize("name", ["float16", "bfloat16", "string", "bool"])
def test_types_without_a_useful_order_are_not_classified(name):
    dtype = {"bfloat16": ml_dtypes.bfloat16, "string": object}.get(name, name)
    with pytest.raises(InvalidArgument):
        classify(np.zeros((1, 2), dtype), 1, Field(name="p", type=name, shape=(2,)))


def test_numbers_may_differ_within_the_tolerance_and_nothing_else_may():
    tolerance = Tolerance(absolute=0.1, relative=0)
    assert differences({"a": 1.0, "b": [1, 2], "c": "x"}, {"a": 1.05, "b": [1, 2], "c": "x"}, tolerance) == []
    found = differences({"a": 1, "b": [1], "c": "x", "d": True}, {"a": 1.2, "b": [1, 2], "d": 1}, tolerance, "e")
    assert [line.partition(":")[0] for line in found] == ["e.a", "e.b", "e.c", "e.d"]
