"""Triton's asynchronous gRPC client."""

import asyncio

import numpy as np
import tritonclient.grpc.aio as kind
from harness import run
from triton_data import ROWS, echo_inputs, expect_classes, expect_echo, expect_score, score_inputs, tensor
from tritonclient.utils import InferenceServerException


async def check_health_and_metadata(_, grpc):
    async with kind.InferenceServerClient(grpc) as client:
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert await client.is_model_ready("score", "1")
        assert (await client.get_server_metadata()).name == "limen"
        assert list((await client.get_model_metadata("iris")).outputs[0].shape) == [-1, 3]


async def check_infer(_, grpc):
    async with kind.InferenceServerClient(grpc) as client:
        expect_score(await client.infer("score", score_inputs(kind)))
        expect_echo(await client.infer("echo", echo_inputs(kind)))
        expect_score(await client.infer("score", score_inputs(kind), compression_algorithm="gzip"))


async def check_classification(_, grpc):
    async with kind.InferenceServerClient(grpc) as client:
        outputs = [kind.InferRequestedOutput("y", class_count=2)]
        expect_classes(await client.infer("iris", [tensor(kind, "x", ROWS, "FP32")], outputs=outputs))


async def check_many_at_once(_, grpc):
    async with kind.InferenceServerClient(grpc) as client:
        calls = [client.infer("score", score_inputs(kind, [n], [0])) for n in range(40)]
        for n, result in enumerate(await asyncio.gather(*calls)):
            expect_score(result, [n / 2])


async def check_a_stream(_, grpc):
    async def requests():
        for request_id, n in (("a", 3), ("bad", 5000), ("b", 2)):
            inputs = [tensor(kind, "n", np.array([n], np.int32), "INT32")]
            yield {"model_name": "countdown", "inputs": inputs, "request_id": request_id}

    found, errors = [], []
    async with kind.InferenceServerClient(grpc) as client:
        async for result, error in client.stream_infer(requests()):
            if error is not None:
                errors.append(error.message())
            else:
                found.append((result.get_response().id, int(result.as_numpy("value")[0])))
    assert [value for name, value in found if name == "a"] == [3, 2, 1]
    assert [value for name, value in found if name == "b"] == [2, 1]
    assert errors == ["n[0]: must be ≤ 1000"], errors


async def check_a_stream_that_is_cancelled(_, grpc):
    async def requests():
        inputs = [tensor(kind, "n", np.array([1000], np.int32), "INT32")]
        yield {"model_name": "countdown", "inputs": inputs}
        await asyncio.Event().wait()

    async with kind.InferenceServerClient(grpc) as client:
        answers = client.stream_infer(requests())
        result, error = await anext(answers)
        assert error is None
        assert int(result.as_numpy("value")[0]) == 1000
        answers.cancel()
        expect_score(await client.infer("score", score_inputs(kind)))


async def check_errors(_, grpc):
    async with kind.InferenceServerClient(grpc) as client:
        try:
            await client.infer("score", score_inputs(kind, [-1], [4]))
        except InferenceServerException as exc:
            assert (exc.status(), exc.message()) == ("StatusCode.INVALID_ARGUMENT", "amount[0]: must be ≥ 0")
        else:
            raise AssertionError("it was not refused")


if __name__ == "__main__":
    run(globals())
