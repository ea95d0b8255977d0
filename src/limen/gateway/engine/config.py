"""Limits of the HTTP gateway. All static: they are read when a connection is made."""

from __future__ import annotations

import msgspec


class HttpLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What one connection may cost. Units are in the names."""

    max_body_bytes: int = 64 << 20
    """As Triton's default; applies after decompression too."""
    max_header_bytes: int = 32 << 10
    """Enough for any token and trace header; a larger head is an attack or a mistake."""
    max_headers: int = 100
    max_chunks: int = 65_536
    """Chunks of one body: a million one-byte chunks cost more to parse than they carry."""
    max_pipelined: int = 32
    """Requests read ahead on one connection; reading stops until they are answered."""
    header_timeout_s: float = 10.0
    body_idle_timeout_s: float = 30.0
    body_timeout_s: float = 60.0
    """How long the whole of a body may take, however much of it has come. The largest one needs 1.1 MB/s with the defaults."""
    min_body_bytes_per_s: int = 16 << 10
    """A body slower than this, after the idle time, is cut off, and so is a caller who reads its answer more slowly."""
    max_bytes_in_flight: int = 256 << 20
    """Bytes of bodies, and of answers that callers have not read, that one gateway holds at a time, gRPC included. A body of more
    than 64 KiB that does not fit is refused with 503. At least as large as the largest body."""
    write_idle_timeout_s: float = 60.0
    """A caller who does not read its answer for this long is cut off."""
    keep_alive_s: float = 75.0
    """As nginx; longer than the idle time of common load balancers."""
    drain_s: float = 10.0
    """How long a stopping server waits for requests in flight."""
    compress_from_bytes: int = 1024
    """Smaller answers cost more to compress than to send."""
