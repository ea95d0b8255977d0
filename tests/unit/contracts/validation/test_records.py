"""Records: JSON rows to tensors and back, and every mistake with its path."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limen.contracts.contract import Batching, Contract, Field
from limen.contracts.errors import InvalidArgument, Reason
from limen.contracts.validation.records import RecordCodec

CONTRACT = Contract(
    name="loan",
    inputs=(
        Field(name="amount", type="float32", minimum=500, maximum=40_000),
        Field(name="grade", type="string", enum=("A", "B")),
        Field(name="age", type="int8", minimum=0),
        Field(name="vector", type="float32", shape=(2,)),
        Field(name="income", type="float64", nullable=True),
        Field(name="purpose", type="string", default="car", pattern="^[a-z]+$", max_length=8),
        Field(name="class", type="uint64"),
        Field(name="photo", type="bytes", nullable=True),
    ),
    outputs=(Field(name="score", type="float32"), Field(name="label", type="string")),
    batching=Batching(max_request_rows=3),
)
GOOD = {"amount": 600, "grade": "A", "age": 3, "vector": [1, 2.5], "class": (1 << 64) - 1}


@pytest.fixture(scope="module")
def codec():
    return RecordCodec(CONTRACT)


def body(*rows, **extra):
    return json.dumps({"instances": list(rows), **extra}).encode()


def refused(codec, data):
    with pytest.raises(InvalidArgument) as caught:
        codec.decode(data)
    return caught.value


def test_rows_become_one_tensor_a_field(codec):
    records = codec.decode(body(GOOD, {**GOOD, "income": 5, "photo": "AP8="}, id="r-1", parameters={"k": 1}))
    assert (records.rows, records.id, records.parameters) == (2, "r-1", {"k": 1})
    inputs = records.inputs
    assert inputs["amount"].dtype == np.float32
    assert inputs["vector"].tolist() == [[1, 2.5], [1, 2.5]]
    assert inputs["class"].tolist() == [(1 << 64) - 1] * 2
    assert math.isnan(inputs["income"][0])
    assert inputs["income"][1] == 5
    assert inputs["purpose"].tolist() == ["car", "car"]
    assert inputs["photo"].tolist() == [None, b"\0\xff"]


def test_bytes_may_be_written_as_tensorflow_serving_does(codec):
    assert codec.decode(body({**GOOD, "photo": {"b64": "AP8="}})).inputs["photo"].tolist() == [b"\0\xff"]


def test_every_mistake_is_told_with_its_path_and_without_its_value(codec):
    wrong = {"amount": 1, "grade": "marker-7f3a", "vector": [1, "marker-7f3a", 3], "class": -1, "extra": 1}
    error = refused(codec, body(GOOD, wrong))
    found = {str(v) for v in error.violations}
    assert "instances[1].amount: must be ≥ 500" in found
    assert "instances[1].grade: must be one of A, B" in found
    assert "instances[1].age: is required" in found
    assert "instances[1].vector: must have 2 values, got 3" in found
    assert "instances[1].class: must fit uint64" in found
    assert "instances[1].extra: is not a field of this model" in found
    assert "marker-7f3a" not in str(error) + "".join(found)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"amount": "1"}, "instances[0].amount: must be a number"),
        ({"amount": True}, "instances[0].amount: must be a number"),
        ({"amount": None}, "instances[0].amount: must not be null"),
        ({"age": True}, "instances[0].age: must be a whole number"),
        ({"age": 1.5}, "instances[0].age: must be a whole number"),
        ({"age": 300}, "instances[0].age: must fit int8"),
        ({"vector": [1, 1e39]}, "instances[0].vector[1]: must fit float32"),
        ({"class": 1 << 64}, "instances[0].class: must fit uint64"),
        ({"purpose": "UPPER"}, "instances[0].purpose: must match ^[a-z]+$"),
        ({"purpose": "waytoolong"}, "instances[0].purpose: must have at most 8 characters"),
        ({"photo": "%"}, "instances[0].photo: must be base64 text"),
        ({"photo": {"b64": 5}}, "instances[0].photo: must be base64 text"),
    ],
)
def test_a_wrong_value_is_refused(codec, change, text):
    assert text in {str(v) for v in refused(codec, body({**GOOD, **change})).violations}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", Reason.EMPTY_BODY),
        (b"[1", Reason.BAD_JSON),
        (b"\xef\xbb\xbf{}", Reason.BAD_JSON),
        (b'{"instances": NaN}', Reason.BAD_JSON),
        (b"[" * 101 + b"]" * 101, Reason.TOO_DEEP),
        (b'{"instances":[],"instances":[]}', Reason.DUPLICATE_KEY),
        (body(GOOD)[:-3] + b',"age":3}]}', Reason.DUPLICATE_KEY),
        (body(), Reason.BATCH_LIMIT),
        (body(GOOD, GOOD, GOOD, GOOD), Reason.BATCH_LIMIT),
        (body(GOOD, unknown=1), Reason.UNKNOWN_FIELD),
    ],
)
def test_a_body_that_is_no_request_is_refused_with_its_reason(codec, data, reason):
    assert refused(codec, data).reason is reason


@pytest.mark.parametrize("text", ["a b", "a\nb", "x" * 129, "ü"])
def test_b36_an_unsafe_id_is_refused(codec, text):
    assert "id" in {v.path for v in refused(codec, body(GOOD, id=text)).violations}


@given(st.integers(0, len(body(GOOD)) - 1))
def test_b02_a_truncated_body_is_never_accepted(cut):
    with pytest.raises(InvalidArgument):
        RecordCodec(CONTRACT).decode(body(GOOD)[:cut])


@given(st.floats(500, 40_000, width=32), st.sampled_from("AB"), st.integers(0, 127))
def test_the_fast_and_the_exact_way_agree(amount, grade, age):
    codec = RecordCodec(CONTRACT)
    row = {**GOOD, "amount": amount, "grade": grade, "age": age}
    fast, exact = codec.decode(body(row)).inputs, codec.tensors([row])
    assert fast.keys() == exact.keys()
    for name, array in fast.items():
        np.testing.assert_array_equal(array, exact[name])
        assert array.dtype == exact[name].dtype


def test_numbers_are_written_in_their_shortest_form_and_missing_ones_as_null(codec):
    outputs = {"score": np.array([0.1, np.nan], np.float32), "label": np.array(["a", b"\xff"], object)}
    assert codec.encode(outputs) == [{"score": 0.1, "label": "a"}, {"score": None, "label": "/w=="}]


@pytest.mark.parametrize("kind", ["string", "bytes", "float32"])
def test_a_matrix_of_a_free_size_that_is_missing_is_empty(kind):
    field = Field(name="pairs", type=kind, shape=(-1, 2), nullable=True)
    codec = RecordCodec(Contract(name="m", inputs=(Field(name="n", type="bool"), field), outputs=()))
    assert codec.decode(body({"n": True}, {"n": False})).inputs["pairs"].shape == (2, 0, 2)
    assert codec.decode(body({"n": True, "pairs": None})).inputs["pairs"].shape == (1, 0, 2)
