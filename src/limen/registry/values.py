"""Values stored in the registry but not shown to callers directly. Plain values used by `registry.registry`."""

from __future__ import annotations

from datetime import datetime

import msgspec

from limen.contracts.catalogue import Lineage
from limen.contracts.contract import Contract


class Identity(msgspec.Struct, frozen=True):
    """Which registry this is, and how far it has come."""

    registry: str
    """Its id: given when it was made, or brought back from a backup."""
    revision: int
    """Grows with every change of anything in the database."""


class NewVersion(msgspec.Struct, frozen=True, kw_only=True):
    """A package that was found good and is to become a version; its blobs are stored already."""

    contract: Contract
    """Names the model and its major."""
    digest: str
    """64 hexadecimal digits that name the package's content."""
    archive: str
    """Key of the blob with its archive."""
    size: int
    """Bytes of the archive."""
    backend: str
    needs_trust: bool = False
    signature: str = ""
    """Key of the blob with its detached signature; empty when it has none."""
    signer: str = ""
    """SHA-256 fingerprint of the key that signed it, when that was verified."""
    number: int | None = None
    """The version number to require; None takes the next one."""
    lineage: Lineage = Lineage()
    tags: dict[str, str] = {}
    created_by: str = ""


class StoredArchive(msgspec.Struct, frozen=True, kw_only=True):
    """Where the files of a version are."""

    digest: str
    """Names the package's content; checked when it is opened."""
    archive: str
    """Key of the blob with its archive."""
    signature: str
    """Key of the blob with its detached signature; empty when it has none."""
    size: int
    """Bytes of the archive."""


class AliasMove(msgspec.Struct, frozen=True, kw_only=True):
    """One change of an alias."""

    revision: int
    version: int | None
    """None where the alias was removed."""
    moved_at: datetime
    moved_by: str


class KeptNumbers(msgspec.Struct, frozen=True):
    """Protobuf numbers that were ever given to the fields of one model and major."""

    inputs: dict[str, int]
    outputs: dict[str, int]
