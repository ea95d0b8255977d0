"""B23–B35 and B43: tensors and records that break the protocol or the contract, on every entry that can carry them."""

import json
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from limen.contracts.tensors import BY_NAME, TYPES, Kind
from tests.conformance.bad_inputs.entries import PADDING, elements, infer_json, infer_raw, predict, short, tensor
from tests.conformance.serving.expectations import MARKER, refused
from tests.conformance.serving.gateway import Gateway
from tests.conformance.serving.wire import Answer

A = tensor("FP32", [1, 2], [1, 2], "a")
B = tensor("FP32", [1, 2], [3, 4], "b")
INTEGERS = [t for t in TYPES if t.kind is Kind.INT]
sizes = pytest.mark.parametrize("size", [{}, {"parameters": PADDING}], ids=["small", "large"])
"""Large bodies are read by a second JSON reader, which must judge as the first."""


def paths(answer: Answer, *codes: str) -> list[str]:
    return [detail["path"] for detail in refused(answer, 400, *codes)["details"]]


def raw(name: str, values: Any, dtype: Any = np.float32) -> tuple[str, str, tuple[int, ...], bytes]:
    array = np.array(values, dtype)
    return name, "FP32", array.shape, array.tobytes()


@sizes
def test_b23_the_inputs_are_those_of_the_model(gateway: Gateway, size: Any):
    assert paths(infer_json(gateway, "pair", A, **size), "INPUT_SET") == ["b"]
    assert paths(infer_json(gateway, "pair", A, B, {**B, "name": "other"}, **size), "INPUT_SET") == ["other"]
    assert paths(infer_json(gateway, "pair", **size), "INPUT_SET") == ["inputs"]
    assert paths(infer_raw(gateway, "pair", raw("a", [[1, 2]]), **size), "INPUT_SET") == ["b"]
    assert paths(gateway.call("POST", "/v2/models/pair/infer", {"id": "a", **size}), "INPUT_SET") == ["inputs"]
    refused(infer_json(gateway, "pair", *[{**A, "name": f"a{i}"} for i in range(2000)], **size), 400, "INPUT_SET")


def test_b23_the_fields_of_a_record_are_those_of_the_model(gateway: Gateway):
    assert paths(predict(gateway, "pair", {"a": [1, 2]}), "INPUT_SET") == ["instances[0].b"]
    good = {"a": [1, 2], "b": [3, 4]}
    assert paths(predict(gateway, "pair", good, {**good, "c": 1}), "UNKNOWN_FIELD") == ["instances[1].c"]
    assert paths(predict(gateway, "pair", good, {}), "INPUT_SET") == ["instances[1].a", "instances[1].b"]
    assert paths(predict(gateway, "pair"), "BATCH_LIMIT") == ["instances"]
    for body in ({}, {"instances": None}, {"instances": {}}, {"instances": "x"}, [], None, 1, "x"):
        refused(gateway.call("POST", "/v1/models/pair:predict", json.dumps(body).encode()), 400)


@sizes
def test_b23_the_name_of_an_unknown_input_is_repeated_only_if_it_could_be_one(gateway: Gateway, size: Any):
    for name in (f"{MARKER} x", "x" * 100_000, "a\r\nb", "\x1b[31m", ""):
        assert "?" in paths(infer_json(gateway, "pair", A, B, {**B, "name": name}, **size), "INPUT_SET")


@sizes
def test_b24_nothing_is_given_or_asked_for_twice(gateway: Gateway, size: Any):
    assert paths(infer_json(gateway, "pair", A, B, A, **size), "INPUT_SET") == ["inputs[2].name"]
    assert paths(infer_raw(gateway, "pair", *[raw("a", [[1, 2]])] * 2, **size), "INPUT_SET") == ["inputs[1].name"]
    twice = [{"name": "sum"}, {"name": "sum"}]
    assert paths(infer_json(gateway, "pair", A, B, outputs=twice, **size), "OUTPUT_SET") == ["outputs[1].name"]
    unknown = [{"name": "sum"}, {"name": MARKER}]
    assert paths(infer_json(gateway, "pair", A, B, outputs=unknown, **size), "OUTPUT_SET") == ["outputs[1].name"]


@pytest.mark.parametrize("count", [65, 100_000])
def test_b25_requested_outputs_are_limited(gateway: Gateway, count: int):
    refused(infer_json(gateway, "pair", A, B, outputs=[{"name": "sum"}] * count), 400, "OUTPUT_SET")


@sizes
@pytest.mark.parametrize(
    "datatype", ["FP64", "INT32", "BYTES", "BOOL", "FP128", "fp32", "", "FP32 ", MARKER, 5, None, ["FP32"]]
)
def test_b26_the_datatype_is_the_models(gateway: Gateway, datatype: Any, size: Any):
    data = [True, True] if datatype == "BOOL" else ["1", "2"] if datatype == "BYTES" else [1, 2]
    found = paths(infer_json(gateway, "pair", {**A, "datatype": datatype, "data": data}, B, **size), "DTYPE")
    assert found in (["a"], ["inputs[0].datatype"])
    width = {"FP64": 16, "BYTES": 10, "BOOL": 2}.get(datatype, 8) if isinstance(datatype, str) else 8
    content = elements(b"1", b"2") if datatype == "BYTES" else bytes(width)
    refused(infer_raw(gateway, "pair", ("a", datatype, [1, 2], content), raw("b", [[1, 2]]), **size), 400, "DTYPE")


@sizes
@pytest.mark.parametrize("data", [[], [1], [1, 2, 3], [[1, 2], [3, 4]], [[1], [2]], [[[1, 2]]]])
def test_b27_data_has_as_many_values_as_its_shape_says(gateway: Gateway, data: Any, size: Any):
    answer = infer_json(gateway, "pair", {**A, "data": data}, B, **size)
    body = refused(answer, 400, "SHAPE_MISMATCH")
    assert [d["path"] for d in body["details"]] == ["inputs[0].data"]
    if len(data) != 2 and not isinstance((data or [0])[0], list):
        assert f"2 values, got {len(data)}" in body["error"]
    count = int(np.prod(np.shape(data)))
    if count != 2:
        answer = infer_raw(gateway, "pair", ("a", "FP32", [1, 2], bytes(4 * count)), raw("b", [[1, 2]]), **size)
        assert (
            f"8 bytes are needed for this shape and datatype, {4 * count} were sent"
            in refused(answer, 400, "DATA_SIZE")["error"]
        )


@sizes
@pytest.mark.parametrize(
    "shape", [[-1, -2], [-1, 2], [1, -2], ["1", 2], [1, "2"], [1, 2.0], [True, 2], [1, None], [[1], 2], [{}, 2]]
)
def test_b28_a_dimension_is_a_whole_number(gateway: Gateway, shape: Any, size: Any):
    refused(infer_json(gateway, "pair", {**A, "shape": shape}, B, **size), 400, "SHAPE_MISMATCH")
    refused(
        infer_raw(gateway, "pair", ("a", "FP32", shape, bytes(8)), raw("b", [[1, 2]]), **size), 400, "SHAPE_MISMATCH"
    )


@sizes
@pytest.mark.parametrize("shape", [b"1e0", b'"1,2"', b"{}", b"null", b"[1e0,2]", b"[0x1,2]", b"[1,2,]", b"[1 2]"])
def test_b28_a_shape_is_a_list_of_whole_numbers(gateway: Gateway, shape: bytes, size: Any):
    text = json.dumps({"inputs": [{**A, "shape": "HERE"}, B], **size}).encode().replace(b'"HERE"', shape)
    refused(gateway.call("POST", "/v2/models/pair/infer", text), 400, "SHAPE_MISMATCH", "BAD_JSON")


OVERFLOWING = [
    [16, 2**60 + 2],
    [4, 2**60 + 2],
    [2**63, 2],
    [2**64, 1],
    [2**32, 2**32],
    [0, 2**62],
    [1] * 33 + [2],
    [10**4000],
]


@sizes
@pytest.mark.parametrize("shape", OVERFLOWING, ids=short)
def test_b29_a_shape_is_multiplied_before_anything_is_allocated(gateway: Gateway, shape: Any, size: Any):
    refused(infer_json(gateway, "pair", {**A, "shape": shape}, B, **size), 400, "SHAPE_OVERFLOW")
    refused(infer_json(gateway, "pair", {**A, "shape": shape, "data": []}, B, **size), 400, "SHAPE_OVERFLOW")
    refused(
        infer_raw(gateway, "pair", ("a", "FP32", shape, bytes(8)), raw("b", [[1, 2]]), **size), 400, "SHAPE_OVERFLOW"
    )


def test_b29_a_shape_of_a_million_huge_dimensions_is_refused_at_once(gateway: Gateway):
    """Their product would have 63 million bits; taking it first would keep the server busy for hours."""
    refused(infer_json(gateway, "pair", {**A, "shape": [2**62] * 200_000}, B), 400, "SHAPE_OVERFLOW")
    refused(infer_raw(gateway, "pair", ("a", "FP32", [2**62] * 200_000, b"")), 400, "SHAPE_OVERFLOW")


@sizes
def test_b29_a_tensor_without_dimensions_has_no_rows(gateway: Gateway, size: Any):
    answer = infer_json(gateway, "pair", {**A, "shape": [], "data": [1]}, B, **size)
    assert paths(answer, "SHAPE_MISMATCH") == ["a"]
    refused(infer_raw(gateway, "pair", ("a", "FP32", [], bytes(4)), raw("b", [[1, 2]]), **size), 400, "SHAPE_MISMATCH")


@sizes
@pytest.mark.parametrize("element", TYPES, ids=lambda t: t.name)
def test_b30_a_variable_dimension_may_be_zero(gateway: Gateway, element: Any, size: Any):
    answer = infer_raw(
        gateway, f"echo-{element.name}", ("x", element.wire, [1, 0], b""), parameters={"binary_data_output": True}
    )
    assert answer.status == 200
    assert [(o["shape"], o["parameters"]) for o in answer.json()["outputs"]] == [([1, 0], {"binary_data_size": 0})]
    if not (element.kind is Kind.FLOAT and element.size == 2):
        answer = infer_json(gateway, f"echo-{element.name}", tensor(element.wire, [2, 0], []), **size)
        assert [(o["shape"], o["data"]) for o in answer.json()["outputs"]] == [([2, 0], [])]
        assert infer_json(gateway, f"echo-{element.name}", tensor(element.wire, [2, 0], [[], []])).status == 200
    assert predict(gateway, f"echo-{element.name}", {"x": []}).json()["predictions"] == [{"x": []}]


@sizes
def test_b30_a_fixed_dimension_may_not_be_zero(gateway: Gateway, size: Any):
    refused(infer_json(gateway, "pair", tensor("FP32", [1, 0], [], "a"), B, **size), 400, "SHAPE_MISMATCH")
    refused(infer_raw(gateway, "pair", ("a", "FP32", [1, 0], b""), raw("b", [[1, 2]]), **size), 400, "SHAPE_MISMATCH")
    refused(predict(gateway, "pair", {"a": [], "b": []}), 400, "VALUE")


@sizes
@pytest.mark.parametrize("element", INTEGERS, ids=lambda t: t.name)
def test_b31_an_integer_does_not_wrap_around(gateway: Gateway, element: Any, size: Any):
    model = f"echo-{element.name}"
    edges = [element.low, element.high]
    answer = infer_json(gateway, model, tensor(element.wire, [1, 2], edges), **size)
    assert answer.json()["outputs"][0]["data"] == edges
    assert predict(gateway, model, {"x": edges}).json()["predictions"] == [{"x": edges}]
    for value in (element.low - 1, element.high + 1, 1.5, 2.0**60 + 2.0**8, True, "1", None, [1]):
        answer = infer_json(gateway, model, tensor(element.wire, [1, 2], [0, value]), **size)
        refused(answer, 400, "NUMBER_RANGE", "DTYPE", "SHAPE_MISMATCH")
        assert paths(predict(gateway, model, {"x": [0, value]})) == ["instances[0].x[1]"]


@sizes
@pytest.mark.parametrize("element", INTEGERS, ids=lambda t: t.name)
def test_a_whole_number_may_be_written_with_a_point(gateway: Gateway, element: Any, size: Any):
    """JSON has one kind of number, and some languages write 36 as 36.0."""
    answer = infer_json(gateway, f"echo-{element.name}", tensor(element.wire, [1, 2], [36.0, 1]), **size)
    assert answer.json()["outputs"][0]["data"] == [36, 1]
    assert predict(gateway, f"echo-{element.name}", {"x": [36.0, 1]}).json()["predictions"] == [{"x": [36, 1]}]


@sizes
@pytest.mark.parametrize(
    ("type_name", "value"),
    [("float16", 70000), ("float16", -65520), ("bfloat16", 3.4e38), ("float32", 3.5e38), ("float32", -6e38)],
)
def test_b31_a_number_too_large_for_its_float_is_not_infinity(
    gateway: Gateway, type_name: str, value: float, size: Any
):
    model, wire = f"echo-{type_name}", BY_NAME[type_name].wire
    refused(infer_json(gateway, model, tensor(wire, [1, 2], [0, value]), **size), 400, "NUMBER_RANGE", "DTYPE")
    assert paths(predict(gateway, model, {"x": [0, value]})) == ["instances[0].x[1]"]
    assert predict(gateway, model, {"x": [0, value / 2]}).status == 200


@sizes
def test_b31_bool_is_true_and_false_only(gateway: Gateway, size: Any):
    for value in (0, 1, 2, 1.0, "true", None):
        refused(infer_json(gateway, "echo-bool", tensor("BOOL", [1, 2], [True, value]), **size), 400, "DTYPE")
        assert paths(predict(gateway, "echo-bool", {"x": [True, value]})) == ["instances[0].x[1]"]
    for byte in (2, 255):
        refused(infer_raw(gateway, "echo-bool", ("x", "BOOL", [1, 2], bytes([1, byte]))), 400, "VALUE")
    for type_name in ("int32", "float32", "float64"):
        body = tensor(BY_NAME[type_name].wire, [1, 2], [1, True])
        refused(infer_json(gateway, f"echo-{type_name}", body, **size), 400, "DTYPE")


FLOATS = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16, "float32": np.float32, "float64": np.float64}


@pytest.mark.parametrize("type_name", FLOATS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_b32_what_is_not_finite_is_refused_where_the_contract_says_so(gateway: Gateway, type_name: str, value: float):
    content = np.array([[1, 2, value]], FLOATS[type_name]).tobytes()
    answer = infer_raw(gateway, f"echo-{type_name}", ("x", BY_NAME[type_name].wire, [1, 3], content))
    assert paths(answer, "NOT_FINITE") == ["x[0][2]"]


def test_b32_what_is_not_finite_is_served_where_the_contract_says_so(gateway: Gateway):
    content = np.array([[1, np.nan, np.inf, -np.inf]], np.float32)
    arguments = ("x", "FP32", [1, 4], content.tobytes())
    answer = infer_raw(gateway, "echo-anything", arguments, parameters={"binary_data_output": True})
    assert answer.body.endswith(content.tobytes())


@sizes
@pytest.mark.parametrize(
    ("shape", "data"),
    [
        ([2, 2], [[1, 2], [3]]),
        ([2, 2], [[1, 2], 3, 4]),
        ([2, 2], [[1], [2], [3], [4]]),
        ([2, 2], [[1, 2, 3], [4]]),
        ([2, 2], [[[1, 2]], [[3, 4]]]),
        ([2, 2], [[1, 2, 3, 4]]),
        ([2, 2], [[1, 2], [3, 4], []]),
        ([1, 4], [[1], [2], [3], [4]]),
        ([1, 4], [1, 2, 3, [4]]),
        ([1, 4], [[], [1, 2], [3], [4]]),
        ([1, 4], [[1, 2, 3, 4], []]),
        ([4, 1], [[1, 2], [3], [], [4]]),
        ([4, 1], [[[1]], [[2]], [[3]], [[4]]]),
    ],
)
def test_b33_nesting_is_that_of_the_shape(gateway: Gateway, shape: Any, data: Any, size: Any):
    for type_name in ("int32", "float32", "string"):
        items = json.loads(json.dumps(data), parse_int=str) if type_name == "string" else data
        body = tensor(BY_NAME[type_name].wire, shape, items)
        refused(infer_json(gateway, f"echo-{type_name}", body, **size), 400, "SHAPE_MISMATCH", "DTYPE")


def test_b33_records_are_not_ragged_either(gateway: Gateway):
    """A vector of any length has one length a request: it becomes one tensor."""
    refused(predict(gateway, "echo-float32", {"x": [1, 2]}, {"x": [1]}), 400)
    refused(predict(gateway, "echo-string", {"x": ["a", "b"]}, {"x": ["a"]}), 400)
    refused(predict(gateway, "echo-bytes", {"x": ["YQ=="]}, {"x": []}), 400)
    refused(predict(gateway, "echo-float32", {"x": [[1, 2]]}), 400)
    refused(predict(gateway, "pair", {"a": [[1], [2]], "b": [1, 2]}), 400)


@sizes
@pytest.mark.parametrize("value", [1, 1.5, True, None, {}, ["a"]])
def test_b34_a_bytes_element_in_json_is_text(gateway: Gateway, value: Any, size: Any):
    body = tensor("BYTES", [1, 2], ["a", value])
    refused(infer_json(gateway, "echo-string", body, **size), 400, "DTYPE", "VALUE", "SHAPE_MISMATCH")
    refused(infer_json(gateway, "echo-bytes", body, **size), 400, "DTYPE", "VALUE", "SHAPE_MISMATCH")
    assert paths(predict(gateway, "echo-string", {"x": ["a", value]})) == ["instances[0].x[1]"]
    assert paths(predict(gateway, "echo-bytes", {"x": ["YQ==", value]})) == ["instances[0].x[1]"]


@sizes
def test_b34_a_zero_character_is_a_character(gateway: Gateway, size: Any):
    texts = ["a\0b", "\0", ""]
    answer = infer_json(gateway, "echo-string", tensor("BYTES", [1, 3], texts), **size)
    assert answer.json()["outputs"][0]["data"] == texts
    assert predict(gateway, "echo-string", {"x": texts}).json()["predictions"] == [{"x": texts}]
    content = elements(*(t.encode() for t in texts))
    answer = infer_raw(gateway, "echo-bytes", ("x", "BYTES", [1, 3], content), parameters={"binary_data_output": True})
    assert answer.body.endswith(content)


def test_b34_an_element_over_its_limit_is_too_large(gateway: Gateway):
    limit = 8 << 20
    big = "ä" * (limit // 2) + "x"
    for model in ("echo-string", "echo-bytes"):
        refused(infer_json(gateway, model, tensor("BYTES", [1, 2], ["a", big])), 413, "ELEMENT_TOO_LARGE")
        refused(infer_raw(gateway, model, ("x", "BYTES", [1, 1], elements(big.encode()))), 413, "ELEMENT_TOO_LARGE")
    refused(predict(gateway, "echo-string", {"x": ["a", big]}), 413, "ELEMENT_TOO_LARGE")
    refused(predict(gateway, "echo-bytes", {"x": ["QUFB" * (limit // 3 + 1)]}), 413, "ELEMENT_TOO_LARGE")
    assert infer_raw(gateway, "echo-bytes", ("x", "BYTES", [1, 1], elements(bytes(limit)))).status == 200


def test_b34_text_that_is_not_utf_8_is_not_a_string(gateway: Gateway):
    assert paths(infer_raw(gateway, "echo-string", ("x", "BYTES", [1, 2], elements(b"a", b"\xff"))), "VALUE") == [
        "x[1]"
    ]


@sizes
@pytest.mark.parametrize("type_name", ["float16", "bfloat16"])
def test_b35_sixteen_bit_floats_travel_in_binary_only(gateway: Gateway, type_name: str, size: Any):
    """In JSON tensors; the record API rounds them as it rounds every float."""
    body = tensor(BY_NAME[type_name].wire, [1, 2], [1, 0.5])
    answer = refused(infer_json(gateway, f"echo-{type_name}", body, **size), 400, "DTYPE")
    assert "binary" in answer["error"]
    assert predict(gateway, f"echo-{type_name}", {"x": [1, 0.5]}).json()["predictions"] == [{"x": [1, 0.5]}]


@sizes
@pytest.mark.parametrize("rows", [0, 65, 50_000])
def test_b43_the_rows_of_a_request_are_limited(gateway: Gateway, rows: int, size: Any):
    tensors = [tensor("FP32", [rows, 2], [0] * (2 * rows), name) for name in ("a", "b")]
    assert "64 rows" in refused(infer_json(gateway, "pair", *tensors, **size), 400, "BATCH_LIMIT")["error"]
    inputs = [(name, "FP32", (rows, 2), bytes(8 * rows)) for name in ("a", "b")]
    refused(infer_raw(gateway, "pair", *inputs, **size), 400, "BATCH_LIMIT")
    body = b'{"instances":[' + b",".join([b'{"a":[1,2],"b":[3,4]}'] * rows) + b"]}"
    refused(gateway.call("POST", "/v1/models/pair:predict", body), 400, "BATCH_LIMIT")


def test_b43_a_million_rows_are_refused(gateway: Gateway):
    refused(
        infer_raw(gateway, "pair", *[(n, "FP32", (1_000_000, 2), bytes(8_000_000)) for n in "ab"]), 400, "BATCH_LIMIT"
    )
    body = b'{"instances":[' + b",".join([b"{}"] * 1_000_000) + b"]}"
    refused(gateway.call("POST", "/v1/models/pair:predict", body), 400, "BATCH_LIMIT")


@sizes
def test_b43_all_inputs_have_the_same_rows(gateway: Gateway, size: Any):
    other = tensor("FP32", [2, 2], [1, 2, 3, 4], "b")
    assert paths(infer_json(gateway, "pair", A, other, **size), "SHAPE_MISMATCH") == ["b"]


BAD_RECORDS = [
    ({"amount": -1}, "amount", "must be ≥ 0"),
    ({"amount": 1000.5}, "amount", "must be ≤ 1000"),
    ({"amount": "1"}, "amount", "must be a number"),
    ({"amount": None}, "amount", "must not be null"),
    ({"count": 0}, "count", "must be ≥ 1"),
    ({"count": 256}, "count", "must fit uint8"),
    ({"count": 2.5}, "count", "must be a whole number"),
    ({"grade": MARKER}, "grade", "must be one of A, B, C"),
    ({"code": MARKER}, "code", "must match ^[A-Z]{2}[0-9]{2}$"),
    ({"note": MARKER}, "note", "must have at most 5 characters"),
    ({"years": "x"}, "years", "must be a number"),
    ({"place": [1]}, "place", "must have 2 values, got 1"),
    ({"place": 1}, "place", "must be a list of 2 values"),
    ({"photo": MARKER + "!"}, "photo", "must be base64 text"),
    ({"photo": "QUFBQUFBQUFBQUFB"}, "photo", "must have at most 8 characters"),
    ({"flag": 1}, "flag", "must be true or false"),
]
RECORD = {"amount": 2, "count": 3, "grade": "A", "code": "AB12", "years": None, "place": [1, 2]}


@pytest.mark.parametrize(("change", "field", "text"), BAD_RECORDS)
def test_every_rule_of_the_contract_is_told_with_its_path(gateway: Gateway, change: Any, field: str, text: str):
    body = refused(predict(gateway, "typed", RECORD, RECORD | change), 400, "VALUE")
    assert body["details"] == [{"path": f"instances[1].{field}", "reason": text}]
    assert body["error"] == f"instances[1].{field}: {text}"


def test_every_mistake_is_told_up_to_a_limit(gateway: Gateway):
    worse = RECORD | {"amount": -1, "grade": MARKER, "place": None}
    body = refused(predict(gateway, "typed", worse, RECORD, worse), 400, "VALUE")
    fields = ("amount", "grade", "place")
    assert [d["path"] for d in body["details"]] == [f"instances[{i}].{f}" for i in (0, 2) for f in fields]
    assert len(refused(predict(gateway, "typed", *[worse] * 50), 400)["details"]) == 32
