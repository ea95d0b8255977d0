"""OIP over REST: paths, datatypes, binary tensors, requested outputs and classification (checklist 1, 2, 3, 5 and 6)."""

import gzip
import json
import struct
import zlib
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from limen.contracts.tensors import BY_NAME, TYPES, Kind
from tests.conformance.bad_inputs.entries import LENGTH, OCTETS, elements, infer_json, infer_raw, tensor
from tests.conformance.serving.expectations import GOOD, assert_right, refused
from tests.conformance.serving.gateway import Gateway
from tests.conformance.serving.wire import JSON, Answer

FLOATS = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16, "float32": np.float32, "float64": np.float64}
BINARY = {"parameters": {"binary_data_output": True}}


def outputs(answer: Answer) -> dict[str, Any]:
    """Return the outputs of an answer by name: shape and values, the binary ones cut out of the tail."""
    assert answer.status == 200, answer
    length = int(answer.headers.get(LENGTH, len(answer.body)))
    text, tail = json.loads(answer.body[:length]), answer.body[length:]
    assert answer.headers["content-type"] == ("application/octet-stream" if tail else "application/json")
    assert (LENGTH in answer.headers) == bool(tail)
    found = {}
    for output in text["outputs"]:
        if "data" in output:
            assert "parameters" not in output
            found[output["name"]] = output["shape"], output["data"]
        else:
            size = output["parameters"]["binary_data_size"]
            found[output["name"]], tail = (output["shape"], tail[:size]), tail[size:]
    assert tail == b""
    return found


@pytest.mark.parametrize("slash", ["", "/"])
def test_the_server_says_what_it_is(gateway: Gateway, slash: str):
    answer = gateway.call("GET", f"/v2{slash}").json()
    assert (answer["name"], answer["extensions"]) == (
        "limen",
        ["classification", "schedule_policy", "parameters", "binary_tensor_data", "model_configuration"],
    )
    assert gateway.call("GET", f"/v2/health/live{slash}").json() == {"live": True}
    assert gateway.call("GET", f"/v2/health/ready{slash}").json() == {"ready": True, "live": True}
    assert "pair" in gateway.call("GET", f"/v2/models{slash}").json()["models"]


@pytest.mark.parametrize(
    "path", ["/v2/models/pair", "/v2/models/pair/", "/v2/models/pair/versions/1", "/v2/models/pair/versions/1/"]
)
def test_a_model_says_what_it_takes(gateway: Gateway, path: str):
    answer = gateway.call("GET", path).json()
    assert (answer["name"], answer["versions"], answer["platform"]) == ("pair", ["1"], "python")
    assert answer["inputs"] == [{"name": name, "datatype": "FP32", "shape": [-1, 2]} for name in ("a", "b")]
    assert [output["name"] for output in answer["outputs"]] == ["sum", "difference"]
    assert all(isinstance(value, str) for value in answer["properties"].values())
    assert gateway.call("GET", path.rstrip("/") + "/ready").json() == {"name": "pair", "ready": True}
    assert outputs(gateway.call("POST", path.rstrip("/") + "/infer", GOOD))["sum"] == ([1, 2], [1.75, 0])


@pytest.mark.parametrize("path", ["/v2/models/nosuch", "/v2/models/pair/versions/2"])
def test_an_unknown_model_or_version_is_not_found(gateway: Gateway, path: str):
    for answer in (
        gateway.call("GET", path),
        gateway.call("GET", f"{path}/ready"),
        gateway.call("POST", f"{path}/infer", GOOD),
    ):
        refused(answer, 404, "NOT_FOUND")


def test_head_is_get_without_a_body(gateway: Gateway):
    for path in ("/v2", "/v2/health/live", "/v2/models/pair", "/openapi.json", "/docs"):
        head, get = gateway.call("HEAD", path), gateway.call("GET", path)
        assert (head.status, head.body) == (200, b"")
        assert {k: v for k, v in head.headers.items() if k not in ("date", "x-request-id")} == {
            k: v for k, v in get.headers.items() if k not in ("date", "x-request-id")
        }
    assert gateway.call("HEAD", "/v2/models/nosuch").status == 404


VALUES: dict[str, list[Any]] = {
    "bool": [True, False, True],
    "float16": [0.5, -65504, 0],
    "bfloat16": [0.5, -3.0, 0],
    "float32": [0.1, -3.4e38, 1e-40],
    "float64": [0.1, -1.7e308, 5e-324],
    "string": ["a", "ü 🦉\0\n", ""],
    "bytes": ["a", "ü 🦉\0\n", ""],
    "json": ['{"a": [1, null, "ü"]}', "[]", " 0.10 "],
}


def values_of(name: str) -> list[Any]:
    element = BY_NAME[name]
    return [element.low, 0, element.high] if element.kind is Kind.INT else VALUES[name]


def raw_of(name: str, values: list[Any]) -> bytes:
    if name in ("string", "bytes", "json"):
        return elements(*(v.encode() for v in values))
    return np.array(values, FLOATS.get(name, name)).tobytes()


@pytest.mark.parametrize("name", [t.name for t in TYPES])
def test_every_datatype_comes_back_as_it_went(gateway: Gateway, name: str):
    """In JSON and binary in both directions, flat and nested. Sixteen-bit floats travel in binary only."""
    values, wire, model = values_of(name), BY_NAME[name].wire, f"echo-{name}"
    raw = raw_of(name, values)
    assert outputs(infer_raw(gateway, model, ("x", wire, [1, 3], raw), **BINARY)) == {"x": ([1, 3], raw)}
    if FLOATS.get(name) not in (np.float16, ml_dtypes.bfloat16):
        back = [float(np.float32(v)) for v in values] if name == "float32" else values
        got = outputs(infer_raw(gateway, model, ("x", wire, [1, 3], raw)))["x"]
        assert got[0] == [1, 3]
        assert [np.float32(v) if name == "float32" else v for v in got[1]] == back
        for data in (values, [values]):
            answer = infer_json(gateway, model, tensor(wire, [1, 3], data))
            assert outputs(answer)["x"] == got
            assert outputs(infer_json(gateway, model, tensor(wire, [1, 3], data), **BINARY))["x"] == ([1, 3], raw)
    else:
        refused(infer_raw(gateway, model, ("x", wire, [1, 3], raw)), 400, "DTYPE")


@pytest.mark.parametrize("name", [t.name for t in TYPES if t.size >= 4])
def test_large_json_tensors_come_back_as_they_went(gateway: Gateway, name: str):
    """Large numeric bodies are read by another JSON reader."""
    values, wire = values_of(name) * 700, BY_NAME[name].wire
    answer = infer_json(gateway, f"echo-{name}", tensor(wire, [1, 2100], values), **BINARY)
    assert outputs(answer) == {"x": ([1, 2100], raw_of(name, values))}
    nested = [values[:1050], values[1050:]]
    answer = infer_json(gateway, f"echo-{name}", tensor(wire, [2, 1050], nested), **BINARY)
    assert outputs(answer) == {"x": ([2, 1050], raw_of(name, values))}


def test_what_may_be_missing_is_null(gateway: Gateway):
    answer = infer_json(gateway, "echo-maybe", tensor("BYTES", [1, 2], ["a", None]))
    assert outputs(answer) == {"x": ([1, 2], ["a", None])}
    answer = infer_json(gateway, "echo-anything", tensor("FP32", [1, 2], [1.5, None]))
    assert outputs(answer) == {"x": ([1, 2], [1.5, None])}
    refused(infer_json(gateway, "echo-float32", tensor("FP32", [1, 2], [1.5, None])), 400, "NOT_FINITE")
    refused(infer_json(gateway, "echo-int32", tensor("INT32", [1, 2], [1, None])), 400, "DTYPE")


def test_scalars_have_the_batch_as_their_only_axis(gateway: Gateway):
    amount, age = tensor("FP32", [2], [4, 8], "amount"), tensor("INT32", [2], [2, 4], "age")
    assert outputs(infer_json(gateway, "score", amount, age)) == {"score": ([2], [2.5, 5])}
    refused(infer_json(gateway, "score", {**amount, "shape": [2, 1]}, age), 400, "SHAPE_MISMATCH")


def test_inputs_may_be_json_and_binary_in_one_request(gateway: Gateway):
    a = {"name": "a", "shape": [1, 2], "datatype": "FP32", "parameters": {"binary_data_size": 8}}
    b = tensor("FP32", [1, 2], [1, 2], "b")
    for inputs in ([a, b], [b, a]):
        text = json.dumps({"inputs": inputs}).encode()
        body = text + struct.pack("<2f", 10, 20)
        answer = gateway.call("POST", "/v2/models/pair/infer", body, {**OCTETS, LENGTH: str(len(text))})
        assert outputs(answer)["difference"] == ([1, 2], [9, 18])


@pytest.mark.parametrize(
    ("default", "sum_", "difference"),
    [
        (None, None, None),
        (True, None, None),
        (True, False, None),
        (False, True, None),
        (None, True, False),
        (True, True, True),
        (False, False, False),
    ],
)
def test_an_output_is_binary_if_it_says_so_or_else_as_the_request_says(
    gateway: Gateway, default: bool | None, sum_: bool | None, difference: bool | None
):
    """The protocol's words: `binary_data_output` holds unless an output says otherwise."""
    wanted = {"sum": sum_, "difference": difference}
    asked = [{"name": n, "parameters": {} if w is None else {"binary_data": w}} for n, w in wanted.items()]
    rest = {} if default is None else {"parameters": {"binary_data_output": default}}
    answer = gateway.call("POST", "/v2/models/pair/infer", {**GOOD, **rest, "outputs": asked})
    for name, (_, data) in outputs(answer).items():
        is_binary = default if wanted[name] is None else wanted[name]
        values = {"sum": [1.75, 0], "difference": [1.25, 4]}[name]
        assert data == (struct.pack("<2f", *values) if is_binary else values)


def test_outputs_come_in_the_order_asked_for(gateway: Gateway):
    for names in (["difference"], ["difference", "sum"], ["sum", "difference"]):
        answer = gateway.call("POST", "/v2/models/pair/infer", {**GOOD, "outputs": [{"name": n} for n in names]})
        assert list(outputs(answer)) == names
    assert list(outputs(gateway.call("POST", "/v2/models/pair/infer", {**GOOD, "outputs": []}))) == [
        "sum",
        "difference",
    ]


def test_classes_are_named_and_ordered(gateway: Gateway):
    scores = tensor("FP32", [2, 4], [0.1, 0.7, 0.2, 0, 4, 3, 2, 1])

    def best(count: Any, **parameters: Any) -> Answer:
        asked = [{"name": "scores", "parameters": {"classification": count, **parameters}}]
        return infer_json(gateway, "labelled", scores, outputs=asked)

    assert outputs(best(2))["scores"] == (
        [2, 2],
        ["0.700000:1:dog", "0.200000:2:owl", "4.000000:0:cat", "3.000000:1:dog"],
    )
    assert outputs(best(9))["scores"][0] == [2, 4]
    raw = outputs(best(1, binary_data=True))["scores"]
    assert raw == ([2, 1], elements(b"0.700000:1:dog", b"4.000000:0:cat"))
    for count in (0, -1, 1.5, "2", True, None, 2**31):
        refused(best(count), 400, "INVALID_PARAMETER")
    word = [{"name": "word", "parameters": {"classification": 1}}]
    refused(infer_json(gateway, "labelled", scores, outputs=word), 400, "DTYPE")
    assert_right(gateway)


def test_output_parameters_that_are_not_known_are_refused(gateway: Gateway):
    for parameters in ({"binary": True}, {"binary_data": 1}, {"binary_data": "true"}, {"binary_data_size": 8}):
        asked = [{"name": "sum", "parameters": parameters}]
        refused(gateway.call("POST", "/v2/models/pair/infer", {**GOOD, "outputs": asked}), 400, "INVALID_PARAMETER")


@pytest.mark.parametrize("tail", [b"", struct.pack("<2f", 1.5, 2)], ids=["json", "binary"])
def test_lengths_are_those_of_the_body_without_its_encoding(gateway: Gateway, tail: bytes):
    first = GOOD["inputs"][0] | {"data": [1.5, 2]}
    if tail:
        first = {k: v for k, v in first.items() if k != "data"} | {"parameters": {"binary_data_size": 8}}
    text = json.dumps({"inputs": [first, GOOD["inputs"][1]]}).encode()
    headers = {**OCTETS, LENGTH: str(len(text)), "content-encoding": "gzip"}
    assert outputs(gateway.call("POST", "/v2/models/pair/infer", gzip.compress(text + tail), headers))["sum"] == (
        [1, 2],
        [1.75, 0],
    )


def test_an_answer_comes_in_an_encoding_the_caller_takes(gateway: Gateway):
    body = {"inputs": [tensor("FP32", [1, 1000], [0.5] * 1000)]}
    plain = gateway.call("POST", "/v2/models/echo-float32/infer", body)
    assert "content-encoding" not in plain.headers
    for accept, encoding in {
        "gzip": "gzip", "deflate": "deflate", "gzip, deflate": "gzip", "gzip;q=0.5, deflate": "deflate", "*": "gzip",
        "br, gzip;q=0.1": "gzip", "identity": "", "gzip;q=0": "", "br": "", "gzip;q=x": "", "": "", "GZIP": "gzip",
    }.items():  # fmt: skip
        answer = gateway.call("POST", "/v2/models/echo-float32/infer", body, {"accept-encoding": accept})
        assert answer.headers.get("content-encoding", "") == encoding, accept
        assert "accept-encoding" in answer.headers["vary"]
        wbits = {"gzip": 31, "deflate": 15}.get(encoding)
        text = answer.body if wbits is None else zlib.decompress(answer.body, wbits)
        assert json.loads(text)["outputs"][0]["data"] == [0.5] * 1000


def test_a_content_type_is_not_needed(gateway: Gateway):
    """docs/adr/0007."""
    text = json.dumps(GOOD).encode()
    assert gateway.call("POST", "/v2/models/pair/infer", text).status == 200
    assert gateway.call("POST", "/v2/models/pair/infer", text, JSON).status == 200
