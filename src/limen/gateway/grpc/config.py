"""Settings of the gRPC gateway; `limen.settings` composes them with those of the other packages."""

from __future__ import annotations

from typing import Literal

import msgspec

Engine = Literal["grpcio", "native"]


class GrpcConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How the gRPC listener behaves. Every field is static: it is read once, when the server is built."""

    engine: Engine = "grpcio"
    """`grpcio` refuses a message that is too large while it reads and unpacks it. `native` answers from Rust at about a fifth of the
    CPU, but holds a whole message in memory, unpacked, before its size can be judged: for callers who are trusted."""
    max_receive_bytes: int = 64 << 20
    """Largest request message, unpacked. As Triton's REST limit; gRPC's own 4 MiB is too small for images."""
    max_send_bytes: int = 256 << 20
    """Largest answer; protects clients and our own memory from a model that multiplies its input."""
    max_metadata_bytes: int = 16 << 10
    """Largest request metadata. Real clients send well under 4 KiB; a long token still fits."""
    max_concurrent_streams: int = 1024
    """Calls in flight on one connection; more wait at the client."""
    max_stream_requests: int = 16
    """Requests in flight on one ModelStreamInfer call; further ones are not read until one is answered."""
    keepalive_time_s: float = 60.0
    """Idle time before a connection with calls is pinged, so that dead peers are noticed within minutes."""
    keepalive_timeout_s: float = 20.0
    """How long a ping may stay unanswered before the connection is closed."""
    min_client_ping_interval_s: float = 10.0
    """Clients that ping more often are disconnected (grpcio only); its default of 5 minutes breaks common client settings."""
    max_connection_idle_s: float = 600.0
    """A connection without a call for this long is closed; its client connects again when it needs to."""
    handshake_timeout_s: float = 10.0
    """A connection on which nobody speaks HTTP/2 by then is closed."""
    message_timeout_s: float = 60.0
    """A connection on which a large message has begun and none becomes whole for this long is closed (Linux only)."""
    reuse_port: bool = False
    """Share the port with other workers. Off by default: otherwise a second server on a taken port would start unnoticed."""
    io_threads: int = 1
    """Threads of the native engine; one carries more than one event loop can answer."""
    has_reflection: bool = True
    """Offer server reflection, which tells anyone who can connect the messages of the protocol."""
    health_poll_s: float = 1.0
    """How often Watch looks at readiness when nobody calls `refresh`."""
