"""Server reflection, which lets grpcurl and its like call this server without the .proto file."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final, cast

import grpc
from google.protobuf.message import Message
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.reflection import aio

from limen.gateway.grpc._generated._pool import POOL
from limen.gateway.grpc.health import INFERENCE_SERVICE
from limen.gateway.grpc.health import SERVICE as HEALTH_SERVICE
from limen.gateway.grpc.messages import parse
from limen.gateway.grpc.status import Context, refuse

SERVICE: Final = "grpc.reflection.v1alpha.ServerReflection"
SERVICE_V1: Final = "grpc.reflection.v1.ServerReflection"
"""The same messages under a later name, which newer clients ask first. Not listed: the library holds no descriptor of it."""


class ReflectionService:
    """Describes the services of this gateway from the generated descriptor pool."""

    def __init__(self) -> None:
        self._answers = aio.ReflectionServicer([INFERENCE_SERVICE, HEALTH_SERVICE, SERVICE], pool=POOL)

    def handlers(self) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
        """Return the handlers by method name."""
        return {"ServerReflectionInfo": grpc.stream_stream_rpc_method_handler(self.server_reflection_info)}

    async def server_reflection_info(self, requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
        """Answer each question of the stream in turn."""
        try:
            # The published stub says coroutine; it is an async generator.
            answers = cast("AsyncIterator[Message]", self._answers.ServerReflectionInfo(_parsed(requests), context))
            async for answer in answers:
                yield answer.SerializeToString()
        except Exception as error:  # noqa: BLE001 - refuse logs what is not ours
            await refuse(context, error)


async def _parsed(requests: AsyncIterator[bytes]) -> AsyncIterator[reflection_pb2.ServerReflectionRequest]:
    async for data in requests:
        yield parse(reflection_pb2.ServerReflectionRequest, data)
