"""Settings of the gRPC gateway; `limen.settings` composes them with those of the other packages."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from limen.contracts.bounds import Count, Seconds

Engine = Literal["grpcio", "native"]
MessageBytes = Annotated[int, msgspec.Meta(ge=1 << 10, le=(1 << 31) - 1)]
"""Both engines count the bytes of a message in 32 bits."""


class GrpcConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How the gRPC listener behaves."""

    engine: Engine = "grpcio"
    """`grpcio` refuses oversized messages while reading and unpacking them. `native` answers from Rust at about a fifth of the
    CPU, but holds a whole unpacked message in memory before it can check the size: for trusted callers."""
    max_receive_bytes: MessageBytes = 64 << 20
    """Largest request message, unpacked. As Triton's REST limit; gRPC's own 4 MiB is too small for images."""
    max_send_bytes: MessageBytes = 256 << 20
    """Largest answer; protects clients and the server's memory from models with huge outputs."""
    max_metadata_bytes: MessageBytes = 16 << 10
    """Largest request metadata. Real clients send well under 4 KiB; a long token still fits."""
    max_concurrent_streams: Count = 1024
    """Calls in flight on one connection; more wait at the client."""
    max_stream_requests: Count = 16
    """Requests in flight on one ModelStreamInfer call; further ones are not read until one is answered."""
    keepalive_time_s: Seconds = 60.0
    """Idle time before a connection with calls is pinged, to detect dead peers within minutes."""
    keepalive_timeout_s: Seconds = 20.0
    """How long a ping may stay unanswered before the connection is closed."""
    min_client_ping_interval_s: Seconds = 10.0
    """Clients that ping more often are disconnected (grpcio only); its default of 5 minutes breaks common client settings."""
    max_connection_idle_s: Seconds = 600.0
    """A connection without calls for this long is closed; the client reconnects when needed."""
    handshake_timeout_s: Seconds = 10.0
    """A connection without HTTP/2 by then is closed."""
    message_timeout_s: Seconds = 60.0
    """A connection on which a large message stays incomplete for this long is closed (Linux only)."""
    io_threads: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1
    """Threads of the native engine; one carries more than one event loop can answer."""
    has_reflection: bool = True
    """Enable server reflection, which shows the protocol's messages to anyone who can connect."""
    health_poll_s: Seconds = 1.0
    """How often `Watch` of the health service looks at readiness, beside being told of changes."""
