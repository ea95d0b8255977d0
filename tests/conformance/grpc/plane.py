"""A data plane whose models do exactly what a test asks, and a client that speaks plain gRPC to it."""

import asyncio
from collections.abc import AsyncGenerator, Iterable
from typing import Any, Self

import grpc
import numpy as np
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2

from limen.contracts import errors
from limen.contracts.contract import Contract
from limen.contracts.errors import InvalidArgument, LimenError, NotFound, Reason, Unavailable, Unsupported, Violation
from limen.contracts.inference import NO_DEADLINE, Deadline, InferenceRequest, InferenceResponse, StreamPart
from limen.gateway.grpc._generated import open_inference_pb2 as pb
from limen.gateway.grpc._generated.open_inference_pb2_grpc import GRPCInferenceServiceStub
from limen.runtime.versions.manager import VersionManager
from limen.serving.dataplane.call import Call
from limen.serving.dataplane.directory import Directory
from limen.serving.dataplane.metadata import ModelMetadata, ServerMetadata, TensorMetadata
from limen.serving.dataplane.plane import DataPlane
from tests.unit.runtime.fakes import FakePlacement

MODELS = ("broken", "countdown", "echo", "failing", "gated")
ERRORS: dict[str, type[LimenError]] = {
    kind.code.value: kind
    for kind in vars(errors).values()
    if isinstance(kind, type)
    and issubclass(kind, LimenError)
    # The client has kinds of its own below these.
    and not any(below.__module__ == errors.__name__ for below in kind.__subclasses__())
}
"""One error class for each code."""
SECRET = "/home/someone/secret.txt is missing"


class ScriptedCall(Call):
    """An answer that a scripted visit gives when it is awaited."""

    __slots__ = ("_script",)

    def __init__(self, visit: "ScriptedVisit", request: InferenceRequest) -> None:
        self._script = (visit, request)

    async def answer(self) -> InferenceResponse:
        visit, request = self._script
        return await visit.infer(request)


class ScriptedVisit:
    """A request in the scripted plane."""

    def __init__(self, plane: "ScriptedPlane", model: str, request_id: str, deadline: Deadline) -> None:
        self.plane = plane
        self.model = model
        self.id = request_id
        self.deadline = deadline

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def start(self, request: InferenceRequest) -> Call:
        """Say that every answer has to be waited for."""
        return ScriptedCall(self, request)

    async def infer(self, request: InferenceRequest) -> InferenceResponse:
        plane = self.plane
        plane.requests.append(request)
        plane.deadlines.append(self.deadline)
        if self.model == "gated":
            await plane.wait_at_gate()
        elif self.model == "failing":
            code = str(request.parameters["code"])
            raise ERRORS[code]("no", violations=[Violation("inputs[0]", "must be better")], retry_after_s=1.5)
        elif self.model == "broken":
            raise RuntimeError(SECRET)
        elif self.model == "countdown":
            raise Unsupported("this model answers in a stream; use the streaming call")
        elif self.model != "echo":
            raise NotFound("no such model or version")
        names = [output.name for output in request.outputs] or list(request.inputs)
        if not set(names) <= set(request.inputs):
            raise InvalidArgument("there is no such output", reason=Reason.OUTPUT_SET)
        outputs = {name: request.inputs[name] for name in names}
        return InferenceResponse(request.model_name, "7", outputs, request.id, request.parameters)

    async def stream(self, request: InferenceRequest) -> AsyncGenerator[StreamPart, None]:
        if self.model != "countdown":
            yield StreamPart(await self.infer(request), is_final=True)
            return
        self.plane.requests.append(request)
        for value in range(int(request.inputs["n"].flat[0]), 0, -1):
            outputs = {"value": np.array([[value]], np.int32)}
            yield StreamPart(InferenceResponse("countdown", "7", outputs, request.id), is_final=False)
        yield StreamPart(InferenceResponse("countdown", "7", {}, request.id), is_final=True)


class ScriptedDirectory(Directory):
    """Says that there are five models."""

    def __init__(self, plane: "ScriptedPlane") -> None:
        super().__init__(plane.versions)
        self._plane = plane

    def is_ready(self) -> bool:
        return self._plane.ready

    def is_model_ready(self, name: str, version: str = "") -> bool:
        if name not in MODELS or version not in ("", "7"):
            raise NotFound("no such model or version")
        return name not in self._plane.unready

    def is_known(self, called: str) -> bool:
        return called in MODELS

    def models(self) -> tuple[str, ...]:
        return MODELS

    def contract(self, name: str, version: str = "") -> Contract:
        raise Unavailable("these models have no contract, and so no typed services")

    def server_metadata(self) -> ServerMetadata:
        return ServerMetadata("limen", "1.2.3", ("classification", "parameters"))

    def model_metadata(self, name: str, version: str = "") -> ModelMetadata:
        self.is_model_ready(name, version)
        tensor = TensorMetadata("x", "FP32", (-1, 30))
        return ModelMetadata(name, ("7",), "onnx_onnxv1", (tensor,), (tensor,), {"owner": "risk"})


class ScriptedPlane(DataPlane):
    """Five models: echo, failing (with the error asked for), broken (by a bug), gated (until told) and countdown (a stream)."""

    def __init__(self) -> None:
        super().__init__(VersionManager(FakePlacement()))
        self.directory = ScriptedDirectory(self)
        self.requests: list[InferenceRequest] = []
        self.deadlines: list[Deadline] = []
        self.entries: list[str] = []
        """The ids of the requests that came in."""
        self.gate = asyncio.Event()
        self.entered = asyncio.Semaphore(0)
        self.left = asyncio.Semaphore(0)
        self.waiting = 0
        self.peak = 0
        self.ready = True
        self.unready: set[str] = set()

    def enter(self, principal, endpoint, version, request_id, protocol, deadline=NO_DEADLINE, *_, **named) -> Any:
        self.entries.append(request_id)
        return ScriptedVisit(self, endpoint, request_id, deadline)

    async def wait_at_gate(self) -> None:
        self.waiting += 1
        self.peak = max(self.peak, self.waiting)
        self.entered.release()
        try:
            await self.gate.wait()
        finally:
            self.waiting -= 1
            self.left.release()


def _health_request(service: str) -> bytes:
    return health_pb2.HealthCheckRequest(service=service).SerializeToString()


def _health_status(data: bytes) -> int:
    return health_pb2.HealthCheckResponse.FromString(data).status


class Client:
    """One channel to a server, with stubs that take and give messages, and bytes where a message would be in the way."""

    def __init__(self, port: int) -> None:
        options = [
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_metadata_size", 1 << 22),
            ("grpc.use_local_subchannel_pool", 1),
        ]
        self.port = port
        self.channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options)
        self.stub = GRPCInferenceServiceStub(self.channel)
        self.check = self.channel.unary_unary("/grpc.health.v1.Health/Check", _health_request, _health_status)
        self.watch = self.channel.unary_stream("/grpc.health.v1.Health/Watch", _health_request, _health_status)
        self.infer_bytes: Any = self.channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")

    async def outcome(self, data: bytes) -> grpc.StatusCode:
        """Send raw bytes as an inference request and return the status."""
        try:
            await self.infer_bytes(data, timeout=60)
        except grpc.aio.AioRpcError as error:
            return error.code()
        return grpc.StatusCode.OK

    async def refusal(self, request: pb.ModelInferRequest, **options) -> "Refusal":
        """Send a request that must fail and return how it did."""
        try:
            await self.stub.ModelInfer(request, timeout=60, **options)
        except grpc.aio.AioRpcError as error:
            return Refusal(error)
        raise AssertionError("the request was answered")

    async def close(self) -> None:
        await self.channel.close()


class Refusal:
    """A failed call, its details unpacked."""

    def __init__(self, error: grpc.aio.AioRpcError) -> None:
        self.code = error.code()
        self.text = error.details() or ""
        self.trailers = dict(error.trailing_metadata() or ())
        self.status = status_pb2.Status.FromString(self.trailers.get("grpc-status-details-bin", b""))

    @property
    def reason(self) -> str:
        return str(self.detail(error_details_pb2.ErrorInfo()).reason)

    @property
    def paths(self) -> list[str]:
        return [violation.field for violation in self.detail(error_details_pb2.BadRequest()).field_violations]

    def detail(self, into):
        for packed in self.status.details:
            if packed.Unpack(into):
                return into
        raise AssertionError(f"the status carries no {into.DESCRIPTOR.name}")


def raw_request(
    model: str = "echo", request_id: str = "", **tensors: tuple[str, Iterable[int], bytes]
) -> pb.ModelInferRequest:
    """Build a request of raw tensors: name=(datatype, shape, bytes)."""
    request = pb.ModelInferRequest(model_name=model, id=request_id)
    for name, (datatype, shape, data) in (
        tensors or {"x": ("FP32", [1, 2], np.array([1, 2], np.float32).tobytes())}
    ).items():
        request.inputs.add(name=name, datatype=datatype, shape=shape)
        request.raw_input_contents.append(data)
    return request


def typed_request(datatype: str, shape: Iterable[int], model: str = "echo", **contents) -> pb.ModelInferRequest:
    """Build a request of one typed tensor `x`; contents by field name."""
    request = pb.ModelInferRequest(model_name=model)
    tensor = request.inputs.add(name="x", datatype=datatype, shape=shape)
    tensor.contents.CopyFrom(pb.InferTensorContents(**contents))
    return request


def with_parameters(request: pb.ModelInferRequest, **parameters) -> pb.ModelInferRequest:
    """Return the request with parameters set: key=(kind, value)."""
    for key, (kind, value) in parameters.items():
        setattr(request.parameters[key], kind, value)
    return request
