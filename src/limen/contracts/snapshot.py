"""Everything a gateway needs to serve, at one revision.

Made by the control process, pushed to every gateway, and written to disk for a gateway that starts without control. Later limits and
key hashes join it.
"""

from __future__ import annotations

from typing import Any

import msgspec

from limen.contracts.contract import Slo
from limen.contracts.endpoint import Route
from limen.contracts.serving import Serving


class ServedVersion(msgspec.Struct, frozen=True, omit_defaults=True):
    """One version that gateways should have ready."""

    number: str
    root: str
    """Folder of the verified package."""
    digest: str
    origin: str = ""
    """Where it comes from, for people: a folder, an archive, or the registry's name of it."""
    replicas: tuple[str, ...] = ()
    """Paths of its replicas' sockets; empty for versions that live in the gateways, and for one that has been let go while idle."""
    failure: str = ""
    """Why it cannot be loaded; gateways show it and load nothing."""
    down: str = ""
    """Why none of its replicas can be started at the moment; gateways keep it and refuse requests at once."""
    is_inline: bool = False
    """Whether it lives in the gateways."""
    inputs: dict[str, int] = {}
    """Protobuf numbers that the registry keeps for the inputs, by field; empty where the contract says them all."""
    outputs: dict[str, int] = {}
    """The same for the outputs."""


class ServedEndpoint(msgspec.Struct, frozen=True, omit_defaults=True):
    """One endpoint: its versions and which of them answers a request that names none."""

    name: str
    versions: tuple[ServedVersion, ...] = ()
    routes: tuple[Route, ...] = ()
    """Shares of the requests that name no version; the share of a version that is not ready goes to the others."""
    aliases: dict[str, str] = {}
    """Alias to the number of its version."""
    serving: Serving | None = None
    """What it says instead of its packages about how they are run."""
    slo: Slo | None = None
    """What it says instead of its contracts about time."""
    is_paused: bool = False
    """Nothing of it is to be loaded: somebody wants it so. Its versions are those it had."""


class LogLevels(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which requests gateways log."""

    info: bool = False
    """Those that were answered."""
    warning: bool = True
    """Those that were refused through a fault of the caller, or of what it asked for."""
    error: bool = True
    """Those that failed through a fault of a model or of the server."""


class SharedSettings(msgspec.Struct, frozen=True):
    """Settings that gateways follow while they run, as plain values by name; empty when they are those of the start."""

    http: dict[str, Any] = {}
    admission: dict[str, Any] = {}


class Snapshot(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is to be served. Immutable."""

    revision: int
    """Grows by one with every change."""
    endpoints: tuple[ServedEndpoint, ...] = ()
    quarantined: tuple[str, ...] = ()
    """Fingerprints of requests that have killed replicas; they are answered MODEL_CRASH without being run."""
    needs_all: bool = True
    """Whether the server is ready only with every endpoint. Not with those of a registry: a new one that cannot load must not take
    the others from their callers."""
    log: LogLevels = LogLevels()
    """The same for all gateways, whichever of them was told."""
    settings: SharedSettings = SharedSettings()
