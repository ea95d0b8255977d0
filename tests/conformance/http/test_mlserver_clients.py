"""What MLServer's client writes: every key it knows, and how it made a tensor (`content_type`). The same over gRPC."""

import base64
from typing import Any

import grpc
import pytest

from limen.gateway.grpc._generated import open_inference_pb2 as pb
from limen.gateway.grpc._generated.open_inference_pb2_grpc import GRPCInferenceServiceStub
from limen.gateway.grpc.server import GrpcServer
from tests.conformance.serving.expectations import refused
from tests.conformance.serving.gateway import Gateway

VECTOR = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.5, 2]}
WORDS = [base64.b64encode(word).decode() for word in (b"\xff\x00", b"word")]


def infer(gateway: Gateway, model: str, tensor: dict[str, Any], **members: Any):
    return gateway.call("POST", f"/v2/models/{model}/infer", {"inputs": [tensor], **members})


def data(gateway: Gateway, model: str, tensor: dict[str, Any], **members: Any) -> list[Any]:
    answer = infer(gateway, model, tensor, **members)
    assert answer.status == 200, answer
    return answer.json()["outputs"][0]["data"]


@pytest.mark.parametrize("parameters", [None, {}, {"content_type": None, "headers": None}, {"content_type": "np"}])
def test_parameters_without_a_value_are_none(gateway: Gateway, parameters: Any):
    outputs = [{"name": "x", "parameters": parameters}]
    members = {"id": None, "parameters": None, "outputs": outputs}
    assert data(gateway, "echo-float32", {**VECTOR, "parameters": parameters}, **members) == [1.5, 2]
    assert data(gateway, "echo-float32", VECTOR, parameters={"headers": None, "content_type": None}) == [1.5, 2]


def test_a_large_body_may_have_keys_without_a_value(gateway: Gateway):
    numbers = [n / 2 for n in range(4000)]
    tensor = {**VECTOR, "shape": [1, 4000], "data": numbers, "parameters": None}
    members = {"id": None, "parameters": None, "outputs": None}
    assert data(gateway, "echo-float32", tensor, **members) == numbers
    tensor["parameters"] = {"content_type": "np", "headers": None}
    assert data(gateway, "echo-float32", tensor, **members) == numbers


@pytest.mark.parametrize("content_type", ["np", "pd", "str"])
def test_a_content_type_that_changes_no_value_is_taken(gateway: Gateway, content_type: str):
    tensor = {"name": "x", "datatype": "BYTES", "shape": [1, 2], "data": WORDS}
    assert data(gateway, "echo-string", {**tensor, "parameters": {"content_type": content_type}}) == WORDS


def test_base64_content_is_what_it_stands_for(gateway: Gateway):
    tensor = {"name": "x", "datatype": "BYTES", "shape": [1, 1], "data": WORDS[1:]}
    tensor["parameters"] = {"content_type": "base64"}
    assert data(gateway, "echo-bytes", tensor) == ["word"]
    refused(infer(gateway, "echo-bytes", {**tensor, "data": ["no base64!"]}), 400, "VALUE")
    refused(infer(gateway, "echo-float32", {**VECTOR, "parameters": {"content_type": "base64"}}), 400, "DTYPE")


@pytest.mark.parametrize("content_type", ["datetime", "pd_json", "hf", "", 1, "BASE64"])
def test_a_content_type_that_means_another_value_is_refused(gateway: Gateway, content_type: Any):
    answer = infer(gateway, "echo-float32", {**VECTOR, "parameters": {"content_type": content_type}})
    assert "content_type" in refused(answer, 400, "INVALID_PARAMETER")["error"]


def test_content_types_mean_the_same_over_grpc(gateway: Gateway):
    server = gateway.do(lambda: GrpcServer(gateway.plane))
    port = gateway.do(lambda: server.start("127.0.0.1", 0))
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            call = GRPCInferenceServiceStub(channel).ModelInfer
            request = pb.ModelInferRequest(model_name="echo-bytes")
            tensor = request.inputs.add(name="x", datatype="BYTES", shape=[1, 2])
            tensor.contents.bytes_contents.extend(word.encode() for word in WORDS)
            tensor.parameters["content_type"].string_param = "base64"
            assert list(call(request).outputs[0].contents.bytes_contents) == [b"\xff\x00", b"word"]
            tensor.parameters["content_type"].string_param = "datetime"
            with pytest.raises(grpc.RpcError) as caught:
                call(request)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    finally:
        gateway.do(lambda: server.stop(0))
