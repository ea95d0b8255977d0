"""KServe's REST client, in both of its protocols."""

import httpx
import numpy as np
from harness import run
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput


def inputs(*, binary):
    amount, age = InferInput("amount", [2], "FP32"), InferInput("age", [2], "INT32")
    amount.set_data_from_numpy(np.array([10, 20], np.float32), binary_data=binary)
    age.set_data_from_numpy(np.array([4, 8], np.int32), binary_data=binary)
    return [amount, age]


async def check_v2_health(http, _):
    async with InferenceRESTClient(RESTConfig(protocol="v2")) as client:
        base = f"http://{http}"
        assert await client.is_server_live(base) is True
        assert await client.is_server_ready(base) is True
        assert await client.is_model_ready(base, "score") is True
        assert await client.is_model_ready(base, "nothing") is False


async def check_v2_json_and_binary(http, _):
    async with InferenceRESTClient(RESTConfig(protocol="v2")) as client:
        for binary in (False, True):
            request = InferRequest("score", inputs(binary=binary), request_id="mine-1", parameters={"tenant": "a"})
            answer = await client.infer(f"http://{http}", request, model_name="score")
            assert (answer.id, answer.model_name) == ("mine-1", "score")
            assert answer.outputs[0].as_numpy().tolist() == [6, 12]


async def check_v2_binary_answer(http, _):
    async with InferenceRESTClient(RESTConfig(protocol="v2")) as client:
        outputs = [RequestedOutput("score", parameters={"binary_data": True})]
        request = InferRequest("score", inputs(binary=True), request_outputs=outputs)
        answer = await client.infer(f"http://{http}", request, model_name="score")
        assert answer.outputs[0].as_numpy().tolist() == [6, 12]


async def check_v2_texts(http, _):
    async with InferenceRESTClient(RESTConfig(protocol="v2")) as client:
        for binary in (False, True):
            text = InferInput("string_in", [1, 2], "BYTES")
            text.set_data_from_numpy(np.array([["", "grüße ✓"]], object), binary_data=binary)
            outputs = [RequestedOutput("string_out", parameters={"binary_data": binary})]
            request = InferRequest("echo", [text], request_outputs=outputs)
            answer = await client.infer(f"http://{http}", request, model_name="echo")
            found = [t.decode() if isinstance(t, bytes) else t for t in answer.outputs[0].as_numpy()[0]]
            assert found == ["", "grüße ✓"], found


async def check_v1_health(http, _):
    async with InferenceRESTClient(RESTConfig(protocol="v1")) as client:
        assert await client.is_server_live(f"http://{http}") is True
        assert await client.is_model_ready(f"http://{http}", "score") is True


async def check_v1_predict(http, _):
    async with InferenceRESTClient(RESTConfig(protocol="v1")) as client:
        rows = {"instances": [{"amount": 10, "age": 4}, {"amount": 20, "age": 8}]}
        answer = await client.infer(f"http://{http}", rows, model_name="score")
        assert answer["predictions"] == [{"score": 6.0}, {"score": 12.0}]


async def check_errors(http, _):
    for protocol, body in (
        ("v1", {"instances": [{"amount": -1, "age": 4}]}),
        ("v2", {"inputs": [{"name": "amount", "shape": [1], "datatype": "FP32", "data": [-1]}]}),
    ):
        async with InferenceRESTClient(RESTConfig(protocol=protocol)) as client:
            try:
                await client.infer(f"http://{http}", body, model_name="score")
            except httpx.HTTPStatusError as exc:
                assert exc.response.status_code == 400
                assert "amount" in str(exc) or "age" in str(exc), str(exc)
            else:
                raise AssertionError("it was not refused")


if __name__ == "__main__":
    run(globals())
