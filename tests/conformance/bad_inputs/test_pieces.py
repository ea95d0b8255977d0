"""A body that is read in pieces means what it means when it is read whole: padding alone makes the difference."""

import json
from typing import Any

import numpy as np
import pytest

from limen.contracts.strict.pieces import LARGE_TEXT
from limen.contracts.tensors import BY_NAME
from tests.conformance.bad_inputs.entries import infer_json, predict, tensor
from tests.conformance.serving.expectations import refused
from tests.conformance.serving.gateway import Gateway
from tests.conformance.serving.wire import JSON, Answer

PADDING = b" " * (LARGE_TEXT + 1)
MANY = 60_000
"""Values whose text is large."""


def both(gateway: Gateway, path: str, body: Any) -> tuple[Answer, Answer]:
    """Return the answers to a body as it is and as a large one."""
    text = json.dumps(body).encode()
    padded = text[:1] + PADDING + text[1:]
    return tuple(gateway.call("POST", path, t, JSON) for t in (text, padded))  # type: ignore[return-value]


GOOD = {"a": [1, 2], "b": [3, 4]}
ROWS: dict[str, Any] = {
    "good": {"instances": [GOOD, GOOD]},
    "with an id": {"instances": [GOOD], "id": "mine-1", "parameters": {"x": 1}},
    "a missing field": {"instances": [GOOD, {"a": [1, 2]}]},
    "an unknown field": {"instances": [{**GOOD, "c": 1}]},
    "too many values": {"instances": [{**GOOD, "a": [1, 2, 3]}]},
    "text": {"instances": [{**GOOD, "a": [1, "2"]}]},
    "null": {"instances": [{**GOOD, "a": None}]},
    "no rows": {"instances": []},
    "too many rows": {"instances": [GOOD] * 65},
    "no instances": {},
    "an unknown member": {"instances": [GOOD], "other": 1},
    "a bad id": {"instances": [GOOD], "id": "a b"},
    "instances of another kind": {"instances": {}},
    "a bad parameter": {"instances": [GOOD], "parameters": {"timeout": -1}},
}


@pytest.mark.parametrize("body", ROWS.values(), ids=ROWS)
def test_padding_changes_nothing_about_records(gateway: Gateway, body: Any):
    small, large = both(gateway, "/v1/models/pair:predict", body)
    assert (small.status, small.json().get("code")) == (large.status, large.json().get("code"))
    if small.status == 200:
        assert small.body == large.body
    else:
        assert small.json()["details"] == large.json()["details"]


PAIR = [tensor("FP32", [1, 2], [1, 2], "a"), tensor("FP32", [1, 2], [3, 4], "b")]
BODIES: dict[str, Any] = {
    "good": {"inputs": PAIR, "outputs": [{"name": "sum"}]},
    "with an id": {"inputs": PAIR, "id": "mine-1"},
    "one input": {"inputs": PAIR[:1]},
    "twice": {"inputs": [PAIR[0], *PAIR]},
    "an unknown key": {"inputs": [{**PAIR[0], "more": 1}, PAIR[1]]},
    "another datatype": {"inputs": [{**PAIR[0], "datatype": "FP99"}, PAIR[1]]},
    "too few values": {"inputs": [{**PAIR[0], "data": [1]}, PAIR[1]]},
    "a text": {"inputs": [{**PAIR[0], "data": [1, "2"]}, PAIR[1]]},
    "no data": {"inputs": [{k: v for k, v in PAIR[0].items() if k != "data"}, PAIR[1]]},
    "an unknown output": {"inputs": PAIR, "outputs": [{"name": "none"}]},
    "no inputs": {},
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_padding_changes_nothing_about_tensors(gateway: Gateway, body: Any):
    small, large = both(gateway, "/v2/models/pair/infer", body)
    assert (small.status, small.json().get("code")) == (large.status, large.json().get("code"))
    if small.status == 200:
        assert small.body == large.body


def test_an_id_is_known_of_a_large_body_that_is_refused(gateway: Gateway):
    body = {"id": "mine-7", "inputs": [tensor("FP32", [1, MANY], [0.5] * (MANY - 1) + ["x"], "a")]}
    assert refused(gateway.call("POST", "/v2/models/pair/infer", body), 400)["request_id"] == "mine-7"


@pytest.mark.parametrize("name", ["float32", "float64", "int32", "int64", "uint8", "bool", "string"])
@pytest.mark.parametrize("is_nested", [False, True])
def test_large_tensors_arrive_as_they_are(gateway: Gateway, name: str, is_nested: bool):
    element = BY_NAME[name]
    numbers = np.arange(MANY)
    values: list[Any]
    if name == "string":
        values = [f'é"{n}' for n in numbers]
    elif name == "bool":
        values = (numbers % 3 == 0).tolist()
    else:
        values = (numbers % 251).astype(element.dtype).tolist()
    data = [values[: MANY // 2], values[MANY // 2 :]] if is_nested else values
    answer = infer_json(gateway, f"echo-{name}", tensor(element.wire, [2, MANY // 2], data))
    assert answer.json()["outputs"][0]["data"] == values
    rows = [{"x": values[: MANY // 2]}, {"x": values[MANY // 2 :]}]
    assert predict(gateway, f"echo-{name}", *rows).json()["predictions"] == rows


@pytest.mark.parametrize("at", [0, 29_999, MANY - 1])
def test_the_place_of_a_mistake_is_told_in_a_large_tensor(gateway: Gateway, at: int):
    values: list[Any] = [0.5] * MANY
    values[at] = "0.5"
    answer = refused(infer_json(gateway, "echo-float32", tensor("FP32", [1, MANY], values)), 400, "DTYPE")
    assert [d["path"] for d in answer["details"]] == [f"inputs[0].data[{at}]"]
    answer = refused(predict(gateway, "echo-float32", {"x": values}), 400, "VALUE")
    assert [d["path"] for d in answer["details"]] == [f"instances[0].x[{at}]"]


@pytest.mark.parametrize("count", [MANY - 1, MANY + 1])
def test_another_number_of_values_than_the_shape_is_refused(gateway: Gateway, count: int):
    body = tensor("FP32", [1, MANY], [0.5] * count)
    text = refused(infer_json(gateway, "echo-float32", body), 400, "SHAPE_MISMATCH")["error"]
    assert f"must have {MANY} values" in text


def test_many_rows_are_counted_over_all_pieces(gateway: Gateway):
    rows = [{"x": [n, n + 1]} for n in range(20_000)]
    assert predict(gateway, "echo-int32", *rows).json()["predictions"] == rows
    rows[19_999] = {"x": ["no"]}
    answer = refused(predict(gateway, "echo-int32", *rows), 400, "VALUE")
    assert [d["path"] for d in answer["details"]] == ["instances[19999].x[0]"]
    rows[19_999] = {"x": [1]}
    assert "of the same size" in refused(predict(gateway, "echo-int32", *rows), 400, "SHAPE_MISMATCH")["error"]
