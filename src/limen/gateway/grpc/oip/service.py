"""The calls of `inference.GRPCInferenceService`: decode, one call of the data plane, encode.

Every method takes the bytes of one message and returns the bytes of one; the engine (de)serialises nothing, so that a message that
cannot be parsed is our error too. Called by the engine that `server` builds.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from time import perf_counter
from typing import Any, Final

import grpc

from limen.contracts.errors import LimenError
from limen.contracts.identity import LOCAL
from limen.gateway.engine.held_bytes import HeldBytes
from limen.gateway.grpc._generated import open_inference_pb2 as pb
from limen.gateway.grpc.access import UNLOGGED, Access
from limen.gateway.grpc.calls import Calls
from limen.gateway.grpc.messages import deadline_of, parse
from limen.gateway.grpc.oip.codec import decode_request, encode_response
from limen.gateway.grpc.oip.large_messages import LARGE_MESSAGE, count_fields
from limen.gateway.grpc.oip.operations import config_call, operation_calls
from limen.gateway.grpc.oip.outlines import Outlines
from limen.gateway.grpc.oip.statistics import statistics_call
from limen.gateway.grpc.oip.streaming import StreamSession
from limen.gateway.grpc.status import Context, Unary, guarded, next_id, refuse, request_id_of, tell_id
from limen.serving.dataplane.call import Call
from limen.serving.dataplane.metadata import TensorMetadata
from limen.serving.dataplane.plane import DataPlane

PROTOCOL: Final = "grpc"
"""What requests of this gateway are counted as."""


class InferenceService:
    """Answers the protocol's calls from a data plane."""

    def __init__(
        self,
        plane: DataPlane,
        calls: Calls,
        max_stream_requests: int,
        access: Access = UNLOGGED,
        held: HeldBytes | None = None,
    ) -> None:
        """Serve from `plane`, counting in `calls`, and messages of streams in `held`, with at most that many requests in flight on one stream; logged in `access`."""
        self._plane = plane
        self._directory = plane.directory
        self._access = access
        self._calls = calls
        self._max_stream_requests = max_stream_requests
        self._held = held or HeldBytes(sys.maxsize)
        self._sessions: set[StreamSession] = set()
        self._outlines = Outlines()

    def handlers(self) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
        """Return the handlers by method name."""
        unary: dict[str, Unary] = {
            "ServerLive": guarded(self._server_live),
            "ServerReady": guarded(self._server_ready),
            "ModelReady": guarded(self._model_ready),
            "ServerMetadata": guarded(self._server_metadata),
            "ModelMetadata": guarded(self._model_metadata),
            "ModelInfer": self.model_infer,
        }
        unary["ModelConfig"] = guarded(config_call(self._directory.model_config))
        if self._plane.operations is not None:
            unary |= {name: guarded(call) for name, call in operation_calls(self._plane.operations).items()}
        if self._directory.has_statistics:
            unary["ModelStatistics"] = guarded(statistics_call(self._directory.statistics))
        handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            name: grpc.unary_unary_rpc_method_handler(method) for name, method in unary.items()
        }
        return {**handlers, "ModelStreamInfer": grpc.stream_stream_rpc_method_handler(self.model_stream_infer)}

    def drain(self) -> None:
        """Read no further requests from open streams; they end once what they asked is answered."""
        for session in self._sessions:
            session.drain()

    async def model_infer(self, data: bytes, context: Context) -> bytes:
        """Answer one request. The caller's cancellation and deadline cancel it wherever it waits."""
        request_id, model = request_id_of(context), ""
        began = perf_counter()
        self._calls.begin()
        try:
            known = self._outlines.recall(data)
            if known is None:
                if len(data) > LARGE_MESSAGE:
                    await count_fields(data)
                message = parse(pb.ModelInferRequest, data)
                request_id, model = request_id or message.id, message.model_name
                known = decode_request(message)
                self._outlines.remember(data, message, *known)
            request, options = known
            model, request.priority = request.model_name, options.priority
            request_id = request_id or request.id or next_id()
            self._calls.check_open()
            deadline = deadline_of(context, options.timeout_s)
            deadline.check()
            unit = request.id or request_id
            visit = self._plane.enter(LOCAL, model, request.model_version, unit, PROTOCOL, deadline, False, began)
            visit.id = request_id
            started = visit.start(request)
            response = await started.answer() if isinstance(started, Call) else started
            answer = encode_response(response, is_typed=options.is_typed)
            tell_id(context, request_id)
            self._access.answered(context, "ModelInfer", model, response.model_version, request_id, began)
            return answer
        except Exception as error:  # noqa: BLE001 - refuse logs what is not ours
            if isinstance(error, LimenError):
                self._plane.finaliser.refused(model, "", PROTOCOL, error)
            called = self._access.failed(context, "ModelInfer", model, request_id, error, began)
            await refuse(context, error, called)
        finally:
            self._calls.end()

    async def model_stream_infer(self, requests: AsyncIterator[bytes], context: Context) -> None:
        """Answer the requests of one stream until the caller stops asking."""
        session = StreamSession(self._plane, context, self._access, self._max_stream_requests, self._held)
        self._sessions.add(session)
        self._calls.begin()
        try:
            self._calls.check_open()
            await session.run(requests)
        except Exception as error:  # noqa: BLE001 - refuse logs what is not ours
            await refuse(context, error)
        finally:
            self._sessions.discard(session)
            self._calls.end()

    async def _server_live(self, data: bytes, _: Context) -> bytes:
        parse(pb.ServerLiveRequest, data)
        return pb.ServerLiveResponse(live=self._directory.is_live()).SerializeToString()

    async def _server_ready(self, data: bytes, _: Context) -> bytes:
        parse(pb.ServerReadyRequest, data)
        is_ready = self._directory.is_ready() and not self._calls.is_leaving
        return pb.ServerReadyResponse(ready=is_ready).SerializeToString()

    async def _model_ready(self, data: bytes, _: Context) -> bytes:
        asked = parse(pb.ModelReadyRequest, data)
        is_ready = self._directory.is_model_ready(asked.name, asked.version) and not self._calls.is_leaving
        return pb.ModelReadyResponse(ready=is_ready).SerializeToString()

    async def _server_metadata(self, data: bytes, _: Context) -> bytes:
        parse(pb.ServerMetadataRequest, data)
        found = self._directory.server_metadata()
        answer = pb.ServerMetadataResponse(name=found.name, version=found.version, extensions=found.extensions)
        return answer.SerializeToString()

    async def _model_metadata(self, data: bytes, _: Context) -> bytes:
        asked = parse(pb.ModelMetadataRequest, data)
        found = self._directory.model_metadata(asked.name, asked.version)
        answer = pb.ModelMetadataResponse(
            name=found.name,
            versions=found.versions,
            platform=found.platform,
            inputs=[_tensor(tensor) for tensor in found.inputs],
            outputs=[_tensor(tensor) for tensor in found.outputs],
            properties=found.properties,
        )
        return answer.SerializeToString()


def _tensor(tensor: TensorMetadata) -> pb.ModelMetadataResponse.TensorMetadata:
    return pb.ModelMetadataResponse.TensorMetadata(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
