"""Settings of the management API; `limen.settings` composes them with those of the other packages."""

from __future__ import annotations

import msgspec

from limen.contracts.bounds import Count, HeaderBytes, Port, Seconds


class AdminConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Where the management API listens, and what a connection to it may cost before its request is whole."""

    host: str = "127.0.0.1"
    """Loopback: anyone who can reach it may change everything."""
    port: Port = 8002
    """0 lets the system choose."""
    max_connections: Count = 200
    """Connections at a time; one more is closed. Fewer where the process may not have that many files open."""
    max_header_bytes: HeaderBytes = 32 << 10
    """Longest head of a request."""
    header_timeout_s: Seconds = 10.0
    """How long a head may take, and how long a connection may stay without asking anything."""
