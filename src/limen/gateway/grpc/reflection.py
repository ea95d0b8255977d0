"""Server reflection, which lets tools such as grpcurl call this server without the .proto file."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any, Final, cast

import grpc
from google.protobuf import duration_pb2
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto
from google.rpc import error_details_pb2
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.reflection import aio

from limen.gateway.grpc._generated._pool import POOL
from limen.gateway.grpc.health import INFERENCE_SERVICE
from limen.gateway.grpc.health import SERVICE as HEALTH_SERVICE
from limen.gateway.grpc.messages import parse
from limen.gateway.grpc.status import Context, refuse
from limen.gateway.grpc.typed.services import TypedService

SERVICE: Final = "grpc.reflection.v1alpha.ServerReflection"
SERVICE_V1: Final = "grpc.reflection.v1.ServerReflection"
"""The same messages under a later name, which newer clients ask first. Not listed: the library holds no descriptor of it."""
_FIXED: Final = (INFERENCE_SERVICE, HEALTH_SERVICE, SERVICE)
_DETAILS: Final = (error_details_pb2, duration_pb2)
"""What errors carry, for clients that look the types of the details up."""

Question = reflection_pb2.ServerReflectionRequest
Answer = reflection_pb2.ServerReflectionResponse


class ReflectionService:
    """Describes the fixed services from the generated descriptor pool, and typed ones as they are at the moment.

    The typed ones are in no pool: a pool cannot forget a file, and keeps none of its comments.
    """

    def __init__(self, typed: Callable[[], Mapping[str, TypedService]]) -> None:
        """Ask `typed` for the typed services by name; it gives another mapping after every change."""
        self._fixed = aio.ReflectionServicer(_FIXED, pool=POOL)
        self._typed = typed
        self._seen: Mapping[str, TypedService] = {}
        self._details = _by_symbol(FileDescriptorProto.FromString(m.DESCRIPTOR.serialized_pb) for m in _DETAILS)
        self._files = self._details

    def handlers(self) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
        """Return the handlers by method name."""
        return {"ServerReflectionInfo": grpc.stream_stream_rpc_method_handler(self.server_reflection_info)}

    async def server_reflection_info(self, requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
        """Answer each question of the stream in turn."""
        try:
            async for data in requests:
                question = parse(Question, data)
                answer = self._typed_answer(question)
                if answer is not None:
                    yield answer.SerializeToString()
                    continue
                # The published stub says coroutine; it is an async generator.
                answers = cast("AsyncIterator[Answer]", self._fixed.ServerReflectionInfo(_one(question), context))
                async for answer in answers:
                    yield answer.SerializeToString()
        except Exception as error:  # noqa: BLE001 - refuse logs what is not ours
            await refuse(context, error)

    def _typed_answer(self, question: Question) -> Answer | None:
        """Return the answer to a question about the typed services, or None for any other."""
        known = self._typed()
        if known is not self._seen:
            self._seen, self._files = known, self._details | _by_symbol(s.file for s in known.values())
        answer = Answer(valid_host=question.host, original_request=question)
        kind = question.WhichOneof("message_request")
        if kind == "list_services":
            for name in sorted((*_FIXED, *known)):
                answer.list_services_response.service.add(name=name)
            return answer
        if kind not in ("file_containing_symbol", "file_by_filename"):
            return None
        file = self._files.get(getattr(question, kind))
        if file is None:
            return None
        answer.file_descriptor_response.file_descriptor_proto.append(file)
        return answer


def _by_symbol(files: Iterable[FileDescriptorProto]) -> dict[str, bytes]:
    """Return serialised files by their own name and by the full name of everything in them."""
    found: dict[str, bytes] = {}
    for file in files:
        data = file.SerializeToString()
        names = [file.name]
        for service in file.service:
            names += [
                f"{file.package}.{service.name}",
                *(f"{file.package}.{service.name}.{m.name}" for m in service.method),
            ]
        for message in file.message_type:
            names += _symbols(message, file.package)
        found.update(dict.fromkeys(names, data))
    return found


def _symbols(message: DescriptorProto, scope: str) -> list[str]:
    name = f"{scope}.{message.name}"
    parts = [part.name for parts in (message.field, message.oneof_decl) for part in parts]
    nested = [symbol for inner in message.nested_type for symbol in _symbols(inner, name)]
    return [name, *(f"{name}.{part}" for part in parts), *nested]


async def _one(question: Question) -> AsyncIterator[Question]:
    yield question
