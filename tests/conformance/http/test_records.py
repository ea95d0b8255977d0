"""The record API: named fields in and out, and the calls that TensorFlow Serving and KServe clients make."""

import base64
from typing import Any

import pytest

from limen.contracts.tensors import BY_NAME, TYPES, Kind
from tests.conformance.bad_inputs.entries import predict
from tests.conformance.serving.expectations import refused
from tests.conformance.serving.gateway import Gateway

RECORD = {"amount": 2, "count": 3, "grade": "A", "code": "AB12", "years": 1.5, "place": [1, 2]}


@pytest.mark.parametrize("path", ["/v1/models/pair", "/v1/models/pair/versions/1"])
def test_records_are_answered_in_both_version_forms(gateway: Gateway, path: str):
    answer = gateway.call(
        "POST", f"{path}:predict", {"instances": [{"a": [1, 2], "b": [3, 4]}, {"b": [1, 1], "a": [0, 0]}]}
    )
    predictions = [{"sum": [4, 6], "difference": [-2, -2]}, {"sum": [1, 1], "difference": [-1, -1]}]
    assert answer.json() == {"predictions": predictions, "model_name": "pair", "model_version": "1"}
    status = {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    assert gateway.call("GET", path).json() == {"model_version_status": [status], "name": "pair", "ready": True}
    assert gateway.call("GET", f"{path}/metadata").json()["name"] == "pair"


def test_the_id_that_a_caller_gives_comes_back(gateway: Gateway):
    body = {"id": "order-7", "instances": [{"a": [1, 2], "b": [3, 4]}]}
    answer = gateway.call("POST", "/v1/models/pair:predict", body)
    assert (answer.json()["id"], answer.headers["x-request-id"]) == ("order-7", "order-7")


@pytest.mark.parametrize("path", ["/v1/models/nosuch", "/v1/models/pair/versions/2", "/v1/models/pair/labels/prod"])
def test_an_unknown_model_version_or_label_is_not_found(gateway: Gateway, path: str):
    refused(gateway.call("POST", f"{path}:predict", {"instances": [{}]}), 404, "NOT_FOUND")
    refused(gateway.call("GET", path), 404, "NOT_FOUND")


def test_fields_left_out_have_their_default_or_are_missing(gateway: Gateway):
    answer = predict(
        gateway, "typed", {k: v for k, v in RECORD.items() if k != "years"}, RECORD | {"note": "x", "flag": True}
    )
    assert [row["words"] for row in answer.json()["predictions"]] == ["A AB12 none nan False", "A AB12 x 1.5 True"]
    assert [row["total"] for row in answer.json()["predictions"]] == [9, 9]


def test_bytes_are_base64_in_records(gateway: Gateway):
    content = base64.b64encode(bytes(range(8))).decode()
    assert predict(gateway, "typed", RECORD | {"photo": content}).json()["predictions"][0]["photo"] == content
    for bad in ("a", "====", "YWJj\n", "YW Jj", "é"):
        refused(predict(gateway, "typed", RECORD | {"photo": bad}), 400, "VALUE")


def test_a_model_with_one_input_takes_its_bare_value(gateway: Gateway):
    """As TensorFlow Serving does: the instance is the value of the only input."""
    answer = predict(gateway, "moody", 1, {"x": 2}, 3.5)
    assert answer.json()["predictions"] == [{"y": 1}, {"y": 2}, {"y": 3.5}]
    assert predict(gateway, "echo-int32", [1, 2]).json()["predictions"] == [{"x": [1, 2]}]
    refused(predict(gateway, "pair", [1, 2]), 400)


VALUES: dict[str, list[Any]] = {
    "bool": [True, False],
    "float16": [0.5, -65504],
    "bfloat16": [0.5, -3],
    "float32": [0.1, -3.4e38],
    "float64": [0.1, 5e-324],
    "string": ["ü 🦉\0", ""],
    "bytes": ["AAE=", ""],
    "json": [{"a": [1, None, {"b": "ü"}]}, [], "text", 0.5, True],
}


@pytest.mark.parametrize("name", [t.name for t in TYPES])
def test_every_type_comes_back_as_it_went(gateway: Gateway, name: str):
    element = BY_NAME[name]
    values = [element.low, element.high] if element.kind is Kind.INT else VALUES[name]
    assert predict(gateway, f"echo-{name}", {"x": values}, {"x": values[::-1]}).json()["predictions"] == [
        {"x": values},
        {"x": values[::-1]},
    ]


def test_more_rows_than_a_run_takes_are_answered_in_order(gateway: Gateway):
    rows = [{"a": [i, -i], "b": [1, 1]} for i in range(64)]
    predictions = predict(gateway, "pair", *rows).json()["predictions"]
    assert predictions == [{"sum": [i + 1, 1 - i], "difference": [i - 1, -i - 1]} for i in range(64)]


def test_one_bad_row_is_an_error_for_its_own_request_only(gateway: Gateway):
    good = {"instances": [{"a": [1, 2], "b": [3, 4]}]}
    bad = {"instances": [*good["instances"], {"a": [1, 2], "b": [3]}]}
    for body, status in ((good, 200), (bad, 400), (good, 200)):
        assert gateway.call("POST", "/v1/models/pair:predict", body).status == status


def test_a_signature_name_is_taken_and_not_used(gateway: Gateway):
    rows = [{"a": [1, 2], "b": [3, 4]}]
    body = {"signature_name": "serving_default", "instances": rows, "id": "x-1", "parameters": {"mode": "fast"}}
    answer = gateway.call("POST", "/v1/models/pair:predict", body)
    assert answer.json()["predictions"] == [{"sum": [4, 6], "difference": [-2, -2]}]
    assert answer.headers["x-request-id"] == "x-1"
    refused(gateway.call("POST", "/v1/models/pair:predict", {**body, "signature_name": 1}), 400)


def test_documents_are_there_for_every_model(gateway: Gateway):
    for model in gateway.call("GET", "/v1/models").json()["models"]:
        contract = gateway.call("GET", f"/v1/models/{model}/contract").json()
        assert contract["name"] == model
        assert gateway.call("GET", f"/v1/models/{model}/openapi.json").json()["openapi"].startswith("3.1")
        assert b"proto3" in gateway.call("GET", f"/v1/models/{model}.proto").body
    assert b"<!doctype html>" in gateway.call("GET", "/docs").body.lower()


def test_the_root_is_the_docs_page_for_people_and_kserve_v1_liveness_for_programs(gateway: Gateway):
    page = gateway.call("GET", "/", headers={"accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert (page.status, page.headers["location"]) == (302, "/docs")
    assert gateway.call("GET", "/", headers={"accept": "*/*"}).json() == {"status": "alive"}
    assert gateway.call("GET", "/").json() == {"status": "alive"}
