"""Whole requests in this process, from bytes to bytes and without sockets: Limen's gateways and the bare handler's.

What is shared by `micro`, which times them, and `profile`, which counts them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import msgspec

from benchmarks import fraud
from benchmarks.bare.grpc import answer
from benchmarks.bare.http import BareConnection
from benchmarks.bare.model import Score, open_model
from benchmarks.loads import PATH, Load
from limen.app import freeze_garbage
from limen.gateway.engine.connection import Connection
from limen.gateway.engine.server import HttpServer
from limen.gateway.grpc._generated import open_inference_pb2 as pb
from limen.gateway.grpc.calls import Calls
from limen.gateway.grpc.oip.service import InferenceService
from limen.gateway.grpc.typed.services import TypedServices
from limen.gateway.http.app import HttpApplication
from limen.packaging.archive.package import open_package
from limen.runtime.placement.inline import InlinePlacement
from limen.runtime.sandbox.allocator import keep_buffers
from limen.runtime.versions.manager import VersionManager
from limen.serving.dataplane.plane import DataPlane
from limen.telemetry.logs import RequestLog
from limen.telemetry.metrics.series import Metrics

Ask = Callable[[], Coroutine[Any, Any, Any]]
"""Sends one request and returns when it is answered."""


class Served(msgspec.Struct):
    """The model behind Limen's gateways and behind the bare handler."""

    versions: VersionManager
    http: HttpServer
    grpc: InferenceService
    typed: Callable[[bytes], Coroutine[Any, Any, bytes]]
    """Asks the model's own gRPC service."""
    score: Score

    @classmethod
    async def start(cls, model: fraud.Fraud) -> Served:
        """Load the model twice, with the memory settings of a worker."""
        keep_buffers()
        metrics = Metrics()
        versions = VersionManager(InlinePlacement(), counts=metrics.runtime)
        versions.set_aspired(fraud.NAME, {"1": open_package(model.package, model.package.parent)})
        await versions.settle()
        plane = DataPlane(versions, metrics=metrics)
        http = HttpServer(HttpApplication(plane, RequestLog()))
        services = TypedServices(plane, Calls())
        services.refresh()
        predict = services.handlers(next(iter(services.known)))["Predict"].unary_unary
        typed = partial(_typed, predict)
        found = cls(versions, http, InferenceService(plane, Calls(), 1), typed, open_model(model.model))
        freeze_garbage()
        return found

    def limen(self, load: Load) -> Ask:
        """Return the way to ask Limen."""
        if load.is_grpc:
            return partial(self.grpc.model_infer, load.body[5:], _CALL)
        return _talking(Connection(self.http.state, _forget, _forget), load)

    def bare(self, load: Load) -> Ask:
        """Return the way to ask the bare handler."""
        if load.is_grpc:
            return partial(_bare_grpc, self.score, load.body[5:])
        return _talking(BareConnection(self.score), load)

    async def stop(self) -> None:
        """Unload the model."""
        await self.http.stop()
        await self.versions.close()


def _talking(connection: asyncio.Protocol, load: Load) -> Ask:
    headers = {"Host": "127.0.0.1", **load.headers, "Content-Length": str(len(load.body))}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    raw = f"POST {PATH} HTTP/1.1\r\n{lines}\r\n".encode() + load.body
    wire = _Wire()
    connection.connection_made(wire)

    async def ask() -> None:
        wire.written = b""
        connection.data_received(raw)
        while not wire.written:  # noqa: ASYNC110  an event would cost more than what is measured
            await asyncio.sleep(0)  # only while the model's thread works

    return ask


def _forget(_: object) -> None:
    """Take no note of a connection."""


async def _bare_grpc(score: Score, message: bytes) -> bytes:
    return answer(score, pb.ModelInferRequest.FromString(message)).SerializeToString()


async def _typed(predict: Any, message: bytes) -> bytes:
    answer: bytes = await predict(message, _CALL)
    return answer


class _Wire(asyncio.Transport):
    """A socket that keeps the last answer."""

    written: bytes = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written = bytes(data)

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        """There is nothing to close."""

    def is_reading(self) -> bool:
        return True

    def resume_reading(self) -> None:
        """Reading never pauses."""


class _Call:
    """A call without deadline or metadata."""

    def time_remaining(self) -> None:
        return None

    def invocation_metadata(self) -> tuple[()]:
        return ()

    def set_trailing_metadata(self, metadata: object) -> None:
        """Send nothing."""


_CALL: Any = _Call()
