"""What the processes of a server read first."""

from __future__ import annotations

import msgspec

from limen.settings import ServeSettings


class ControlStart(msgspec.Struct, frozen=True, kw_only=True):
    """What the control process reads first."""

    settings: ServeSettings
    """With the real ports."""
    run: str
    """The server's folder."""
    sockets: str
    """Folder of its sockets."""
    started_at: float
    """Seconds since the epoch."""
    server_pid: int


class GatewayStart(msgspec.Struct, frozen=True, kw_only=True):
    """What a gateway process reads first."""

    name: str
    settings: ServeSettings
    run: str
    """The server's folder."""
    control: str
    """Path of the control socket."""
