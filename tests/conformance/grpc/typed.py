"""A real data plane behind each engine, and a client that knows its typed services from reflection alone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import json_format
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha import reflection_pb2

from limen.gateway.grpc.config import GrpcConfig
from limen.gateway.grpc.server import GrpcServer
from limen.packaging.archive.package import open_package
from limen.runtime.placement.inline import InlinePlacement
from limen.runtime.versions.manager import VersionManager
from limen.serving.dataplane.plane import DataPlane
from limen.telemetry.metrics.file import SUFFIX
from limen.telemetry.metrics.series import Metrics
from tests.conformance.grpc.plane import Refusal

REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
TIMEOUT_S = 60.0


class TypedServer:
    """A gateway over models that come and go."""

    def __init__(self, config: GrpcConfig, folder: Path) -> None:
        self.metrics = Metrics(folder / f"gateway-0{SUFFIX}")
        self.versions = VersionManager(
            InlinePlacement(trust_code=True), on_change=self._changed, counts=self.metrics.runtime
        )
        self.plane = DataPlane(self.versions, metrics=self.metrics)
        self.grpc = GrpcServer(self.plane, config)

    def _changed(self) -> None:
        self.grpc.refresh()

    async def serve(self, folder: Path, *more: Path, name: str = "") -> None:
        """Have the packages ready as versions 1, 2, … of one endpoint; none takes it away."""
        packages = {str(i): open_package(p, p.parent) for i, p in enumerate([folder, *more], 1)}
        self.versions.set_aspired(name or packages["1"].manifest.contract.name, packages)
        await self.versions.settle()

    async def forget(self, name: str) -> None:
        self.versions.set_aspired(name, {})
        await self.versions.settle()


class TypedClient:
    """What a program does that has no file of ours: asks for descriptors and builds its messages from them."""

    def __init__(self, port: int) -> None:
        self.channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.use_local_subchannel_pool", 1)])

    async def ask(self, **question: str) -> reflection_pb2.ServerReflectionResponse:
        """Ask reflection one question."""
        ask = self.channel.stream_stream(
            REFLECTION,
            reflection_pb2.ServerReflectionRequest.SerializeToString,
            reflection_pb2.ServerReflectionResponse.FromString,
        )
        call = ask(iter([reflection_pb2.ServerReflectionRequest(**question)]), timeout=TIMEOUT_S)
        answers = [answer async for answer in call]
        assert len(answers) == 1
        return answers[0]

    async def services(self) -> list[str]:
        """Return the typed services there are."""
        listed = (await self.ask(list_services="")).list_services_response.service
        return [s.name for s in listed if s.name.startswith("limen.models.")]

    async def service(self, name: str) -> Service:
        """Return a service by its full name."""
        answer = await self.ask(file_containing_symbol=name)
        (data,) = answer.file_descriptor_response.file_descriptor_proto
        return Service(self.channel, name, FileDescriptorProto.FromString(data))

    async def close(self) -> None:
        await self.channel.close()


class Service:
    """One typed service: records in, records out."""

    def __init__(self, channel: grpc.aio.Channel, name: str, file: FileDescriptorProto) -> None:
        self.file = file
        pool = DescriptorPool()
        pool.Add(file)
        self.request, self.response = (
            GetMessageClass(pool.FindMessageTypeByName(f"{file.package}.Predict{kind}"))
            for kind in ("Request", "Response")
        )
        self.predict_bytes: Any = channel.unary_unary(f"/{name}/Predict")
        self.stream_bytes: Any = channel.unary_stream(f"/{name}/PredictStream")

    def message(self, *rows: Any, **rest: Any) -> bytes:
        return json_format.ParseDict({"instances": list(rows), **rest}, self.request()).SerializeToString()

    def read(self, data: bytes) -> dict[str, Any]:
        """Return an answer as JSON has it, zeros included."""
        return json_format.MessageToDict(self.response.FromString(data), always_print_fields_with_no_presence=True)

    async def predict(self, *rows: Any, metadata: Sequence[tuple[str, str]] = (), **rest: Any) -> dict[str, Any]:
        return self.read(await self.predict_bytes(self.message(*rows, **rest), timeout=TIMEOUT_S, metadata=metadata))

    async def parts(self, *rows: Any, **rest: Any) -> AsyncIterator[dict[str, Any]]:
        async for data in self.stream_bytes(self.message(*rows, **rest), timeout=TIMEOUT_S):
            yield self.read(data)

    async def refusal(self, *rows: Any, metadata: Sequence[tuple[str, str]] = (), **rest: Any) -> Refusal:
        """Send a request that must fail and return how it did."""
        return await self.refusal_of(self.message(*rows, **rest), metadata)

    async def refusal_of(self, data: bytes, metadata: Sequence[tuple[str, str]] = ()) -> Refusal:
        try:
            await self.predict_bytes(data, timeout=TIMEOUT_S, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            return Refusal(error)
        raise AssertionError("the request was answered")

    async def outcome(self, data: bytes) -> grpc.StatusCode:
        try:
            await self.predict_bytes(data, timeout=TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            return error.code()
        return grpc.StatusCode.OK


@asynccontextmanager
async def typed_server(engine: str, folder: Path, *packages: Path) -> AsyncIterator[tuple[TypedServer, TypedClient]]:
    """Serve packages on an engine until the block ends."""
    server = TypedServer(GrpcConfig(engine=engine, health_poll_s=0.01), folder)
    for package in packages:
        await server.serve(package)
    port = await server.grpc.start("127.0.0.1", 0)
    client = TypedClient(port)
    try:
        yield server, client
    finally:
        await client.close()
        await server.grpc.stop(0)
        await server.versions.close()
        server.metrics.close()


def with_major(folder: Path, major: int) -> Path:
    """Give a package another major."""
    manifest = folder / "model.yaml"
    manifest.write_text(f"major: {major}\n{manifest.read_text()}")
    return folder
