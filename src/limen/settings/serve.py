"""The `[serve]` section: what `limen serve` starts. It belongs to no package below, because it says how they are put together."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from limen.contracts.bounds import Count, Port

Silence = Annotated[float, msgspec.Meta(ge=3, le=3600)]
"""Processes say once a second that they go on."""


class ServeConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Which processes a server consists of, and where they listen."""

    packages: tuple[str, ...] = ()
    """Package folders or archives; each becomes an endpoint of its own name. The registry is served when there are none."""
    host: str = "127.0.0.1"
    """Address to listen on. Only loopback is allowed without authentication."""
    http_port: Port = 8000
    """REST port; 0 lets the system choose."""
    grpc_port: Port = 8001
    """gRPC port; 0 lets the system choose."""
    metrics_port: Port = 8003
    """Port of the metrics; 0 lets the system choose."""
    workers: Annotated[int, msgspec.Meta(ge=1, le=256)] = 1
    """Number of gateway processes that share the ports."""
    placement: Literal["inline", "process"] = "process"
    """Where models run: `process` runs each version in processes of its own, `inline` inside every gateway."""
    start_replicas: Literal["fork", "exec"] = "fork"
    """`fork` starts a replica as a copy of a process that has imported what it needs, in tens of milliseconds and about 10 MiB for a small model; `exec` starts
    a program that imports everything anew. Only Linux has forks that Limen can rely on; elsewhere it is always `exec`."""
    model_control: Literal["none", "explicit"] = "none"
    """`explicit` lets callers load and unload models, and choose which requests are logged, over the protocol."""
    watch: bool = False
    """Reload a package when its files change. Only for packages that `serve` names."""
    announce: str = ""
    """File to write the real addresses to once the server is ready; none when empty."""
    access_log: bool = False
    """Log every request and not only failures. Callers of `/v2/logging` can change it until this setting changes."""
    gateway_silence_s: Silence = 6.0
    """A gateway that says nothing for this long is taken for hung and replaced. Ten times as long with inline models, whose libraries
    may block the process while they load."""
    control_silence_s: Silence = 10.0
    """The same for the control process."""
    replica_restarts: Count = 20
    """How often one replica is restarted in ten minutes before it is given up for a while."""
