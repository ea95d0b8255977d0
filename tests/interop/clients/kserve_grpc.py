"""KServe's gRPC client."""

import grpc as rpc
import numpy as np
from harness import run
from kserve import InferenceGRPCClient, InferInput, InferRequest


def request(model="score", amount=10):
    inputs = [InferInput("amount", [1], "FP32"), InferInput("age", [1], "INT32")]
    inputs[0].set_data_from_numpy(np.array([amount], np.float32), binary_data=True)
    inputs[1].set_data_from_numpy(np.array([4], np.int32), binary_data=True)
    return InferRequest(model, inputs, request_id="mine-1", parameters={"tenant": "a"})


async def check_health(_, grpc):
    async with InferenceGRPCClient(grpc) as client:
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert await client.is_model_ready("score")


async def check_raw_contents(_, grpc):
    async with InferenceGRPCClient(grpc) as client:
        answer = await client.infer(request())
        assert (answer.id, answer.model_name, answer.model_version) == ("mine-1", "score", "1")
        assert answer.outputs[0].as_numpy().tolist() == [6]


async def check_typed_contents(_, grpc):
    async with InferenceGRPCClient(grpc) as client:
        inputs = [
            InferInput("amount", [2], "FP32", data=[10.0, 20.0]),
            InferInput("age", [2], "INT32", data=[4, 8]),
        ]
        answer = await client.infer(InferRequest("score", inputs))
        assert answer.outputs[0].as_numpy().tolist() == [6, 12]


async def check_texts(_, grpc):
    async with InferenceGRPCClient(grpc) as client:
        text = InferInput("string_in", [1, 2], "BYTES")
        text.set_data_from_numpy(np.array([[b"a", "grüße ✓".encode()]], object), binary_data=True)
        answer = await client.infer(InferRequest("echo", [text]))
        found = {o.name: o for o in answer.outputs}["string_out"].as_numpy()
        assert [bytes(t).decode() for t in found[0]] == ["a", "grüße ✓"], found


async def check_errors(_, grpc):
    async with InferenceGRPCClient(grpc) as client:
        for bad, code in (
            (request("nothing"), rpc.StatusCode.NOT_FOUND),
            (request(amount=-1), rpc.StatusCode.INVALID_ARGUMENT),
        ):
            try:
                await client.infer(bad)
            except rpc.RpcError as exc:
                assert exc.code() is code, exc
            else:
                raise AssertionError("it was not refused")


if __name__ == "__main__":
    run(globals())
