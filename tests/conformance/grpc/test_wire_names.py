"""Tensors by the names that callers know, and models without a batch axis, over gRPC: typed and raw contents, metadata, typed services."""

from collections.abc import Iterator

import grpc
import numpy as np
import pytest

from limen.gateway.grpc._generated import open_inference_pb2 as pb
from limen.gateway.grpc._generated.open_inference_pb2_grpc import GRPCInferenceServiceStub
from limen.gateway.grpc.config import GrpcConfig
from limen.gateway.grpc.server import GrpcServer
from tests.conformance.grpc.typed import typed_server
from tests.conformance.serving.gateway import Gateway
from tests.conformance.serving.models import foreign, whole


@pytest.fixture(scope="module", params=["native", "grpcio"])
def stub(request: pytest.FixtureRequest, gateway: Gateway) -> Iterator[GRPCInferenceServiceStub]:
    server = gateway.do(lambda: GrpcServer(gateway.plane, GrpcConfig(engine=request.param)))
    port = gateway.do(lambda: server.start("127.0.0.1", 0))
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield GRPCInferenceServiceStub(channel)
    gateway.do(lambda: server.stop(0))


def raw(model: str, name: str, array: np.ndarray, *outputs: str) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name=model)
    request.inputs.add(name=name, datatype="FP32", shape=array.shape)
    request.raw_input_contents.append(array.tobytes())
    for output in outputs:
        request.outputs.add(name=output)
    return request


def test_raw_tensors_have_the_names_of_the_wire(stub):
    for _ in range(2):  # the second one is recognised by its bytes
        answer = stub.ModelInfer(raw("foreign", "input.1", np.array([[1, 2]], np.float32), "plain", "Softmax Out"))
        assert [(o.name, list(o.shape)) for o in answer.outputs] == [("plain", [1]), ("Softmax Out", [1, 2])]
        assert np.frombuffer(answer.raw_output_contents[1], np.float32).tolist() == [2, 4]


def test_typed_contents_have_the_names_of_the_wire(stub):
    request = pb.ModelInferRequest(model_name="foreign")
    request.inputs.add(name="input.1", datatype="FP32", shape=[1, 2]).contents.fp32_contents.extend([1, 2])
    request.inputs.add(name="left", datatype="INT32", shape=[1]).contents.int_contents.append(7)
    answer = {o.name: o.contents for o in stub.ModelInfer(request).outputs}
    assert list(answer["said.1"].bytes_contents) == [b"none 1 7"]
    assert set(answer) == {"Softmax Out", "said.1", "plain"}


@pytest.mark.parametrize("name", ["numbers", "input.2"])
def test_a_tensor_by_another_name_is_refused(stub, name):
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(raw("foreign", name, np.ones((1, 2), np.float32)))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "input.1" in caught.value.details() or "is not an input" in caught.value.details()


def test_metadata_and_configuration_have_what_callers_send(stub):
    named = stub.ModelMetadata(pb.ModelMetadataRequest(name="foreign"))
    assert [t.name for t in named.outputs] == ["Softmax Out", "said.1", "plain"]
    found = stub.ModelMetadata(pb.ModelMetadataRequest(name="whole"))
    assert [(t.name, list(t.shape)) for t in found.inputs] == [("table.1", [-1, 2]), ("scale", []), ("title", [1])]
    config = stub.ModelConfig(pb.ModelConfigRequest(name="whole")).config
    assert (config.max_batch_size, config.HasField("dynamic_batching")) == (0, False)


def test_a_request_without_a_batch_axis_is_one_run(stub):
    table = np.arange(8, dtype=np.float32).reshape(4, 2)
    answer = stub.ModelInfer(raw("whole", "table.1", table))
    assert [(o.name, list(o.shape)) for o in answer.outputs] == [("sums.1", [2]), ("count", []), ("title", [1])]
    assert np.frombuffer(answer.raw_output_contents[0], np.float32).tolist() == table.sum(0).tolist()
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(raw("whole", "table.1", table[np.newaxis]))
    assert "must have shape [-1, 2], got [1, 4, 2]" in caught.value.details()


@pytest.mark.parametrize("engine", ["native", "grpcio"])
async def test_typed_services_go_by_fields_and_each_instance_is_a_run(engine, tmp_path):
    async with typed_server(engine, tmp_path, foreign(tmp_path / "foreign"), whole(tmp_path / "whole")) as (_, client):
        named = await client.service("limen.models.foreign.v1.Foreign")
        assert (await named.predict({"numbers": [1, 2], "right": 5}))["predictions"] == [
            {"scores": [2.0, 4.0], "said": "none 1 5", "plain": 1}
        ]
        alone = await client.service("limen.models.whole.v1.Whole")
        answer = await alone.predict({"table": [1, 2, 3, 4]}, {"table": [1, 1, 1, 1], "scale": 3})
        assert [row["sums"] for row in answer["predictions"]] == [[4.0, 6.0], [6.0, 6.0]]
