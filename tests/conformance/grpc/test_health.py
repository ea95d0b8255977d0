"""The standard health service, and server reflection."""

import asyncio
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from limen.gateway.grpc.config import GrpcConfig
from limen.gateway.grpc.server import GrpcServer
from tests.conformance.grpc.plane import Client

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
SERVICE = "inference.GRPCInferenceService"
REFLECTION = "grpc.reflection.v1alpha.ServerReflection"


@pytest.mark.parametrize("service", ["", SERVICE, "echo"])
async def test_check_follows_readiness(client, plane, service):
    assert await client.check(service) == SERVING
    plane.ready, plane.unready = False, {"echo"}
    assert await client.check(service) == NOT_SERVING


@pytest.mark.parametrize("service", ["nosuch", "x" * 10_000, "grpc.health.v1.Health", "\r\n"])
async def test_check_of_an_unknown_service_is_not_found(client, service):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.check(service)
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


async def test_watch_tells_every_change(client, plane):
    watch = client.watch("echo")
    assert await watch.read() == SERVING
    plane.unready = {"echo"}
    assert await watch.read() == NOT_SERVING
    plane.unready = set()
    assert await watch.read() == SERVING
    watch.cancel()


async def test_watch_of_an_unknown_service_waits_for_it(client):
    watch = client.watch("nosuch")
    assert await watch.read() == SERVICE_UNKNOWN
    watch.cancel()


@pytest.mark.parametrize("engine", ["native", "grpcio"])
async def test_watch_hears_at_once_when_told_to_look_again(plane, engine):
    server = GrpcServer(plane, GrpcConfig(engine=engine, health_poll_s=3600))
    client = Client(await server.start("127.0.0.1", 0))
    watch = client.watch("")
    assert await watch.read() == SERVING
    plane.ready = False
    server.refresh()
    assert await asyncio.wait_for(watch.read(), 60) == NOT_SERVING
    watch.cancel()
    await client.close()
    await server.stop(0)


async def test_watch_ends_with_not_serving_when_the_server_stops(server, client_to_stop):
    watch = client_to_stop.watch("")
    assert await watch.read() == SERVING
    await server[0].stop(20)
    assert await watch.read() == NOT_SERVING
    assert await watch.read() is grpc.aio.EOF


async def test_check_of_what_is_no_message_is_an_invalid_argument(client):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.channel.unary_unary("/grpc.health.v1.Health/Check")(b"\xff")
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


async def test_watch_of_what_is_no_message_is_an_invalid_argument(client):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.channel.unary_stream("/grpc.health.v1.Health/Watch")(b"\xff").read()
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def reflection(client: Client, service: str = REFLECTION) -> Any:
    """Return the reflection call, on bytes."""
    return client.channel.stream_stream(f"/{service}/ServerReflectionInfo")


async def test_reflection_describes_the_protocol(client):
    def look_up():
        with grpc.insecure_channel(f"127.0.0.1:{client.port}") as channel:
            database = ProtoReflectionDescriptorDatabase(channel)
            pool = DescriptorPool(database)
            service = pool.FindServiceByName(SERVICE)
            request = pool.FindMessageTypeByName("inference.ModelInferRequest")
            health = pool.FindServiceByName("grpc.health.v1.Health")
            return (
                set(database.get_services()),
                [method.name for method in service.methods],
                {field.name: field.number for field in request.fields},
                [method.name for method in health.methods],
            )

    services, methods, fields, health = await asyncio.to_thread(look_up)
    assert services == {SERVICE, "grpc.health.v1.Health", REFLECTION}
    assert methods == [
        "ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelInfer", "ModelStreamInfer",
        "ModelStatistics", "ModelConfig", "RepositoryIndex", "RepositoryModelLoad", "RepositoryModelUnload", "LogSettings",
    ]  # fmt: skip
    assert fields == {
        "model_name": 1, "model_version": 2, "id": 3, "parameters": 4, "inputs": 5, "outputs": 6, "raw_input_contents": 7,
    }  # fmt: skip
    assert {"Check", "Watch"} <= set(health)


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_reflection_answers_under_both_names(client, version):
    question = reflection_pb2.ServerReflectionRequest(file_containing_symbol="inference.ModelInferResponse")
    call = reflection(client, f"grpc.reflection.{version}.ServerReflection")
    answers = [data async for data in call(iter([question.SerializeToString()]))]
    parsed = reflection_pb2.ServerReflectionResponse.FromString(answers[0])
    assert parsed.WhichOneof("message_response") == "file_descriptor_response"


@pytest.mark.parametrize(
    ("question", "code"),
    [
        ({"file_containing_symbol": "no.Such"}, grpc.StatusCode.NOT_FOUND),
        ({"file_by_filename": "../../etc/passwd"}, grpc.StatusCode.NOT_FOUND),
        (
            {"file_containing_extension": {"containing_type": "no.Such", "extension_number": 1}},
            grpc.StatusCode.NOT_FOUND,
        ),
        ({}, grpc.StatusCode.INVALID_ARGUMENT),
    ],
)
async def test_reflection_says_what_it_does_not_know(client, question, code):
    data = reflection_pb2.ServerReflectionRequest(**question).SerializeToString()
    call = reflection(client)
    answers = [answer async for answer in call(iter([data]))]
    assert reflection_pb2.ServerReflectionResponse.FromString(answers[0]).error_response.error_code == code.value[0]


async def test_what_is_no_reflection_request_is_an_invalid_argument(client):
    call = reflection(client)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        [answer async for answer in call(iter([b"\xff"]))]
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("engine", ["native", "grpcio"])
async def test_b56_reflection_can_be_withheld(plane, engine):
    server = GrpcServer(plane, GrpcConfig(engine=engine, has_reflection=False))
    client = Client(await server.start("127.0.0.1", 0))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await reflection(client)(iter([b""])).read()
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
    await client.close()
    await server.stop(0)
