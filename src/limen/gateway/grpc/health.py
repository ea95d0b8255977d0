"""The standard gRPC health service: for the server, the protocol's service, and each model by name or typed service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2

from limen.contracts.errors import InvalidArgument, NotFound
from limen.gateway.grpc.calls import Calls
from limen.gateway.grpc.messages import parse
from limen.gateway.grpc.status import Context, guarded, refuse
from limen.serving.dataplane.directory import Directory

SERVICE: Final = "grpc.health.v1.Health"
INFERENCE_SERVICE: Final = "inference.GRPCInferenceService"

_Answer = health_pb2.HealthCheckResponse


class HealthService:
    """Tells readiness as the data plane sees it, and NOT_SERVING to everyone once the server is stopping."""

    def __init__(self, directory: Directory, calls: Calls, poll_s: float, endpoint_of: Callable[[str], str]) -> None:
        """Look at `directory` when asked, when refreshed, and every `poll_s` seconds for those who watch.

        Args:
            directory: knows what is ready.
            calls: knows whether the server is stopping.
            poll_s: seconds between looks.
            endpoint_of: gives the endpoint of a typed service, empty for any other name.
        """
        self._directory = directory
        self._endpoint_of = endpoint_of
        self._calls = calls
        self._poll_s = poll_s
        self._changed = asyncio.Event()

    def handlers(self) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
        """Return the handlers by method name."""
        return {
            "Check": grpc.unary_unary_rpc_method_handler(guarded(self.check)),
            "Watch": grpc.unary_stream_rpc_method_handler(self.watch),
        }

    def refresh(self) -> None:
        """Make everyone who watches look again now; when the calls are closing, for the last time."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def check(self, data: bytes, _: Context) -> bytes:
        """Answer the state of one service."""
        status = self._status(parse(health_pb2.HealthCheckRequest, data).service)
        if status == _Answer.SERVICE_UNKNOWN:
            raise NotFound("no such service or model")
        return _Answer(status=status).SerializeToString()

    async def watch(self, data: bytes, context: Context) -> AsyncIterator[bytes]:
        """Answer the state of one service at once and after every change; an unknown one may appear later."""
        self._calls.begin()
        try:
            service = parse(health_pb2.HealthCheckRequest, data).service
            told: int | None = None
            while True:
                # Taken before looking: a change while we look or send sets this very event.
                changed = self._changed
                status = self._status(service)
                if status != told:
                    yield _Answer(status=status).SerializeToString()
                    told = status
                if self._calls.is_leaving:
                    return
                await _wait(changed, self._poll_s)
        except Exception as error:  # noqa: BLE001 - refuse logs what is not ours
            await refuse(context, error)
        finally:
            self._calls.end()

    def _status(self, service: str) -> int:
        if self._calls.is_leaving:
            return _Answer.NOT_SERVING
        try:
            if service in ("", INFERENCE_SERVICE):
                is_ready = self._directory.is_ready()
            else:
                is_ready = self._directory.is_model_ready(self._endpoint_of(service) or service)
        except (NotFound, InvalidArgument):
            return _Answer.SERVICE_UNKNOWN
        return _Answer.SERVING if is_ready else _Answer.NOT_SERVING


async def _wait(event: asyncio.Event, timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        return
