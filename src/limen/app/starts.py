"""Start messages: the first input of each process of a server."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from limen.gateway.engine.config import HttpLimits
from limen.gateway.grpc.config import GrpcConfig
from limen.serving.supervision.run_folder import ServerFile
from limen.settings import Settings
from limen.settings.serve import ServeConfig
from limen.traffic.config import AdmissionConfig

T = TypeVar("T", bound=msgspec.Struct)


class Ports(msgspec.Struct, frozen=True, kw_only=True):
    """The ports that this server holds, also those that the system has chosen."""

    http: int
    grpc: int
    metrics: int
    admin: int = 0
    """0 for a server of packages."""


class ControlStart(msgspec.Struct, frozen=True, kw_only=True):
    """What the control process reads first."""

    settings: Settings
    """As they were read; the registry is served when they name no packages."""
    ports: Ports
    home: str
    """The whole path of the home folder."""
    run: str
    """The server's folder."""
    sockets: str
    """Folder of its sockets."""
    server: ServerFile
    """What its folder says of it, to make that again if it is lost."""
    started_at: float
    """Seconds since the epoch."""
    server_pid: int


class GatewaySettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of gateways. They read what strangers send, and have no use for the secrets of the registry."""

    serve: ServeConfig
    http: HttpLimits
    grpc: GrpcConfig
    admission: AdmissionConfig
    trusts_code: bool

    @classmethod
    def of(cls, settings: Settings) -> GatewaySettings:
        """Take what gateways need of all settings."""
        return cls(
            serve=settings.serve,
            http=settings.http,
            grpc=settings.grpc,
            admission=settings.admission,
            trusts_code=settings.trust.code,
        )


class GatewayStart(msgspec.Struct, frozen=True, kw_only=True):
    """What a gateway process reads first."""

    name: str
    settings: GatewaySettings
    ports: Ports
    run: str
    """The server's folder."""
    control: str
    """Path of the control socket."""


def encode_start(start: msgspec.Struct) -> str:
    """Return what a process reads first, as its line."""
    return msgspec.json.encode(start, enc_hook=str).decode()


def decode_start(line: bytes, kind: type[T]) -> T:
    """Return what `encode_start` wrote."""
    return msgspec.json.decode(line, type=kind, dec_hook=lambda found, value: found(value))
