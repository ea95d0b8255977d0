"""Triton's asynchronous HTTP client."""

import asyncio

import tritonclient.http.aio as kind
from harness import run
from triton_data import ROWS, echo_inputs, expect_classes, expect_echo, expect_score, score_inputs, tensor
from tritonclient.utils import InferenceServerException


async def check_health_and_metadata(http, _):
    async with kind.InferenceServerClient(http) as client:
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert await client.is_model_ready("score", "1")
        assert not await client.is_model_ready("nothing")
        assert (await client.get_server_metadata())["name"] == "limen"
        assert (await client.get_model_metadata("iris"))["outputs"][0]["shape"] == [-1, 3]


async def check_json_and_binary(http, _):
    async with kind.InferenceServerClient(http) as client:
        for binary in (True, False):
            outputs = [kind.InferRequestedOutput("score", binary_data=binary)]
            expect_score(await client.infer("score", score_inputs(kind, binary_data=binary), outputs=outputs))
        expect_echo(await client.infer("echo", echo_inputs(kind)))


async def check_classification(http, _):
    async with kind.InferenceServerClient(http) as client:
        outputs = [kind.InferRequestedOutput("y", class_count=2)]
        expect_classes(await client.infer("iris", [tensor(kind, "x", ROWS, "FP32")], outputs=outputs))


async def check_compression(http, _):
    async with kind.InferenceServerClient(http) as client:
        for algorithm in ("gzip", "deflate"):
            inputs = score_inputs(kind, [10.0] * 500, [4] * 500)
            result = await client.infer(
                "score",
                inputs,
                request_compression_algorithm=algorithm,
                response_compression_algorithm=algorithm,
            )
            expect_score(result, [6.0] * 500)


async def check_many_at_once(http, _):
    async with kind.InferenceServerClient(http) as client:
        calls = [client.infer("score", score_inputs(kind, [n], [0]), request_id=f"r{n}") for n in range(40)]
        for n, result in enumerate(await asyncio.gather(*calls)):
            expect_score(result, [n / 2])
            assert result.get_response()["id"] == f"r{n}"


async def check_errors(http, _):
    async with kind.InferenceServerClient(http) as client:
        try:
            await client.infer("score", score_inputs(kind, [-1], [4]))
        except InferenceServerException as exc:
            assert "amount[0]: must be ≥ 0" in exc.message()
            assert exc.status() == "400"
        else:
            raise AssertionError("it was not refused")


async def check_management(http, _):
    async with kind.InferenceServerClient(http) as client:
        assert "score" in {entry["name"] for entry in await client.get_model_repository_index()}
        assert (await client.get_log_settings())["log_format"] == "default"
        await client.update_log_settings({"log_warning": True})
        await client.load_model("spare")
        assert await client.is_model_ready("spare")


if __name__ == "__main__":
    run(globals())
