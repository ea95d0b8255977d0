"""The settings of a server process, composed from the sections that packages own."""

from __future__ import annotations

from typing import Literal

import msgspec

from limen.gateway.grpc.config import GrpcConfig
from limen.gateway.http.config import HttpLimits


class ServeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything `limen serve` needs to know. All static: a running server does not reread them."""

    packages: tuple[str, ...]
    """Package folders or archives; each becomes an endpoint of its own name."""
    home: str = ".limen"
    """Where extracted archives and run-time files live."""
    host: str = "127.0.0.1"
    """Loopback until callers can be authenticated."""
    http_port: int = 8000
    """0 lets the system choose."""
    grpc_port: int = 8001
    """0 lets the system choose."""
    metrics_port: int = 8003
    """0 lets the system choose."""
    workers: int = 1
    """Gateway processes that share the ports."""
    placement: Literal["inline", "process"] = "process"
    """Where models run: each version in processes of its own, or inside every gateway."""
    trust_code: bool = False
    """Whether packages that bring Python code may run it."""
    watch: bool = False
    """Whether a package that changes on disk is loaded again."""
    announce: str = ""
    """File to write the real addresses to once ready; none when empty."""
    access_log: bool = False
    """Log every request and not only failures."""
    http: HttpLimits = HttpLimits()
    grpc: GrpcConfig = GrpcConfig()
