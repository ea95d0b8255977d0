"""gRPC: the Open Inference Protocol's service, with the values of all tensors raw."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Mapping
from typing import Any, Final

import grpc
import grpc.aio

from limen.client._generated import open_inference_pb2 as pb
from limen.client.forms import Signature, TensorType
from limen.client.oip import wire_of
from limen.client.problems import from_grpc
from limen.client.retries import RETRY_HEADER, Attempt
from limen.client.transport import FALLBACK, Metadata, Question, Reply
from limen.contracts.errors import Internal, InvalidArgument, LimenError, Reason
from limen.contracts.inference import Parameter
from limen.contracts.oip.wire import decode_raw, element_of, encode_raw
from limen.contracts.tensors import Array

_SERVICE: Final = "/inference.GRPCInferenceService/"
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
)
"""The server has limits of its own, and says so; a client's own limit would lose answers that were already made."""


class Rpc:
    """One server over gRPC; a channel reconnects by itself."""

    takes_rows = False
    streams_rows = False

    def __init__(self, target: str, headers: Mapping[str, str], *, is_secure: bool) -> None:
        """Take the address as host:port, and metadata for every call."""
        self._target = target
        self._is_secure = is_secure
        self._headers = tuple((name.lower(), value) for name, value in headers.items())
        self._channel: grpc.aio.Channel | None = None

    async def ask(self, question: Question, attempt: Attempt) -> Reply:
        """Return the answer to a question of tensors."""
        infer = self._open().unary_unary(
            _SERVICE + "ModelInfer",
            request_serializer=pb.ModelInferRequest.SerializeToString,
            response_deserializer=pb.ModelInferResponse.FromString,
        )
        try:
            metadata = self._metadata(attempt, question.request_id)
            answer = await infer(_message(question), timeout=_timeout(attempt), metadata=metadata)
        except grpc.aio.AioRpcError as exc:
            raise _told(exc) from exc
        return _reply(answer, question)

    async def stream(self, question: Question, attempt: Attempt) -> AsyncGenerator[Reply, None]:
        """Yield the parts of an answer; closing this cancels the call."""
        call = self._open().stream_stream(
            _SERVICE + "ModelStreamInfer",
            request_serializer=pb.ModelInferRequest.SerializeToString,
            response_deserializer=pb.ModelStreamInferResponse.FromString,
        )(
            timeout=_timeout(attempt),
            # Errors come as a status, with all that a status tells.
            metadata=(*self._metadata(attempt, question.request_id), ("triton_grpc_error", "true")),
        )
        try:
            await call.write(_message(question))
            await call.done_writing()
            async for part in call:
                if part.error_message:
                    raise Internal(part.error_message)
                if part.infer_response.outputs:
                    yield _reply(part.infer_response, question)
        except grpc.aio.AioRpcError as exc:
            raise _told(exc) from exc
        finally:
            call.cancel()

    async def signature(self, endpoint: str, version: str, request_id: str, attempt: Attempt) -> Signature:
        """Return what goes in and what comes out."""
        describe = self._open().unary_unary(
            _SERVICE + "ModelMetadata",
            request_serializer=pb.ModelMetadataRequest.SerializeToString,
            response_deserializer=pb.ModelMetadataResponse.FromString,
        )
        asked = pb.ModelMetadataRequest(name=endpoint, version=version)
        try:
            found = await describe(asked, timeout=_timeout(attempt), metadata=self._metadata(attempt, request_id))
        except grpc.aio.AioRpcError as exc:
            raise _told(exc) from exc
        return Metadata(_types(found.inputs), _types(found.outputs), dict(found.properties)).signature()

    async def is_ready(self, endpoint: str, version: str, attempt: Attempt) -> bool:
        """Return whether an endpoint answers; the server as a whole when no endpoint is named."""
        channel, metadata = self._open(), self._metadata(attempt)
        try:
            if not endpoint:
                server = channel.unary_unary(
                    _SERVICE + "ServerReady",
                    request_serializer=pb.ServerReadyRequest.SerializeToString,
                    response_deserializer=pb.ServerReadyResponse.FromString,
                )
                return bool((await server(pb.ServerReadyRequest(), timeout=_timeout(attempt), metadata=metadata)).ready)
            model = channel.unary_unary(
                _SERVICE + "ModelReady",
                request_serializer=pb.ModelReadyRequest.SerializeToString,
                response_deserializer=pb.ModelReadyResponse.FromString,
            )
            asked = pb.ModelReadyRequest(name=endpoint, version=version)
            return bool((await model(asked, timeout=_timeout(attempt), metadata=metadata)).ready)
        except grpc.aio.AioRpcError as exc:
            raise _told(exc) from exc

    async def aclose(self) -> None:
        """Close the channel; calls that are still running are cancelled."""
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close()

    def _open(self) -> grpc.aio.Channel:
        if self._channel is None:
            if self._is_secure:
                credentials = grpc.ssl_channel_credentials()
                self._channel = grpc.aio.secure_channel(self._target, credentials, options=_OPTIONS)
            else:
                self._channel = grpc.aio.insecure_channel(self._target, options=_OPTIONS)
        return self._channel

    def _metadata(self, attempt: Attempt, request_id: str = "") -> tuple[tuple[str, str], ...]:
        own = (("x-request-id", request_id),) if request_id else ()
        again = ((RETRY_HEADER, str(attempt.number)),) if attempt.number else ()
        return (*self._headers, *own, *again)


def _timeout(attempt: Attempt) -> float | None:
    return None if math.isinf(attempt.ends_at) else max(attempt.remaining_s(), 0.0)


def _told(exc: grpc.aio.AioRpcError) -> LimenError:
    trailers = [(key, value) for key, value in exc.trailing_metadata() or ()]
    is_ours = any(key == "grpc-status-details-bin" for key, _ in trailers)
    # The library's own texts name addresses and its inside; a server's are made for callers.
    text = (exc.details() or "") if is_ours or exc.code() is not grpc.StatusCode.UNAVAILABLE else _UNREACHABLE
    return from_grpc(exc.code().name, text, trailers)


_UNREACHABLE: Final = "cannot reach the server"


def _message(question: Question) -> pb.ModelInferRequest:
    message = pb.ModelInferRequest(model_name=question.endpoint, model_version=question.version)
    for name, array in (question.tensors or {}).items():
        message.inputs.add(name=name, datatype=wire_of(array), shape=array.shape)
        message.raw_input_contents.append(encode_raw(array))
    for key, value in question.parameters.items():
        _set(message.parameters[key], value)
    for name in question.outputs:
        message.outputs.add(name=name)
    return message


def _set(parameter: pb.InferParameter, value: Parameter) -> None:
    kinds = {bool: "bool_param", int: "int64_param", float: "double_param", str: "string_param"}
    kind = kinds.get(type(value))
    try:
        if kind is None:
            raise TypeError
        setattr(parameter, kind, value)
    except (TypeError, ValueError) as exc:
        text = "must be text, a number of 64 bits, true or false"
        raise InvalidArgument.at("parameters", text, Reason.INVALID_PARAMETER) from exc


def _types(tensors: Any) -> tuple[TensorType, ...]:
    return tuple(TensorType(name=t.name, datatype=t.datatype, shape=tuple(t.shape)) for t in tensors)


def _reply(answer: pb.ModelInferResponse, question: Question) -> Reply:
    try:
        tensors: dict[str, Array] = {
            output.name: decode_raw(element_of(output.datatype, output.name), output.shape[:], raw, output.name)
            for output, raw in zip(answer.outputs, answer.raw_output_contents, strict=True)
        }
    except (InvalidArgument, ValueError) as exc:
        raise Internal("the answer is not an Open Inference Protocol answer") from exc
    return Reply(
        model=answer.model_name,
        version=answer.model_version,
        request_id=answer.id or question.request_id,
        is_fallback=FALLBACK in answer.parameters,
        tensors=tensors,
    )
