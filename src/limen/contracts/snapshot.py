"""Everything a gateway needs to serve, at one revision.

Made by the control process, pushed to every gateway, and written to disk for a gateway that starts without control. Later the split of
traffic, limits and key hashes join it.
"""

from __future__ import annotations

import msgspec


class ServedVersion(msgspec.Struct, frozen=True, omit_defaults=True):
    """One version that gateways should have ready."""

    number: str
    root: str
    """Folder of the verified package."""
    digest: str
    origin: str = ""
    """The folder or archive it was given as, for people."""
    replicas: tuple[str, ...] = ()
    """Paths of its replicas' sockets; empty for versions that live in the gateways, and for one that has been let go while idle."""
    failure: str = ""
    """Why it cannot be loaded; gateways show it and load nothing."""


class ServedModel(msgspec.Struct, frozen=True, omit_defaults=True):
    """One model and the versions of it that are wanted; the newest ready one answers requests that name none."""

    name: str
    versions: tuple[ServedVersion, ...] = ()


class Snapshot(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is to be served. Immutable."""

    revision: int
    """Grows by one with every change."""
    models: tuple[ServedModel, ...] = ()
    quarantined: tuple[str, ...] = ()
    """Fingerprints of requests that have killed replicas; they are answered MODEL_CRASH without being run."""
