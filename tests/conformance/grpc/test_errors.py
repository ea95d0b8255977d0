"""Every failure has its status and its details, none has a text of ours that was not meant for callers."""

import asyncio
import random

import grpc
import pytest
from google.rpc import error_details_pb2

from limen.contracts.errors import ErrorCode
from limen.gateway.grpc._generated import open_inference_pb2 as pb
from limen.gateway.grpc.status import STATUS
from tests.conformance.grpc.conftest import MAX_RECEIVE
from tests.conformance.grpc.plane import SECRET, raw_request, typed_request, with_parameters

MODEL_INFER = "/inference.GRPCInferenceService/ModelInfer"
HARMLESS = {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND}


@pytest.mark.parametrize("code", ErrorCode)
async def test_every_code_arrives_with_its_details(client, code):
    refusal = await client.refusal(with_parameters(raw_request("failing"), code=("string_param", code.value)))
    assert refusal.code == STATUS[code]
    assert (refusal.status.code, refusal.status.message, refusal.text) == (STATUS[code].value[0], "no", "no")
    assert refusal.paths == ["inputs[0]"]
    assert refusal.detail(error_details_pb2.RetryInfo()).retry_delay.ToMilliseconds() == 1500
    assert refusal.detail(error_details_pb2.RequestInfo()).request_id == refusal.trailers["x-request-id"]


async def test_the_text_of_an_unexpected_error_stays_inside(client, caplog):
    refusal = await client.refusal(raw_request("broken", "b-1"))
    assert (refusal.code.name, refusal.text) == ("INTERNAL", "internal error, request id b-1")
    assert SECRET not in str(refusal.trailers) + str(refusal.status)
    assert "request_id=b-1" in caplog.text


async def test_unary_inference_on_a_streaming_model_is_unimplemented(client):
    assert (await client.refusal(raw_request("countdown"))).code == grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("method", ["ModelReady", "ModelMetadata"])
@pytest.mark.parametrize(("name", "version"), [("nosuch", ""), ("echo", "8"), ("", "")])
async def test_unknown_models_and_versions_are_not_found(client, method, name, version):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await getattr(client.stub, method)(getattr(pb, f"{method}Request")(name=name, version=version))
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("over", [0, 1])
async def test_b48_a_message_over_the_limit_is_resource_exhausted(client, over):
    request = raw_request(x=("UINT8", [MAX_RECEIVE], bytes(MAX_RECEIVE)))
    size = MAX_RECEIVE - (request.ByteSize() - MAX_RECEIVE)
    request = raw_request(x=("UINT8", [size], bytes(size)))
    padding = MAX_RECEIVE + over - request.ByteSize()
    request.inputs[0].name += "x" * padding
    assert request.ByteSize() == MAX_RECEIVE + over
    expected = grpc.StatusCode.RESOURCE_EXHAUSTED if over else grpc.StatusCode.OK
    assert await client.outcome(request.SerializeToString()) == expected


async def test_b48_others_on_the_connection_go_on(client, plane):
    waiting = asyncio.ensure_future(client.stub.ModelInfer(raw_request("gated")))
    await plane.entered.acquire()
    assert await client.outcome(bytes(4 * MAX_RECEIVE)) == grpc.StatusCode.RESOURCE_EXHAUSTED
    plane.gate.set()
    assert (await waiting).model_name == "gated"


async def test_b53_a_compressed_bomb_is_resource_exhausted(client):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.infer_bytes(bytes(48 * MAX_RECEIVE), compression=grpc.Compression.Gzip)
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_compressed_requests_are_answered(client):
    request = raw_request(x=("UINT8", [1000], bytes(1000)))
    answer = await client.stub.ModelInfer(request, compression=grpc.Compression.Gzip)
    assert answer.raw_output_contents[0] == bytes(1000)


@pytest.mark.parametrize("data", [b"\xff", b"\x0a\x05abc", b"\x0a\x02\xff\xfe", b"\x00", b"\x3a\xff\xff\xff\xff\x0f"])
async def test_b49_what_is_no_message_is_an_invalid_argument(client, data):
    assert await client.outcome(data) == grpc.StatusCode.INVALID_ARGUMENT


async def test_b49_random_bytes_are_harmless(client):
    dice = random.Random(49)
    outcomes = [await client.outcome(dice.randbytes(dice.randrange(1, 200))) for _ in range(200)]
    assert set(outcomes) <= HARMLESS


@pytest.mark.parametrize(
    "flips", [pytest.param(1_500, id="1500"), pytest.param(10_000, id="10000", marks=pytest.mark.slow)]
)
async def test_b49_flipped_bytes_are_harmless(client, flips):
    good = [
        with_parameters(raw_request(request_id="id", y=("BYTES", [1], b"\1\0\0\0a")), k=("int64_param", 1)),
        typed_request("INT16", [2], int_contents=[1, 2]),
    ]
    good[0].outputs.add(name="y")
    dice = random.Random(4949)
    for start in range(0, flips, 100):
        flipped = []
        for index in range(start, start + 100):
            data = bytearray(good[index % 2].SerializeToString())
            data[dice.randrange(len(data))] ^= dice.randrange(1, 256)
            flipped.append(bytes(data))
        outcomes = await asyncio.gather(*(client.outcome(data) for data in flipped))
        assert set(outcomes) <= HARMLESS


@pytest.mark.parametrize(
    "path",
    [
        "/inference.GRPCInferenceService/Nope",
        "/inference.GRPCInferenceService/TraceSetting",
        "/inference.GRPCInferenceService/RepositoryIndex",
        "/inference.GRPCInferenceService/RepositoryModelLoad",
        "/inference.GRPCInferenceService/RepositoryModelUnload",
        "/inference.GRPCInferenceService/LogSettings",
        "/inference.GRPCInferenceService/ModelStatistics",
        "/inference.GRPCInferenceService/modelinfer",
        "/INFERENCE.GRPCINFERENCESERVICE/MODELINFER",
        "//inference.GRPCInferenceService/ModelInfer",
        "/inference.GRPCInferenceService/ModelInfer/",
        "/inference.GRPCInferenceService%2FModelInfer",
        "/grpc.channelz.v1.Channelz/GetServers",
    ],
)
async def test_b50_unknown_methods_are_unimplemented(client, plane, path):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.channel.unary_unary(path)(raw_request().SerializeToString(), timeout=60)
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert plane.requests == []


@pytest.mark.parametrize("path", ["inference.GRPCInferenceService/ModelInfer", ""])
async def test_b50_a_path_without_its_slash_reaches_nothing(client, plane, path):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.channel.unary_unary(path)(raw_request().SerializeToString(), timeout=60)
    # grpcio answers; the native engine resets the stream as HTTP/2 demands, which clients report as INTERNAL.
    assert caught.value.code() in {grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.INTERNAL}
    assert plane.requests == []


async def test_b51_a_unary_call_without_a_message_ends(client, plane):
    async def nothing():
        for message in list[bytes]():
            yield message

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.channel.stream_unary(MODEL_INFER)(nothing(), timeout=0.3)
    # The native engine says what is missing; grpcio waits for it until the deadline.
    assert caught.value.code() in {grpc.StatusCode.INTERNAL, grpc.StatusCode.DEADLINE_EXCEEDED}
    assert plane.requests == []


async def test_b51_a_second_message_on_a_unary_call_is_never_answered(client, plane):
    async def two():
        yield raw_request(request_id="first").SerializeToString()
        yield raw_request(request_id="second").SerializeToString()

    answer = await client.channel.stream_unary(MODEL_INFER)(two(), timeout=60)
    assert pb.ModelInferResponse.FromString(answer).id == "first"
    assert [request.id for request in plane.requests] == ["first"]


async def test_b51_a_missing_half_close_ends_with_the_deadline(client, plane):
    sent = asyncio.Event()

    async def one_and_never_done():
        yield raw_request("gated").SerializeToString()
        sent.set()
        await asyncio.Event().wait()

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.channel.stream_unary(MODEL_INFER)(one_and_never_done(), timeout=0.3)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert sent.is_set()
    assert plane.waiting in {0, 1}


@pytest.mark.parametrize("seconds", [1e-9, -1])
async def test_b52_a_deadline_in_the_past_is_exceeded(client, plane, seconds):
    """A client gives such a call up by itself; what the server does with a late one is in the unit tests."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.stub.ModelInfer(raw_request("gated"), timeout=seconds)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED


async def test_b52_a_deadline_of_decades_is_an_hour(client, plane):
    await client.stub.ModelInfer(raw_request(), timeout=1e9)
    assert 3000 < plane.deadlines[0].remaining_s() <= 3600


async def test_a_passed_deadline_frees_the_model(client, plane):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.stub.ModelInfer(raw_request("gated"), timeout=0.2)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    await asyncio.wait_for(plane.left.acquire(), 60)
    assert plane.waiting == 0


async def test_cancelling_frees_the_model(client, plane):
    call = client.stub.ModelInfer(raw_request("gated"))
    await plane.entered.acquire()
    call.cancel()
    await asyncio.wait_for(plane.left.acquire(), 60)
    assert plane.waiting == 0


@pytest.mark.parametrize("size", [30_000, 1 << 20])
async def test_b55_metadata_over_the_limit_is_refused(client, plane, size):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.stub.ModelInfer(raw_request(), metadata=(("k", "v" * size),))
    # grpcio answers RESOURCE_EXHAUSTED. The native engine refuses below gRPC, with HTTP 431 or by closing the connection;
    # what the client's library calls that (UNKNOWN, UNAVAILABLE) is not our answer.
    refused = {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNKNOWN, grpc.StatusCode.UNAVAILABLE}
    assert caught.value.code() in refused
    assert plane.requests == []
