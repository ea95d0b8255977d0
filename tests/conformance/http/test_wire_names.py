"""Tensors by the names that callers know, and models without a batch axis, over REST: tensors, raw bodies, records, generate."""

import json
import struct
from typing import Any

import numpy as np
import pytest

from tests.conformance.serving.expectations import refused
from tests.conformance.serving.gateway import Gateway

LENGTH = "inference-header-content-length"
NUMBERS = {"name": "input.1", "datatype": "FP32", "shape": [2, 2], "data": [1, 2, 3, 4]}
TABLE = {"name": "table.1", "datatype": "FP32", "shape": [3, 2], "data": [[1, 2], [3, 4], [5, 6]]}


def infer(gateway: Gateway, model: str, *inputs: dict[str, Any], **members: Any) -> Any:
    return gateway.call("POST", f"/v2/models/{model}/infer", {"inputs": inputs, **members})


def outputs(answer: Any) -> dict[str, tuple[list[int], list[Any]]]:
    assert answer.status == 200, answer
    return {o["name"]: (o["shape"], o["data"]) for o in answer.json()["outputs"]}


def changed(tensor: dict[str, Any], **members: Any) -> dict[str, Any]:
    return {**tensor, **members}


def test_tensors_go_by_their_names_on_the_wire(gateway: Gateway):
    words = {"name": "head/Word:0", "datatype": "BYTES", "shape": [2], "data": ["a", "b"]}
    left = {"name": "left", "datatype": "INT32", "shape": [2], "data": [7, 8]}
    assert outputs(infer(gateway, "foreign", NUMBERS, words, left)) == {
        "Softmax Out": ([2, 2], [2, 4, 6, 8]),
        "said.1": ([2], ["a 1 7", "b 1 8"]),  # what the wire calls left is the field right
        "plain": ([2], [1, 1]),
    }


def test_outputs_are_asked_for_by_their_names_on_the_wire(gateway: Gateway):
    wanted = [{"name": "said.1"}, {"name": "Softmax Out", "parameters": {"classification": 1}}]
    answer = outputs(infer(gateway, "foreign", changed(NUMBERS, shape=[1, 2], data=[1, 2]), outputs=wanted))
    assert list(answer.items()) == [("said.1", ([1], ["none 1 2"])), ("Softmax Out", ([1, 1], ["4.000000:1:yes"]))]


def test_binary_answers_have_the_names_of_the_wire(gateway: Gateway):
    blob = struct.pack("<2f", 1, 2)
    tensor = {"name": "input.1", "datatype": "FP32", "shape": [1, 2], "parameters": {"binary_data_size": len(blob)}}
    wanted = [{"name": "Softmax Out", "parameters": {"binary_data": True}}]
    head = json.dumps({"inputs": [tensor], "outputs": wanted}).encode()
    for _ in range(2):  # the second one is recognised by its bytes
        answer = gateway.call(
            "POST",
            "/v2/models/foreign/infer",
            head + blob,
            {LENGTH: str(len(head)), "content-type": "application/octet-stream"},
        )
        length = int(answer.headers[LENGTH])
        assert json.loads(answer.body[:length])["outputs"][0]["name"] == "Softmax Out"
        assert answer.body[length:] == struct.pack("<2f", 2, 4)


@pytest.mark.parametrize("model", ["foreign", "whole"])
def test_metadata_and_configuration_have_what_callers_send(gateway: Gateway, model: str):
    metadata = gateway.call("GET", f"/v2/models/{model}").json()
    config = gateway.call("GET", f"/v2/models/{model}/config").json()
    assert [t["name"] for t in metadata["inputs"]] == [t["name"] for t in config["input"]]
    assert [t["name"] for t in metadata["outputs"]] == [t["name"] for t in config["output"]]
    if model == "foreign":
        assert [(t["name"], t["shape"]) for t in metadata["inputs"][:2]] == [
            ("input.1", [-1, 2]),
            ("head/Word:0", [-1]),
        ]
        assert metadata["properties"]["text_inputs"] == "head/Word:0"
        fields = json.loads(metadata["properties"]["output_fields"])
        assert fields == {"Softmax Out": "scores", "said.1": "said"}
        assert config["max_batch_size"] == 1024
        return
    shapes = {t["name"]: t["shape"] for t in (*metadata["inputs"], *metadata["outputs"])}
    assert shapes == {"table.1": [-1, 2], "scale": [], "title": [1], "sums.1": [2], "count": []}
    assert metadata["properties"]["batching"] == "none"
    assert (config["max_batch_size"], config.get("dynamic_batching")) == (0, None)
    assert [t["dims"] for t in config["input"]] == [[-1, 2], [], [1]]


@pytest.mark.parametrize(
    ("tensor", "code", "text"),
    [
        (changed(NUMBERS, name="numbers"), "INPUT_SET", "input.1: is a required input"),
        (changed(NUMBERS, datatype="FP64"), "DTYPE", "input.1: must have datatype FP32"),
        (changed(NUMBERS, shape=[4], data=[1, 2, 3, 4]), "SHAPE_MISMATCH", "input.1: must have shape [-1, 2], got [4]"),
        (changed(NUMBERS, data=[1, 2, 3, 400]), "VALUE", "input.1[1][1]: must be ≤ 100"),
    ],
)
def test_errors_speak_of_the_tensor_as_the_caller_named_it(gateway: Gateway, tensor: Any, code: str, text: str):
    answer = refused(infer(gateway, "foreign", tensor), 400, code)
    assert text in answer["error"] + "".join(f"{d['path']}: {d['reason']}" for d in answer.get("details", []))


def test_an_output_is_not_asked_for_by_its_field(gateway: Gateway):
    refused(infer(gateway, "foreign", NUMBERS, outputs=[{"name": "scores"}]), 400, "OUTPUT_SET")


def test_records_go_by_fields(gateway: Gateway):
    rows = [{"numbers": [1, 2], "word": "a", "right": 5}, {"numbers": [3, 4], "left": 3}]
    answer = gateway.call("POST", "/v1/models/foreign:predict", {"instances": rows})
    assert answer.json()["predictions"] == [
        {"scores": [2, 4], "said": "a 1 5", "plain": 1},
        {"scores": [6, 8], "said": "none 3 2", "plain": 3},
    ]


def test_generate_goes_by_the_names_of_tensors(gateway: Gateway):
    answer = gateway.call("POST", "/v2/models/foreign/generate", {"input.1": [1, 2], "parameters": {"right": 9}}).json()
    assert (answer["Softmax Out"], answer["said.1"], answer["plain"]) == ([2, 4], "none 9 2", 9)
    error = refused(gateway.call("POST", "/v2/models/foreign/generate", {"input.1": [1, 200]}), 400, "VALUE")
    assert error["details"][0]["path"] == "input.1[1]"


def test_a_request_without_a_batch_axis_is_one_run(gateway: Gateway):
    assert outputs(infer(gateway, "whole", TABLE)) == {
        "sums.1": ([2], [9, 12]),
        "count": ([], [3]),
        "title": ([1], ["none"]),
    }
    scale = {"name": "scale", "datatype": "FP32", "shape": [], "data": [2]}
    title = {"name": "title", "datatype": "BYTES", "shape": [1], "data": ["t"]}
    one = changed(TABLE, shape=[1, 2], data=[1, 2])
    found = outputs(infer(gateway, "whole", one, scale, title))
    assert found == {"sums.1": ([2], [2, 4]), "count": ([], [1]), "title": ([1], ["t"])}


def test_classes_of_an_answer_without_a_batch_axis_have_none(gateway: Gateway):
    wanted = [{"name": "sums.1", "parameters": {"classification": 1}}]
    found = outputs(infer(gateway, "whole", TABLE, outputs=wanted))
    assert found == {"sums.1": ([1], ["12.000000:1:second"])}


def test_large_and_binary_bodies_are_the_same(gateway: Gateway):
    table = np.ones((4000, 2), np.float32)
    large = changed(TABLE, shape=[4000, 2], data=table.ravel().tolist())
    assert outputs(infer(gateway, "whole", large))["count"] == ([], [4000])
    head = json.dumps(
        {
            "inputs": [
                {k: v for k, v in large.items() if k != "data"} | {"parameters": {"binary_data_size": table.nbytes}}
            ],
            "parameters": {"binary_data_output": True},
        }
    ).encode()
    headers = {LENGTH: str(len(head)), "content-type": "application/octet-stream"}
    answer = gateway.call("POST", "/v2/models/whole/infer", head + table.tobytes(), headers)
    assert struct.pack("<2f", 4000, 4000) + struct.pack("<q", 4000) in answer.body


@pytest.mark.parametrize(
    ("tensor", "code", "text"),
    [
        (
            changed(TABLE, shape=[1, 3, 2], data=[1] * 6),
            "SHAPE_MISMATCH",
            "table.1: must have shape [-1, 2], got [1, 3, 2]",
        ),
        (changed(TABLE, shape=[6], data=[1] * 6), "SHAPE_MISMATCH", "table.1: must have shape [-1, 2], got [6]"),
        (changed(TABLE, data=[[1, 2], [3, 400], [5, 6]]), "VALUE", "table.1[1][1]: must be ≤ 100"),
        (changed(TABLE, name="table"), "INPUT_SET", "table.1: is a required input"),
    ],
)
def test_errors_have_the_shapes_and_places_of_the_caller(gateway: Gateway, tensor: Any, code: str, text: str):
    answer = refused(infer(gateway, "whole", tensor), 400, code)
    assert text in answer["error"] + "".join(f"{d['path']}: {d['reason']}" for d in answer.get("details", []))


def test_each_record_is_a_run_of_its_own(gateway: Gateway):
    rows = [{"table": [[1, 2], [3, 4]]}, {"table": [[1, 1], [1, 1]], "scale": 10, "title": ["t"]}]
    answer = gateway.call("POST", "/v1/models/whole:predict", {"instances": rows})
    assert answer.json()["predictions"] == [
        {"sums": [4, 6], "count": 2, "title": ["none"]},
        {"sums": [20, 20], "count": 2, "title": ["t"]},
    ]


def test_records_of_different_sizes_may_be_sent_apart(gateway: Gateway):
    rows = [{"table": [[1, 2], [3, 4]]}, {"table": [[1, 1]]}]
    answer = refused(gateway.call("POST", "/v1/models/whole:predict", {"instances": rows}), 400, "SHAPE_MISMATCH")
    assert "must all have table of the same size; send rows of other sizes in separate requests" in answer["error"]


@pytest.mark.parametrize("model", ["foreign", "whole"])
def test_the_documents_show_requests_that_work(gateway: Gateway, model: str):
    document = gateway.call("GET", f"/v1/models/{model}/openapi.json").json()
    body = document["paths"][f"/v2/models/{model}/infer"]["post"]["requestBody"]["content"]["application/json"]
    example = body["examples"]["example"]["value"]
    answer = gateway.call("POST", f"/v2/models/{model}/infer", example)
    assert answer.status == 200, answer
    jsonschema_rs = pytest.importorskip("jsonschema_rs")
    schemas = document["components"]["schemas"]
    for name, value in (("InferRequest", example), ("InferResponse", answer.json())):
        schema = schemas[f"{model}.v1.{name}"]
        jsonschema_rs.meta.validate(schema)
        jsonschema_rs.Draft202012Validator({**schema, "components": document["components"]}).validate(value)
