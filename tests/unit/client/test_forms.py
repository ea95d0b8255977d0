"""Inputs in every form, and what rows become as tensors."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limen.client.forms import (
    Form,
    Inexpressible,
    Signature,
    TensorType,
    arrays_of,
    frame_of,
    json_value,
    read_inputs,
    rows_of,
    tensors_of,
    with_texts,
)
from limen.contracts.errors import InvalidArgument, Reason
from limen.contracts.tensors import BY_NAME, TYPES, Kind


def signature(**types: str) -> Signature:
    """Return a signature of inputs: `float32`, or `int32[2]` with a shape."""
    inputs = {}
    for name, said in types.items():
        kind, _, shape = said.partition("[")
        sizes = tuple(int(s) for s in shape.rstrip("]").split(",") if s)
        inputs[name] = TensorType(
            name=name, datatype=BY_NAME[kind].wire, shape=(-1, *sizes), is_text=kind == "string", is_json=kind == "json"
        )
    return Signature(inputs=inputs, outputs={})


def test_inputs_are_told_apart_by_what_they_are():
    frame = pd.DataFrame({"x": [1]})
    forms = [read_inputs(i).form for i in ({"x": 1}, [{"x": 1}], {"x": np.zeros(1)}, frame, {"x": [1]}, ({"x": 1},))]
    assert forms == [Form.RECORD, Form.RECORDS, Form.ARRAYS, Form.FRAME, Form.RECORD, Form.RECORDS]


@pytest.mark.parametrize("inputs", [None, 3, "x", b"x", [1], [{"x": 1}, 2], np.zeros(2), pd.DataFrame([[1]])], ids=repr)
def test_what_has_none_of_the_forms_is_refused(inputs):
    with pytest.raises(InvalidArgument):
        read_inputs(inputs)


def test_an_array_that_no_contract_can_have_is_refused_and_others_get_the_byte_order_of_the_wire():
    with pytest.raises(InvalidArgument) as found:
        read_inputs({"when": np.array(["2020-01-01"], "M8[D]")})
    assert found.value.reason is Reason.DTYPE
    big = read_inputs({"x": np.array([1.5], ">f4")})
    assert big.tensors is not None
    assert big.tensors["x"].tobytes() == np.array([1.5], "<f4").tobytes()


@pytest.mark.parametrize("element", TYPES, ids=lambda t: t.name)
def test_rows_become_tensors_of_the_models_own_type(element):
    values = {Kind.BOOL: [True, False], Kind.INT: [1, 2], Kind.FLOAT: [0.5, 2.0], Kind.TEXT: ["a", "é"]}
    given_ = values.get(element.kind, ["QQ==", b"\x00"])
    rows = read_inputs([{"x": v} for v in given_])
    tensor = tensors_of(rows, signature(x=element.name))["x"]
    assert tensor.dtype == element.dtype
    expected = {"bytes": [b"A", b"\x00"], "json": ['"a"', '"é"']}.get(element.name, given_)
    assert tensor.tolist() == expected


def test_values_of_any_form_become_json_text_where_the_model_takes_json():
    rows = read_inputs([{"x": {"a": [1, None]}}, {"x": [1, 2]}, {"x": None}])
    assert tensors_of(rows, signature(x="json"))["x"].tolist() == ['{"a":[1,null]}', "[1,2]", None]
    nested = read_inputs([{"x": [{}, [1]]}, {"x": ["a", 2]}])
    assert tensors_of(nested, signature(x="json[2]"))["x"].tolist() == [["{}", "[1]"], ['"a"', "2"]]


@given(
    st.lists(st.integers(-(1 << 70), 1 << 70), min_size=1, max_size=4),
    st.sampled_from(["int8", "uint32", "int64", "uint64"]),
)
def test_whole_numbers_arrive_as_they_are_or_not_at_all(values, kind):
    element = BY_NAME[kind]
    rows = read_inputs([{"x": v} for v in values])
    if all(element.low <= v <= element.high for v in values):
        assert [int(v) for v in tensors_of(rows, signature(x=kind))["x"]] == values
    else:
        with pytest.raises(Inexpressible):
            tensors_of(rows, signature(x=kind))


REFUSED = {
    "a field is unknown": ([{"x": 1.0, "y": 2.0}], "float32"),
    "a field is in some rows only": ([{"x": 1.0}, {}], "float32"),
    "another field in another row": ([{"x": 1.0}, {"y": 1.0}], "float32"),
    "text for a number": ([{"x": "1"}], "float32"),
    "a part of a number": ([{"x": 1.5}], "int32"),
    "true for a number": ([{"x": True}], "int32"),
    "true among numbers": ([{"x": True}, {"x": 2}], "int32"),
    "a number for true": ([{"x": 1}], "bool"),
    "a float that is too large": ([{"x": 1e300}], "float32"),
    "a float that is too large for half the bits": ([{"x": 1e39}], "bfloat16"),
    "nothing for a whole number": ([{"x": None}], "int32"),
    "not a number for a whole number": ([{"x": float("nan")}], "int32"),
    "nothing for text": ([{"x": None}], "string"),
    "bytes for text": ([{"x": b"a"}], "string"),
    "no base64 for bytes": ([{"x": "?"}], "bytes"),
    "a list for a number": ([{"x": [1.0]}], "float32"),
    "a number for a list": ([{"x": 1.0}], "float32[2]"),
    "lists of different sizes": ([{"x": [1.0]}, {"x": [1.0, 2.0]}], "float32[-1]"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_the_type_cannot_hold_is_not_changed_into_it(case):
    rows, kind = REFUSED[case]
    with pytest.raises(Inexpressible):
        tensors_of(read_inputs(rows), signature(x=kind))


def test_a_missing_float_is_not_a_number():
    tensors = tensors_of(read_inputs([{"x": None}, {"x": 1}]), signature(x="float64"))
    assert np.isnan(tensors["x"][0])
    assert tensors["x"][1] == 1


def test_vectors_may_be_lists_or_arrays():
    kind = signature(x="float32[2]")
    for value in ([1, 2], np.array([1.0, 2.0])):
        assert tensors_of(read_inputs([{"x": value}, {"x": value}]), kind)["x"].shape == (2, 2)


def test_a_frame_becomes_tensors_and_rows():
    frame = pd.DataFrame({"x": [1, 2], "t": ["a", "b"]})
    tensors = tensors_of(read_inputs(frame), signature(x="float32", t="string"))
    assert (tensors["x"].tolist(), tensors["t"].tolist()) == ([1.0, 2.0], ["a", "b"])
    assert rows_of(read_inputs(frame)) == [{"x": 1, "t": "a"}, {"x": 2, "t": "b"}]


def test_arrays_become_rows_where_only_rows_can_be_sent():
    given_ = read_inputs({"x": np.array([0.1], np.float32), "y": np.array([[1, 2]])})
    assert rows_of(given_) == [{"x": 0.1, "y": [1, 2]}]


def test_text_is_told_from_bytes_by_what_the_server_says():
    types = {n: TensorType(name=n, datatype="BYTES", shape=(-1,), is_text=n == "t") for n in ("t", "b")}
    raw = {n: np.array([b"a"], object) for n in ("t", "b")}
    found = with_texts(raw, types)
    assert (found["t"].tolist(), found["b"].tolist()) == (["a"], [b"a"])


def test_rows_of_outputs_become_arrays_of_the_types_that_are_known():
    types = {"y": TensorType(name="y", datatype="FP32", shape=(-1,))}
    found = arrays_of([{"y": 1.5, "z": "a", "r": [1]}, {"y": 2, "z": "b", "r": [1, 2]}], types)
    assert (found["y"].dtype, found["z"].dtype) == (np.float32, object)
    assert found["r"].tolist() == [[1], [1, 2]]
    assert arrays_of([], types) == {}


def test_a_frame_of_outputs_has_the_index_it_was_asked_with():
    frame = frame_of({"y": np.array([1, 2]), "v": np.array([[1, 2], [3, 4]])}, pd.Index(["a", "b"]))
    assert list(frame.index) == ["a", "b"]
    assert list(frame["v"].iloc[1]) == [3, 4]
    assert list(frame_of({"y": np.array([1])}, pd.Index(["a", "b"])).index) == [0]


def test_values_that_json_has_no_form_of_get_one():
    assert [json_value(v) for v in (b"A", np.float32(0.5), np.array([1]), pd.NA, pd.NaT)] == [
        "QQ==",
        0.5,
        [1],
        None,
        None,
    ]
    with pytest.raises(TypeError):
        json_value(object())
