"""Limits of the HTTP gateway; `limen.settings` composes them with the settings of the other packages."""

from __future__ import annotations

from typing import Annotated

import msgspec

from limen.contracts.bounds import Bytes, Count, HeaderBytes, Seconds


class HttpLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What one connection may cost, and all together."""

    max_body_bytes: Bytes = 64 << 20
    """Largest body. As Triton's default; applies after decompression too."""
    max_header_bytes: HeaderBytes = 32 << 10
    """Largest head. Enough for any token and trace header; a larger head is an attack or an error."""
    max_headers: Annotated[int, msgspec.Meta(ge=10, le=10_000)] = 100
    """Header lines of one request."""
    max_chunks: Count = 65_536
    """Chunks of one body: a million one-byte chunks cost more to parse than they carry."""
    max_pipelined: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 32
    """Pipelined requests read ahead on one connection; reading pauses until they are answered."""
    max_connections: Annotated[int, msgspec.Meta(ge=1, le=1 << 16)] = 1 << 16
    """Connections of one gateway; more wait outside. The limit of open files may allow fewer."""
    header_timeout_s: Seconds = 10.0
    """How long a head may take."""
    body_idle_timeout_s: Seconds = 30.0
    """How long a pause within a body may last."""
    body_timeout_s: Seconds = 60.0
    """How long a whole body may take. The largest body needs 1.1 MB/s with the defaults."""
    min_body_bytes_per_s: Bytes = 16 << 10
    """After the idle time, a caller that sends its body or reads its answer more slowly than this is disconnected."""
    max_bytes_in_flight: Bytes = 256 << 20
    """Bytes of bodies, and of answers that callers have not read, that one gateway holds at a time, gRPC included. A body of more
    than 64 KiB that does not fit is refused with 503. Taken as `max_body_bytes` when it is less."""
    write_idle_timeout_s: Seconds = 60.0
    """A caller that does not read its answer for this long is disconnected."""
    keep_alive_s: Seconds = 75.0
    """How long an idle connection is kept. As nginx; longer than the idle time of common load balancers."""
    drain_s: Annotated[float, msgspec.Meta(ge=0, le=3600)] = 10.0
    """How long a stopping server waits for requests in flight, gRPC included."""
    compress_from_bytes: Annotated[int, msgspec.Meta(ge=0, le=1 << 40)] = 1024
    """Smaller answers cost more to compress than to send."""

    @property
    def most_held(self) -> int:
        """Bytes that a gateway holds at most: the largest body always fits."""
        return max(self.max_bytes_in_flight, self.max_body_bytes)
