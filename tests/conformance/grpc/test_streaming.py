"""ModelStreamInfer: several requests on one stream, parts, ends, errors and limits."""

import asyncio

import grpc
import numpy as np
import pytest

from limen.gateway.grpc._generated import open_inference_pb2 as pb
from tests.conformance.grpc.plane import raw_request, typed_request, with_parameters

FINAL = "triton_final_response"


def countdown(start: int, request_id: str = "c") -> pb.ModelInferRequest:
    return raw_request("countdown", request_id, n=("INT32", [1, 1], np.array([start], np.int32).tobytes()))


async def ask(client, *requests, **options) -> list[pb.ModelStreamInferResponse]:
    """Send all requests, close the sending side and return every answer."""
    return [answer async for answer in client.stub.ModelStreamInfer(iter(requests), timeout=60, **options)]


def shown(answers) -> list[tuple[str, int | None, bool]]:
    """Return id, value and final flag of each answer."""
    found = []
    for answer in answers:
        response = answer.infer_response
        value = np.frombuffer(response.raw_output_contents[0], np.int32)[0] if response.raw_output_contents else None
        found.append((response.id, value, response.parameters[FINAL].bool_param))
    return found


async def test_a_streaming_model_answers_in_parts(client):
    answers = await ask(client, countdown(3))
    assert shown(answers) == [("c", 3, False), ("c", 2, False), ("c", 1, False)]
    assert [a.error_message for a in answers] == ["", "", ""]
    assert answers[0].infer_response.outputs[0].name == "value"


async def test_the_empty_end_is_sent_to_those_who_ask_for_it(client):
    request = with_parameters(countdown(1), triton_enable_empty_final_response=("bool_param", True))
    assert shown(await ask(client, request)) == [("c", 1, False), ("c", None, True)]


async def test_a_unary_model_answers_once_and_finally(client):
    request = with_parameters(raw_request(request_id="u"), triton_enable_empty_final_response=("bool_param", True))
    answers = await ask(client, request)
    assert [(a.infer_response.id, a.infer_response.parameters[FINAL].bool_param) for a in answers] == [("u", True)]


async def test_a_typed_request_is_answered_typed(client):
    answers = await ask(client, typed_request("FP32", [2], fp32_contents=[1, 2]))
    assert list(answers[0].infer_response.outputs[0].contents.fp32_contents) == [1, 2]


async def test_a_stream_without_requests_ends(client):
    assert await ask(client) == []


async def test_single_answers_come_in_the_order_of_their_requests(client, plane):
    call = client.stub.ModelStreamInfer()
    await call.write(raw_request("gated", "slow"))
    await call.write(raw_request("echo", "quick"))
    await call.write(raw_request("nosuch", "wrong"))
    await plane.entered.acquire()
    await client.stub.ModelInfer(raw_request("echo"))  # a round trip in which the later ones could have been answered
    plane.gate.set()
    await call.done_writing()
    assert [a.infer_response.id async for a in call] == ["slow", "quick", "wrong"]


async def test_a_request_that_ends_the_stream_with_its_error_waits_for_the_answers_before(client, plane):
    call = client.stub.ModelStreamInfer(metadata=(("triton_grpc_error", "true"),), timeout=60)
    await call.write(raw_request("gated", "slow"))
    await call.write(raw_request("nosuch", "wrong"))
    await plane.entered.acquire()
    await client.stub.ModelInfer(raw_request("echo"))
    plane.gate.set()
    assert (await call.read()).infer_response.id == "slow"
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call.read()
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_model_that_answers_in_parts_overtakes_a_single_answer(client, plane):
    call = client.stub.ModelStreamInfer()
    await call.write(raw_request("gated", "slow"))
    await call.write(countdown(2, "parts"))
    await call.write(raw_request("echo", "behind"))
    early = [(await call.read()).infer_response.id for _ in range(2)]
    plane.gate.set()
    await call.done_writing()
    late = [(await call.read()).infer_response.id for _ in range(2)]
    assert await call.read() is grpc.aio.EOF
    assert (early, late) == (["parts", "parts"], ["slow", "behind"])


async def test_only_so_many_requests_of_one_stream_are_in_flight(client, plane, config):
    call = client.stub.ModelStreamInfer()
    for index in range(10):
        await call.write(raw_request("gated", f"g{index}"))
    for _ in range(config.max_stream_requests):
        await plane.entered.acquire()
    await client.stub.ServerLive(pb.ServerLiveRequest())  # a round trip in which a fifth could have started
    assert plane.waiting == config.max_stream_requests
    plane.gate.set()
    await call.done_writing()
    assert sorted([answer.infer_response.id async for answer in call]) == [f"g{index}" for index in range(10)]
    assert plane.peak == config.max_stream_requests


async def test_errors_come_inside_the_stream_and_leave_it_open(client):
    wrong = raw_request(request_id="w", x=("FP32", [2], b""))
    answers = await ask(
        client, wrong, raw_request("nosuch", "n"), raw_request("broken", "b"), raw_request(request_id="ok")
    )
    texts = {a.infer_response.id: a.error_message for a in answers}
    assert texts == {
        "w": "inputs[0]: 8 bytes are needed for this shape and datatype, 0 were sent",
        "n": "no such model or version",
        "b": "internal error, request id b",
        "ok": "",
    }
    assert all(a.infer_response.parameters[FINAL].bool_param for a in answers)


async def test_what_is_no_message_is_an_error_inside_the_stream(client):
    call = client.channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")(
        iter([b"\xff", raw_request(request_id="ok").SerializeToString()]), timeout=60
    )
    answers = [pb.ModelStreamInferResponse.FromString(data) async for data in call]
    by_id = {a.infer_response.id: a.error_message for a in answers}
    assert by_id == {"": "the message is not a valid ModelInferRequest", "ok": ""}


async def test_an_id_that_breaks_the_rules_is_not_sent_back(client):
    answers = await ask(client, raw_request(request_id="a b"))
    assert [(a.infer_response.id, a.error_message.partition(":")[0]) for a in answers] == [("", "id")]


async def test_errors_end_the_stream_as_a_status_when_the_caller_wants_that(client):
    call = client.stub.ModelStreamInfer(metadata=(("triton_grpc_error", "true"),), timeout=60)
    await call.write(raw_request(request_id="ok"))
    assert (await call.read()).infer_response.id == "ok"
    await call.write(raw_request("nosuch"))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert (caught.value.code(), caught.value.details()) == (
        grpc.StatusCode.NOT_FOUND,
        "no such model or version",
    )


async def test_a_bug_ends_the_stream_as_internal_when_the_caller_wants_a_status(client):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ask(client, raw_request("broken"), metadata=(("triton_grpc_error", "true"),))
    assert caught.value.code() == grpc.StatusCode.INTERNAL
    assert (caught.value.details() or "").startswith("internal error, request id")


@pytest.mark.parametrize("how", ["cancel", "deadline"])
async def test_the_end_of_a_stream_frees_every_model(client, plane, how):
    call = client.stub.ModelStreamInfer(timeout=60 if how == "cancel" else 0.5)
    await call.write(raw_request("gated", "1"))
    await call.write(raw_request("gated", "2"))
    await plane.entered.acquire()
    await plane.entered.acquire()
    if how == "cancel":
        call.cancel()
    async with asyncio.timeout(60):
        await plane.left.acquire()
        await plane.left.acquire()
    assert plane.waiting == 0


async def test_a_message_over_the_limit_ends_the_stream(client):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ask(client, raw_request(x=("UINT8", [1 << 21], bytes(1 << 21))))
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_streams_do_not_mix_their_answers(client):
    async def one(number: int) -> bool:
        requests = [countdown(2 + number % 3, f"{number}-{i}") for i in range(3)]
        answers = shown(await ask(client, *requests))
        expected = [(f"{number}-{i}", value, False) for i in range(3) for value in range(2 + number % 3, 0, -1)]
        return sorted(answers) == sorted(expected)

    assert await asyncio.gather(*(one(number) for number in range(20))) == [True] * 20
