"""The gRPC transport against servers that are not Limen's: what they leave out, and what they say in other ways."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import grpc
import grpc.aio
import numpy as np
import pytest

from limen.client import AsyncClient, RetryPolicy
from limen.client._generated import open_inference_pb2 as pb
from limen.contracts.errors import Internal, InvalidArgument, LimenError, NotFound, Unavailable

X = {"x": np.array([1.0], np.float32)}
Handle = Callable[[bytes, grpc.aio.ServicerContext], Awaitable[bytes]]


def answer(**fields: object) -> bytes:
    tensor = pb.ModelInferResponse.InferOutputTensor(name="y", datatype="BYTES", shape=[1])
    raw = [b"\x01\x00\x00\x00\xff"]
    return pb.ModelInferResponse(
        **{"model_name": "m", "model_version": "2", "outputs": [tensor], "raw_output_contents": raw, **fields}
    ).SerializeToString()


async def metadata(_: bytes, __: grpc.aio.ServicerContext) -> bytes:
    """Describe `y` as a server does that knows no text."""
    tensor = pb.ModelMetadataResponse.TensorMetadata(name="y", datatype="BYTES", shape=[-1])
    return pb.ModelMetadataResponse(name="m", outputs=[tensor]).SerializeToString()


@asynccontextmanager
async def serving(
    handle: Handle, *, streams: bool = False, policy: RetryPolicy | None = None
) -> AsyncIterator[AsyncClient]:
    """Yield a client of a server whose inference call is `handle`."""
    server = grpc.aio.server()

    async def stream(requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
        async for request in requests:
            yield await handle(request, context)

    handlers = {"ModelMetadata": grpc.unary_unary_rpc_method_handler(metadata)}
    if streams:
        handlers["ModelStreamInfer"] = grpc.stream_stream_rpc_method_handler(stream)
    else:
        handlers["ModelInfer"] = grpc.unary_unary_rpc_method_handler(handle)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("inference.GRPCInferenceService", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with AsyncClient(f"grpc://127.0.0.1:{port}", retry=policy or RetryPolicy(attempts=1)) as client:
        yield client
    await server.stop(0)


async def test_a_question_names_its_endpoint_its_id_and_its_retry():
    seen: list[tuple[pb.ModelInferRequest, dict[str, str]]] = []

    async def handle(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        said = {key: str(value) for key, value in context.invocation_metadata()}
        seen.append((pb.ModelInferRequest.FromString(request), said))
        if len(seen) == 1:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "starting")
        return answer()

    async with serving(handle, policy=RetryPolicy(first_wait_s=0.0)) as client:
        given = {
            "parameters": {"a": True, "b": 1, "c": 0.5, "d": "x"},
            "version": 3,
            "request_id": "mine",
            "outputs": ["y"],
        }
        found = await client.predict("m@champion", X, **given)
    first, second = seen
    assert first[0] == second[0]
    message = second[0]
    assert (message.model_name, message.model_version, [o.name for o in message.outputs]) == ("m@champion", "3", ["y"])
    kinds = {key: value.WhichOneof("parameter_choice") for key, value in message.parameters.items()}
    assert kinds == {"a": "bool_param", "b": "int64_param", "c": "double_param", "d": "string_param"}
    assert (first[1].get("x-retry-attempt"), second[1]["x-retry-attempt"]) == (None, "1")
    assert first[1]["x-request-id"] == second[1]["x-request-id"] == found.request_id == "mine"


async def test_bytes_of_a_server_that_knows_no_text_stay_bytes():
    async def handle(_: bytes, __: grpc.aio.ServicerContext) -> bytes:
        return answer(id="theirs")

    async with serving(handle) as client:
        found = await client.predict("m", X)
    assert (found.as_arrays()["y"].tolist(), found.version, found.request_id) == ([b"\xff"], "2", "theirs")


@pytest.mark.parametrize("raw", [[], [b"\x09\x00\x00\x00a"]], ids=["none", "cut"])
async def test_an_answer_that_is_none_is_an_error_of_ours(raw):
    async def handle(_: bytes, __: grpc.aio.ServicerContext) -> bytes:
        return answer(raw_output_contents=raw)

    async with serving(handle) as client:
        with pytest.raises(Internal):
            await client.predict("m", X)


@pytest.mark.parametrize(
    ("code", "kind", "text"),
    [
        (grpc.StatusCode.NOT_FOUND, NotFound, "no such model"),
        (grpc.StatusCode.UNAVAILABLE, Unavailable, "cannot reach the server"),
        (grpc.StatusCode.UNKNOWN, Internal, "no such model"),
    ],
    ids=lambda v: getattr(v, "name", ""),
)
async def test_a_status_without_details_has_its_class(code, kind, text):
    async def handle(_: bytes, context: grpc.aio.ServicerContext) -> bytes:
        await context.abort(code, "no such model")
        raise AssertionError

    async with serving(handle) as client:
        with pytest.raises(LimenError) as found:
            await client.predict("m", X, request_id="mine")
    assert (type(found.value), found.value.message, found.value.request_id) == (kind, text, "mine")


async def test_a_parameter_that_the_protocol_cannot_carry_is_the_callers_mistake():
    async def handle(_: bytes, __: grpc.aio.ServicerContext) -> bytes:
        raise AssertionError

    async with serving(handle) as client:
        for value in (1 << 70, [1]):
            with pytest.raises(InvalidArgument, match="parameters"):
                await client.predict("m", X, parameters={"a": value})


async def test_an_error_inside_a_stream_is_raised():
    async def handle(_: bytes, __: grpc.aio.ServicerContext) -> bytes:
        return pb.ModelStreamInferResponse(error_message="broken").SerializeToString()

    async with serving(handle, streams=True) as client:
        with pytest.raises(Internal, match="broken"):
            await anext(client.stream("m", X))


async def test_a_server_that_is_not_there_cannot_be_reached():
    async def handle(_: bytes, __: grpc.aio.ServicerContext) -> bytes:
        return answer()

    async with serving(handle) as client:
        address = client._transport._target
    async with AsyncClient(f"grpc://{address}", retry=RetryPolicy(attempts=1)) as client:
        with pytest.raises(Unavailable, match="cannot reach"):
            await client.predict("m", X, timeout=20)
