"""The gRPC listener: one insecure port with inference, typed services, health and reflection on the chosen engine.

Programmed to the grpc.aio interface, which both engines share. Built and started by `app` inside the event loop that answers.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, cast

import grpc
from grpc import aio

from limen.gateway.engine.connection_quota import grpc_connections
from limen.gateway.engine.held_bytes import HeldBytes
from limen.gateway.engine.listeners import SETTLE_S, keep_newcomers_out, sockets_at
from limen.gateway.grpc.access import Access
from limen.gateway.grpc.arrivals import Arrivals
from limen.gateway.grpc.calls import Calls
from limen.gateway.grpc.census import Census
from limen.gateway.grpc.config import GrpcConfig
from limen.gateway.grpc.goaway import Farewell
from limen.gateway.grpc.health import INFERENCE_SERVICE, HealthService
from limen.gateway.grpc.health import SERVICE as HEALTH_SERVICE
from limen.gateway.grpc.oip.service import PROTOCOL, InferenceService
from limen.gateway.grpc.reflection import SERVICE as REFLECTION_SERVICE
from limen.gateway.grpc.reflection import SERVICE_V1 as REFLECTION_SERVICE_V1
from limen.gateway.grpc.reflection import ReflectionService
from limen.gateway.grpc.typed.services import TypedServices
from limen.serving.dataplane.plane import DataPlane
from limen.telemetry.logs import RequestLog

NATIVE: Final = "pygrpc_native.aio"
DEFAULT_CONFIG: Final = GrpcConfig()
LINGER_S: Final = 0.2
"""The native engine closes its connections without waiting for what it still has to send; a moment between the last answer and the
close keeps that answer from being lost."""


LOOK_S: Final = 0.02
"""How often connections are looked at while the server stops."""
STAY_S: Final = 0.5
"""How long a client may take to go elsewhere when it asks nothing."""


class GrpcServer:
    """Serves one data plane over gRPC."""

    def __init__(
        self,
        plane: DataPlane,
        config: GrpcConfig = DEFAULT_CONFIG,
        log: RequestLog | None = None,
        sockets: str = "",
        held: HeldBytes | None = None,
        *,
        shares_port: bool = False,
    ) -> None:
        """Prepare the services; nothing listens yet.

        Args:
            plane: what is served.
            config: the limits.
            log: where calls are logged.
            sockets: where the native engine may make a Unix socket of its own; among temporary files when empty.
            held: counts the bytes of all servers of this process.
            shares_port: whether others may listen on the same port. Otherwise a second server there is noticed.
        """
        access = Access(log, plane.directory.is_known)
        self._config = config
        self._sockets = sockets
        self._shares_port = shares_port
        self._calls = Calls()
        self._plane = plane
        self._arrivals = Arrivals(held or HeldBytes(sys.maxsize))
        self._inference = InferenceService(plane, self._calls, config.max_stream_requests, access, self._arrivals.held)
        self._typed = TypedServices(plane, self._calls, access, self._arrivals)
        self._health = HealthService(plane.directory, self._calls, config.health_poll_s, self._typed.endpoint_of)
        self._server: aio.Server | None = None
        self.census: Census | None = None
        """The connections, once there may be some."""
        self._looking: asyncio.Task[None] | None = None
        self._port = 0
        self.engine = config.engine
        """The engine in use."""

    async def start(self, host: str, port: int) -> int:
        """Listen and return the real port.

        Raises:
            OSError: the address cannot be used.
        """
        self.engine = self._config.engine
        server = self._build()
        self._typed.refresh()
        for service, handlers in self._services().items():
            # As generated code does: the native engine takes the second form, grpcio the first.
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
            server.add_registered_method_handlers(service, handlers)
        # Typed services come and go, and are looked up by call. The native engine's own table is closed once it listens: it
        # answers what there is now by itself, and hands what comes later to the grpcio server behind it.
        server.add_generic_rpc_handlers((self._typed,))
        for service in self._typed.known if self.engine == "native" else ():
            server.add_registered_method_handlers(service, self._typed.handlers(service))
        try:
            bound = server.add_insecure_port(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
        except RuntimeError as error:
            raise OSError(f"cannot listen on {host}:{port}") from error
        with _temporary_files_in(self._sockets):
            await server.start()
        self._server, self._port = server, bound
        self.census = Census(self._config, bound, self._arrivals, closes=self.engine == "native")
        self._looking = asyncio.create_task(self.census.look_always())
        return bound

    async def stop(self, grace_s: float) -> None:
        """Tell NOT_SERVING and send clients away, answer whatever they still ask, and cancel what is left after `grace_s` seconds; idempotent."""
        if self._server is None:
            return
        server, self._server = self._server, None
        if self._looking is not None:
            self._looking.cancel()
        now = asyncio.get_running_loop().time
        until = now() + grace_s
        self._calls.leave()
        self._health.refresh()
        self._inference.drain()
        if grace_s > 0:
            await self._send_away(until)
        self._calls.close()
        self._inference.drain()
        await self._calls.idle(max(0.0, until - now()))
        if self.engine == "native":
            await asyncio.sleep(min(LINGER_S, grace_s))
        await server.stop(max(0.0, until - now()))

    async def _send_away(self, until: float) -> None:
        """Return when the clients have gone elsewhere and nobody waits to be let in.

        One that stays and asks nothing is not waited for. Newcomers are kept out only at the end: until then they are answered here.
        """
        now = asyncio.get_running_loop().time
        farewell = Farewell(self._port)
        last = now() + STAY_S
        while now() < until:
            await self._look(farewell)
            if not farewell.is_known_left or (now() > last and not self._calls.running):
                break
        for listener in sockets_at(self._port, are_listening=True):
            keep_newcomers_out(listener)
        settled, last = now() + SETTLE_S, now() + STAY_S
        while now() < min(until, last) and (farewell.is_newcomer_left or now() < settled):
            await self._look(farewell)

    async def _look(self, farewell: Farewell) -> None:
        """Look who is there and wait a moment; with many connections a look takes its time, and calls are answered meanwhile."""
        begun = time.monotonic()
        farewell.tell()
        await asyncio.sleep(max(LOOK_S, 9 * (time.monotonic() - begun)))

    def refresh(self) -> None:
        """Find out what may be called now, and tell those who watch health."""
        self._typed.refresh()
        self._health.refresh()

    def _services(self) -> dict[str, dict[str, grpc.RpcMethodHandler[Any, Any]]]:
        refused = partial(self._plane.finaliser.refused, "", "", PROTOCOL)
        services = {
            INFERENCE_SERVICE: self._arrivals.wrapped(self._inference.handlers(), refused),
            HEALTH_SERVICE: self._arrivals.wrapped(self._health.handlers()),
        }
        if self._config.has_reflection:
            handlers = self._arrivals.wrapped(ReflectionService(lambda: self._typed.known).handlers())
            services |= {REFLECTION_SERVICE: handlers, REFLECTION_SERVICE_V1: handlers}
        return services

    def _build(self) -> aio.Server:
        options = _options(self._config, shares_port=self._shares_port)
        if self.engine == "grpcio":
            return aio.server(options=options + _connection_options(self._config))
        # The module by its full name: `from pygrpc_native import aio` never returns in 0.5.
        native = importlib.import_module(NATIVE)
        return cast("aio.Server", native.Server(options=options, io_threads=self._config.io_threads))


@contextmanager
def _temporary_files_in(folder: str) -> Iterator[None]:
    """Have temporary files made in a folder: the path of a socket is short, and the usual place may be deep."""
    before = tempfile.tempdir
    tempfile.tempdir = folder or before
    try:
        yield
    finally:
        tempfile.tempdir = before


def _options(config: GrpcConfig, *, shares_port: bool) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", config.max_receive_bytes),
        ("grpc.max_send_message_length", config.max_send_bytes),
        ("grpc.max_metadata_size", config.max_metadata_bytes),
        ("grpc.absolute_max_metadata_size", config.max_metadata_bytes),
        ("grpc.max_concurrent_streams", config.max_concurrent_streams),
        ("grpc.keepalive_time_ms", round(config.keepalive_time_s * 1000)),
        ("grpc.keepalive_timeout_ms", round(config.keepalive_timeout_s * 1000)),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", round(config.min_client_ping_interval_s * 1000)),
        # Always said, because grpcio's default is on and the native engine's is off.
        ("grpc.so_reuseport", int(shares_port)),
    ]


def _connection_options(config: GrpcConfig) -> list[tuple[str, int]]:
    """Return what only grpcio can do about connections; the native engine refuses to start with it."""
    return [
        ("grpc.max_connection_idle_ms", round(config.max_connection_idle_s * 1000)),
        ("grpc.server_handshake_timeout_ms", round(config.handshake_timeout_s * 1000)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.max_allowed_incoming_connections", grpc_connections()),
    ]
