"""The OpenAPI document describes every operation with types and examples that work."""

import json

import msgspec
import pytest

from limen.contracts.contract import Contract, Field
from limen.contracts.errors import InvalidArgument
from limen.contracts.openapi.document import ServedContract, default_versions, openapi
from limen.contracts.validation.records import RecordCodec
from limen.contracts.validation.tensors import ContractCheck
from limen.gateway.engine.message import Head, Request
from limen.gateway.http.oip.tensors import decode_infer
from limen.gateway.http.records.streams import _asked
from tests.unit.contracts.served import ALL, CREDIT, CREDIT_1, EVERYTHING_1, HALVES_1, TELLER_1

DOCUMENT = openapi(ALL, server_version="0.1.0", title="Limen")
OPERATIONS = [(p, m, op) for p, item in DOCUMENT["paths"].items() for m, op in item.items()]
CALLS = [(path, operation) for path, method, operation in OPERATIONS if method == "post"]
CONTRACTS = {served.contract.name: served.contract for served in ALL}


def validator(schema):
    """Compile a schema of the document, with its components in reach."""
    jsonschema_rs = pytest.importorskip("jsonschema_rs")
    return jsonschema_rs.Draft202012Validator({**schema, "components": DOCUMENT["components"]})


def request_schema(path):
    """Return the validator of a call's JSON body."""
    body = DOCUMENT["paths"][path]["post"]["requestBody"]["content"]["application/json"]
    return validator(body["schema"])


def infer_body(**changes):
    """Return a good inference request for the digits model with some of its parts changed."""
    tensor = {"name": "pixels", "shape": [1, 2, 3], "datatype": "FP32", "data": [0, 0.5, 1, 0, 0, 0]}
    body = {"inputs": [tensor | changes.pop("tensor", {})], **changes}
    return {key: value for key, value in body.items() if value is not None}


def test_every_reference_leads_somewhere():
    def references(node):
        if isinstance(node, dict):
            yield from ([node["$ref"]] if "$ref" in node else [])
            yield from (ref for value in node.values() for ref in references(value))
        elif isinstance(node, list):
            yield from (ref for value in node for ref in references(value))

    found = set(references(DOCUMENT))
    assert found
    for ref in found:
        node = DOCUMENT
        for part in ref.removeprefix("#/").split("/"):
            node = node[part]
        assert node


def test_the_document_is_plain_json():
    assert json.loads(json.dumps(DOCUMENT)) == msgspec.json.decode(msgspec.json.encode(DOCUMENT))


def test_every_operation_has_a_name_of_its_own_a_tag_a_summary_and_its_errors():
    names = [op["operationId"] for _, _, op in OPERATIONS]
    assert len(set(names)) == len(names)
    tags = {tag["name"] for tag in DOCUMENT["tags"]}
    for _, method, operation in OPERATIONS:
        assert set(operation["tags"]) <= tags
        assert operation["summary"]
        wanted = {"get": {"200", "405", "500", "503"}, "post": {"200", "400", "404", "405", "413", "415", "500", "504"}}
        assert wanted[method] <= set(operation["responses"])


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models",
        "/v1/models/credit",
        "/v1/models/credit/versions/1",
        "/v1/models/credit/metadata",
        "/v1/models/credit/contract",
        "/v1/models/credit/openapi.json",
        "/v1/models/credit.proto",
        "/v1/models/credit:predict",
        "/v1/models/credit/versions/1:predict",
        "/v2",
        "/v2/health/live",
        "/v2/health/ready",
        "/v2/models",
        "/v2/models/credit",
        "/v2/models/credit/ready",
        "/v2/models/credit/versions/1/ready",
        "/v2/models/credit/infer",
        "/v2/models/credit/versions/1/infer",
        "/openapi.json",
        "/docs",
    ],
)
def test_every_path_of_the_server_is_there(path):
    assert path in DOCUMENT["paths"]


@pytest.mark.parametrize(("path", "operation"), CALLS, ids=[path for path, _ in CALLS])
def test_the_example_request_is_accepted_by_the_server_and_by_the_schema(path, operation):
    content = operation["requestBody"]["content"]
    contract = CONTRACTS[operation["tags"][0]]
    if "application/json" not in content:
        assert contract is HALVES_1.contract
        return
    example = content["application/json"]["examples"]["example"]["value"]
    body = msgspec.json.encode(example)
    if path.endswith("predict"):
        assert RecordCodec(contract).decode(body).rows == 1
    else:
        assert ContractCheck(contract).check_inputs(decode_infer(body, None)[0].inputs) == 1
    assert request_schema(path).is_valid(example)


@pytest.mark.parametrize(("path", "operation"), CALLS, ids=[path for path, _ in CALLS])
def test_the_example_answer_has_the_schema_of_answers(path, operation):
    answer = operation["responses"]["200"]["content"]["application/json"]
    assert validator(answer["schema"]).is_valid(answer["example"])


def checked_inputs(body):
    """Return how many rows the server finds in an inference request for the digits model."""
    inputs = decode_infer(msgspec.json.encode(body), None)[0].inputs
    return ContractCheck(CONTRACTS["digits-2.net"]).check_inputs(inputs)


@pytest.mark.parametrize(
    "body",
    [
        infer_body(),
        infer_body(id="a.b_c:d-1", parameters={"depth": 3, "mode": "x", "fast": True}, outputs=[]),
        infer_body(tensor={"data": [[[0, 0.5, 1], [0, 0, 0]]], "parameters": {}}),
        infer_body(tensor={"shape": [2, 2, 3], "data": [0] * 12}),
        infer_body(outputs=[{"name": "scores", "parameters": {"binary_data": False, "classification": 2}}]),
        infer_body(outputs=[{"name": "digit"}]),
        infer_body(id=""),
    ],
    ids=["flat", "envelope", "nested", "two rows", "classification", "one output", "an empty id"],
)
def test_the_inference_schema_accepts_what_the_server_accepts(body):
    assert checked_inputs(body) in {1, 2}
    assert request_schema("/v2/models/digits-2.net/infer").is_valid(body)


@pytest.mark.parametrize(
    "body",
    [
        infer_body(inputs=[]),
        infer_body(inputs=None),
        infer_body(extra=1),
        infer_body(id="a b"),
        infer_body(parameters={"a": None}),
        infer_body(parameters={"a": [1]}),
        infer_body(tensor={"extra": 1}),
        infer_body(tensor={"data": [0, 0, 0]}),
        infer_body(tensor={"data": [[[0, 0], [0, 0], [0, 0]]]}),
        infer_body(tensor={"data": ["0"] * 6}),
        infer_body(tensor={"data": [None] * 6}),
        infer_body(tensor={"data": [True] * 6}),
        infer_body(tensor={"parameters": {"binary_data_size": 24}}),
        infer_body(tensor={"data": [0, 0, 0, 0, 0, 1.5]}),
        infer_body(outputs=[{"name": "digit", "parameters": {"classification": 0}}]),
        infer_body(outputs=[{"name": "digit", "parameters": {"else": 1}}]),
    ],
)
def test_the_inference_schema_refuses_what_the_server_refuses(body):
    """B11, B23, B27, B31, B33, B34, B36, B37: each is a mistake on both sides."""
    with pytest.raises(InvalidArgument):
        checked_inputs(body)
    assert not request_schema("/v2/models/digits-2.net/infer").is_valid(body)


def test_trailing_optional_inputs_may_be_left_out_of_an_inference():
    example = DOCUMENT["paths"]["/v2/models/credit/infer"]["post"]["requestBody"]["content"]["application/json"]
    inputs = example["examples"]["example"]["value"]["inputs"]
    assert request_schema("/v2/models/credit/infer").is_valid({"inputs": inputs[:3]})
    assert not request_schema("/v2/models/credit/infer").is_valid({"inputs": inputs[:2]})


def test_a_record_call_takes_an_id_parameters_and_a_signature_name_and_nothing_else():
    accepts = request_schema("/v1/models/credit:predict").is_valid
    record = {"loan_amount": 900, "term_months": 36, "grade": "A"}
    whole = {"instances": [record], "id": "x", "parameters": {"a": 1}, "signature_name": "serving_default"}
    assert accepts(whole)
    assert not accepts(whole | {"inputs": []})
    assert not accepts({"instances": []})
    assert not accepts({"instances": [record] * 65})
    assert not accepts({"instances": [record | {"grade": "Z"}]})


def test_a_model_with_one_input_also_takes_the_bare_value():
    body = {"instances": [[[0, 0, 0], [0, 0, 1]]]}
    assert request_schema("/v1/models/digits-2.net:predict").is_valid(body)
    assert RecordCodec(CONTRACTS["digits-2.net"]).decode(msgspec.json.encode(body)).rows == 1


def test_a_model_with_16_bit_floats_says_that_its_tensors_are_binary():
    operation = DOCUMENT["paths"]["/v2/models/halves/infer"]["post"]
    assert list(operation["requestBody"]["content"]) == ["application/octet-stream"]


def test_no_secret_is_in_the_document():
    text = json.dumps(DOCUMENT)
    assert "hush" not in text
    assert "hidden" not in text
    assert "real-person" not in text


def test_b100_markup_in_a_contract_is_inert_in_the_document():
    description = next(tag["description"] for tag in DOCUMENT["tags"] if tag["name"] == "everything")
    assert "<script" not in description
    assert "&lt;script>" in description


def test_the_newest_version_answers_where_none_is_named():
    older, newer = (ServedContract(CREDIT, version, "onnx_onnxv1") for version in ("9", "10"))
    assert default_versions([newer, older, EVERYTHING_1]) == [newer, EVERYTHING_1]
    document = openapi([newer, older], server_version="1", title="x")
    body = document["paths"]["/v1/models/credit:predict"]["post"]["requestBody"]["content"]["application/json"]
    assert body["schema"] == {"$ref": "#/components/schemas/credit.v10.PredictRequest"}
    assert "/v1/models/credit/versions/9:predict" in document["paths"]


def test_a_document_can_be_of_one_model():
    document = openapi([CREDIT_1], server_version="0.1.0", title="Credit default")
    assert document["info"]["title"] == "Credit default"
    assert not [path for path in document["paths"] if "digits" in path]


def test_models_with_similar_names_do_not_share_operations_or_schemas():
    field = Field(name="x", type="bool")
    names = ("a", "a.v1", "a-v1", "a_v1", "a.v1.input")
    served = [ServedContract(Contract(name=n, inputs=(field,), outputs=(field,)), "1", "onnx_onnxv1") for n in names]
    document = openapi(served, server_version="1", title="x")
    ids = [op["operationId"] for item in document["paths"].values() for op in item.values()]
    assert len(ids) == len(set(ids))
    assert sum(name.endswith(".Input") for name in document["components"]["schemas"]) == len(names)


STREAMS = openapi([TELLER_1], server_version="0", title="Limen")


def stream_validator(schema):
    jsonschema_rs = pytest.importorskip("jsonschema_rs")
    return jsonschema_rs.Draft202012Validator({**schema, "components": STREAMS["components"]})


def generate_rows(body):
    """Return how many rows the server reads in a generate body for the teller."""
    request = Request(Head(b"POST", b"/", {}, keep_alive=True), msgspec.json.encode(body))
    asked = _asked(request, TELLER_1.contract)
    return RecordCodec(TELLER_1.contract).decode(msgspec.json.encode({"instances": [asked.record]})).rows


def test_a_streaming_model_has_its_streaming_calls_and_no_others():
    calls = [path for path, item in STREAMS["paths"].items() if "post" in item]
    assert calls == [
        "/v1/models/teller/versions/1:stream",
        "/v1/models/teller:stream",
        "/v2/models/teller/generate_stream",
        "/v2/models/teller/versions/1/generate_stream",
    ]
    assert "/v2/models/teller" in STREAMS["paths"]
    assert "Streams: `:stream`, `generate_stream`, and over gRPC" in STREAMS["tags"][0]["description"]
    names = {name.rpartition(".")[2] for name in STREAMS["components"]["schemas"] if name.startswith("teller.")}
    assert names == {"Input", "Output", "PredictRequest", "StreamPart", "GenerateRequest", "GenerateAnswer"}


@pytest.mark.parametrize("path", ["/v1/models/teller:stream", "/v2/models/teller/generate_stream"])
def test_the_examples_of_a_streaming_call_are_what_it_takes_and_gives(path):
    operation = STREAMS["paths"][path]["post"]
    content = operation["requestBody"]["content"]["application/json"]
    example = content["examples"]["example"]["value"]
    assert stream_validator(content["schema"]).is_valid(example)
    if path.endswith(":stream"):
        assert RecordCodec(TELLER_1.contract).decode(msgspec.json.encode(example)).rows == 1
    else:
        assert generate_rows(example) == 1
    answer = operation["responses"]["200"]["content"]["text/event-stream"]
    first, *rest = answer["example"].split("\n\n")
    part = json.loads(first.removeprefix("data: "))
    event = answer["schema"]["anyOf"][0] if path.endswith(":stream") else answer["schema"]
    data = event["properties"]["data"]["contentSchema"]
    assert stream_validator(data).is_valid(part)
    assert not stream_validator(data).is_valid({"other": 1})
    assert rest == (["event: end\ndata: {}", ""] if path.endswith(":stream") else [""])


@pytest.mark.parametrize(
    "body",
    [
        {"text_input": "hi"},
        {"text_input": "hi", "id": "a-1", "parameters": {"n": 1, "tone": "low", "loud": False}},
        {"text_input": "hi", "grid": [1, 2, 3, 4], "weights": [], "last": [False], "mood": None},
        {"text_input": "hi", "weights": 2.5, "last": False, "mood": "calm", "pairs": [[1, 2], [3, 4], [5, 6]]},
        {"text_input": "hi", "loose": [[1, 2], [3, 4]], "weights": [1, 2, 3]},
    ],
)
def test_the_generate_schema_accepts_what_the_server_accepts(body):
    assert generate_rows(body) == 1
    assert stream_validator({"$ref": "#/components/schemas/teller.v1.GenerateRequest"}).is_valid(body)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"text_input": 5},
        {"text_input": None},
        {"text_input": "hi", "id": "a b"},
        {"text_input": "hi", "parameters": 1},
        {"text_input": "hi", "parameters": {"n": None}},
        {"text_input": "hi", "parameters": {"text_input": "ho"}},
        {"text_input": "hi", "other": [1]},
        {"text_input": "hi", "grid": [1, 2, 3]},
        {"text_input": "hi", "grid": [1, 2, 3, -4]},
        {"text_input": "hi", "last": [True, True]},
        {"text_input": "hi", "mood": "sad"},
        {"text_input": "hi", "pairs": [1]},
        {"text_input": "hi", "loose": [1]},
    ],
)
def test_the_generate_schema_refuses_what_the_server_refuses(body):
    with pytest.raises(InvalidArgument):
        generate_rows(body)
    assert not stream_validator({"$ref": "#/components/schemas/teller.v1.GenerateRequest"}).is_valid(body)


def test_a_flat_list_is_enough_where_one_size_is_variable():
    """The schema cannot say this one."""
    assert generate_rows({"text_input": "hi", "pairs": [1, 2, 3, 4]}) == 1


def test_a_row_as_large_as_an_image_has_no_example_in_the_document():
    """Written out, one picture would make a document of twenty megabytes."""
    image = Field(name="x", type="float32", shape=(3, 640, 640))
    boxes = Field(name="y", type="float32", shape=(84, 400))
    contract = Contract(name="yolo", inputs=(image,), outputs=(boxes,))
    for can_stream in (False, True):
        served = ServedContract(contract=contract, version="1", platform="onnx", can_stream=can_stream)
        text = json.dumps(openapi([served], server_version="0", title="t"))
        assert len(text) < 200_000
        assert '"example": [' not in text
