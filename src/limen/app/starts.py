"""What the processes of a server read first."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from limen.serving.supervision.run_folder import ServerFile
from limen.settings import ServeSettings, Settings

T = TypeVar("T", bound=msgspec.Struct)


class ControlStart(msgspec.Struct, frozen=True, kw_only=True):
    """What the control process reads first."""

    settings: ServeSettings
    """With the real ports."""
    managed: Settings | None = None
    """Of the registry that it serves; None for a server of packages."""
    run: str
    """The server's folder."""
    sockets: str
    """Folder of its sockets."""
    server: ServerFile
    """What its folder says of it, to make that again if it is lost."""
    started_at: float
    """Seconds since the epoch."""
    server_pid: int


def encode_start(start: msgspec.Struct) -> str:
    """Return what a process reads first, as its line."""
    return msgspec.json.encode(start, enc_hook=str).decode()


def decode_start(line: bytes, kind: type[T]) -> T:
    """Return what `encode_start` wrote."""
    return msgspec.json.decode(line, type=kind, dec_hook=lambda found, value: found(value))


class GatewayStart(msgspec.Struct, frozen=True, kw_only=True):
    """What a gateway process reads first."""

    name: str
    settings: ServeSettings
    run: str
    """The server's folder."""
    control: str
    """Path of the control socket."""
