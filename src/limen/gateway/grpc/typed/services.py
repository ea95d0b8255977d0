"""A separate gRPC service for each endpoint, with the contract's named fields: `limen.models.credit.v1.Credit/Predict`.

Services come and go with the models. Which there are is worked out when what may be called changes (`refresh`), and looked up when
a call arrives: decode by the version's own messages, one call of the data plane, encode. The metadata `limen-version` names a version
or an alias; without it the endpoint decides. Called by the engine that `server` builds; `reflection` and `health` ask for the names.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, suppress
from time import perf_counter
from typing import Any, Final, NoReturn

import grpc
import msgspec
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from limen.contracts.contract import Contract
from limen.contracts.errors import InvalidArgument, LimenError, NotFound, Reason, Unsupported
from limen.contracts.identity import LOCAL
from limen.contracts.inference import InferenceRequest
from limen.contracts.names import ALIAS, VERSION
from limen.contracts.proto.descriptor import comments, file_descriptor
from limen.contracts.proto.schema import proto_file, service_name, stem
from limen.gateway.engine.held_bytes import HeldBytes
from limen.gateway.grpc.access import UNLOGGED, Access
from limen.gateway.grpc.arrivals import Arrivals
from limen.gateway.grpc.calls import Calls
from limen.gateway.grpc.messages import deadline_of
from limen.gateway.grpc.status import Context, next_id, refuse, request_id_of, tell_id
from limen.gateway.grpc.typed.codec import TypedCodec
from limen.runtime.versions.handle import VersionHandle
from limen.serving.dataplane.call import Call
from limen.serving.dataplane.plane import DataPlane
from limen.serving.dataplane.visit import Visit

PROTOCOL: Final = "typed"
"""What requests of these services are counted as."""
VERSION_KEY: Final = "limen-version"
"""The metadata that names a version by its number or by an alias."""
_NAME: Final = re.compile(r"limen\.models\.(\w+)\.v[1-9][0-9]*\.(\w+)", re.ASCII)
MAX_CODECS: Final = 1024
"""Versions whose messages are kept ready; far more than a gateway holds."""

_log = logging.getLogger(__name__)


class TypedService(msgspec.Struct, frozen=True):
    """The service of one endpoint at one major."""

    name: str
    """In full, as callers write it."""
    endpoint: str
    contract: Contract
    file: FileDescriptorProto
    """What reflection tells of it, with the contract's words."""


class TypedServices(grpc.GenericRpcHandler):
    """The typed services of one server, used in one event loop."""

    def __init__(
        self, plane: DataPlane, calls: Calls, access: Access = UNLOGGED, arrivals: Arrivals | None = None
    ) -> None:
        """Serve from `plane`, counting in `calls` and `arrivals` and logged in `access`; `refresh` finds what there is."""
        self._arrivals = arrivals or Arrivals(HeldBytes(sys.maxsize))
        self._access = access
        self._plane = plane
        self._directory = plane.directory
        self._calls = calls
        self._codecs: dict[tuple[str, str], TypedCodec] = {}
        self._hidden: frozenset[str] = frozenset()
        self.known: Mapping[str, TypedService] = {}
        """The services there are now, by name. Another object after every change."""

    def refresh(self) -> None:
        """Find the services again. An endpoint that cannot answer just now keeps the one it had."""
        found: dict[str, TypedService] = {}
        hidden: dict[str, str] = {}
        before = {service.endpoint: service for service in self.known.values()}
        for endpoint in sorted(self._directory.models()):
            service = before.get(endpoint)
            with suppress(LimenError):
                contract = self._directory.contract(endpoint)
                # Describing a service takes a millisecond, and something changes often where there are many.
                if service is None or service.contract is not contract:
                    service = _service(endpoint, contract)
            if service is None:
                continue
            if service.name in found:
                hidden[endpoint] = found[service.name].endpoint
                continue
            found[service.name] = service
        for endpoint in hidden.keys() - self._hidden:
            _log.warning(
                "%s has no typed service, because its name clashes with that of %s", endpoint, hidden[endpoint]
            )
        self._hidden = frozenset(hidden)
        if found != self.known:
            self.known = found

    def endpoint_of(self, service: str) -> str:
        """Return the endpoint that a service belongs to, also one that has not been ready yet; empty when there is none."""
        known = self.known.get(service)
        if known is not None:
            return known.endpoint
        named = _NAME.fullmatch(service)
        served = {known.endpoint for known in self.known.values()}
        return next(
            (
                e
                for e in self._directory.models()
                if named and e not in served and (stem(e), service_name(e)) == named.groups()
            ),
            "",
        )

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Return the handler of a method, or None for one that is not ours: the way engines ask a generic handler."""
        service, _, method = handler_call_details.method[1:].partition("/")
        return self.handlers(service).get(method) if self.endpoint_of(service) else None

    def handlers(self, service: str) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
        """Return the handlers of a service by method name; they look for its endpoint with every call."""

        async def predict(data: bytes, context: Context) -> bytes:
            return await self._predict(service, data, context)

        async def predict_stream(data: bytes, context: Context) -> AsyncIterator[bytes]:
            async with aclosing(self._predict_stream(service, data, context)) as parts:
                async for part in parts:
                    yield part

        handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "Predict": grpc.unary_unary_rpc_method_handler(predict),
            "PredictStream": grpc.unary_stream_rpc_method_handler(predict_stream),
        }
        return self._arrivals.wrapped(handlers, lambda error: self._plane.finaliser.refused("", "", PROTOCOL, error))

    async def _predict(self, service: str, data: bytes, context: Context) -> bytes:
        call = _TypedCall(service, self.endpoint_of(service), context)
        self._calls.begin()
        try:
            with self._enter(call) as visit:
                started = visit.start(self._read(call, visit, data))
            response = await started.answer() if isinstance(started, Call) else started
            answer = self._codec_of(call, visit).encode(response, call.request_id)
            tell_id(context, visit.id)
            self._access.answered(context, "Predict", call.endpoint, response.model_version, visit.id, call.began)
            return answer
        except Exception as error:  # noqa: BLE001 - refuse logs what is not ours
            call.request_id = self._access.failed(context, "Predict", call.endpoint, call.request_id, error, call.began)
            await self._refuse(call, error)
        finally:
            self._calls.end()

    async def _predict_stream(self, service: str, data: bytes, context: Context) -> AsyncGenerator[bytes, None]:
        call = _TypedCall(service, self.endpoint_of(service), context)
        self._calls.begin()
        try:
            with self._enter(call) as visit:
                request = self._read(call, visit, data)
                async with aclosing(visit.stream(request)) as parts:
                    async for part in parts:
                        # The end of the call says what an empty last part would.
                        if part.response.outputs:
                            yield self._codec_of(call, visit).encode(part.response, call.request_id)
            tell_id(context, visit.id)
            version = visit.handle.version
            self._access.answered(context, "PredictStream", call.endpoint, version, visit.id, call.began)
        except Exception as error:  # noqa: BLE001 - refuse logs what is not ours
            call.request_id = self._access.failed(
                context, "PredictStream", call.endpoint, call.request_id, error, call.began
            )
            await self._refuse(call, error)
        finally:
            self._calls.end()

    def _enter(self, call: _TypedCall) -> Visit:
        """Return the visit of a call; its message can be read only then."""
        self._calls.check_open()
        if not call.endpoint:
            raise Unsupported("no such service")
        model, version = call.target()
        return self._plane.enter(LOCAL, model, version, call.request_id, PROTOCOL, started_at=call.began)

    def _read(self, call: _TypedCall, visit: Visit, data: bytes) -> InferenceRequest:
        """Return the request of a call, and note in the visit what it says of itself."""
        codec, handle = self._codec_of(call, visit), visit.handle
        opened = codec.open(data)
        call.request_id = opened.id or call.request_id
        visit.id = call.given_id or call.request_id
        typed = codec.decode(opened, handle.check)
        visit.deadline = deadline_of(call.context, typed.options.timeout_s)
        visit.deadline.check()
        return InferenceRequest(
            *(handle.model, typed.inputs, "", call.request_id, typed.parameters),
            rows=typed.rows,
            checked=handle.check,
            priority=typed.options.priority,
        )

    async def _refuse(self, call: _TypedCall, error: Exception) -> NoReturn:
        if isinstance(error, LimenError):
            self._plane.finaliser.refused(call.endpoint, "", PROTOCOL, error)
        await refuse(call.context, error, call.request_id)

    def _check_major(self, service: str, handle: VersionHandle) -> None:
        known = self.known.get(service)
        if known is None or known.contract.major != handle.contract.major:
            raise NotFound("this version of the model has a different major and therefore a separate service")

    def _codec_of(self, call: _TypedCall, visit: Visit) -> TypedCodec:
        """Return what reads and writes the messages of the version that answers; after a fallback, that is another one."""
        handle, endpoint = visit.handle, call.endpoint
        self._check_major(call.service, handle)
        codec = self._codecs.get((endpoint, handle.version))
        if codec is None or codec.contract is not handle.contract:
            if len(self._codecs) >= MAX_CODECS:
                self._codecs.clear()
            codec = self._codecs[endpoint, handle.version] = TypedCodec(handle.contract, endpoint)
        return codec


class _TypedCall:
    """What is known of one call, also when it fails."""

    __slots__ = ("began", "context", "endpoint", "given_id", "request_id", "service")

    def __init__(self, service: str, endpoint: str, context: Context) -> None:
        self.service = service
        self.began = perf_counter()
        self.endpoint = endpoint
        self.context = context
        self.given_id = request_id_of(context)
        self.request_id = self.given_id or next_id()

    def target(self) -> tuple[str, str]:
        """Return the model name and the version that the call asks for.

        Raises:
            InvalidArgument: `limen-version` is neither a number nor an alias.
        """
        for key, value in self.context.invocation_metadata() or ():
            if key == VERSION_KEY:
                if isinstance(value, str) and VERSION.fullmatch(value):
                    return self.endpoint, value
                if isinstance(value, str) and ALIAS.fullmatch(value):
                    return f"{self.endpoint}@{value}", ""
                raise InvalidArgument.at(
                    VERSION_KEY, "must be the number of a version or an alias", Reason.INVALID_VERSION
                )
        return self.endpoint, ""


def _service(endpoint: str, contract: Contract) -> TypedService:
    schema = proto_file(contract, endpoint)
    file = file_descriptor(contract, endpoint)
    file.source_code_info.CopyFrom(comments(schema))
    return TypedService(schema.full_service, endpoint, contract, file)
