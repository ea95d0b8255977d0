"""The contents of a registry as callers see them: models, immutable versions, aliases and evidence.

These values travel between the registry, the management API and the client. `registry` makes them; nothing here reads or writes.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

import msgspec

from limen.contracts.contract import Contract, Json


class Verdict(StrEnum):
    """What was concluded."""

    PASS = "PASS"
    """It holds."""
    FAIL = "FAIL"
    """It does not."""
    INCONCLUSIVE = "INCONCLUSIVE"
    """There was too little to judge by: neither promotes nor rolls back."""


class EvidenceKind(StrEnum):
    """What a piece of evidence is about."""

    COMPATIBILITY = "compatibility"
    """The contract against the one before it."""
    BEHAVIOUR = "behaviour"
    """The answers to the golden examples of the version before it."""
    GOLDEN = "golden"
    """The answers to its own golden examples, in a process of its own."""
    SCAN = "scan"
    """What its files really are."""
    SIGNATURE = "signature"
    """Who signed it."""
    LATENCY = "latency"
    """How long it takes under load."""
    ACCURACY = "accuracy"
    """How right it is, against the version before it."""
    APPROVAL = "approval"
    """Who agreed."""
    INDEPENDENCE = "independence"
    """Whether its rows are independent, so that requests may share a run."""
    PARITY = "parity"
    """An imported model against the original."""


class Lineage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where a version comes from. Free text that people can follow; nothing is fetched from it."""

    source: str = ""
    """The training run or the original model, such as `mlflow:models:/credit/3`."""
    data: str = ""
    """The data it was trained on."""
    code: str = ""
    """The code that trained it, such as a commit."""
    parent: int | None = None
    """The version it was compared with when it was published: the newest of its major that was not retired."""


class ModelVersion(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One version of a model: a number that points at one package, for ever. Only tags and retirement change."""

    model: str
    number: int
    digest: str
    """64 hexadecimal digits that name the package's content."""
    size: int
    """Bytes of its archive."""
    major: int
    contract: Contract
    """With the Protobuf numbers that the registry keeps for its fields."""
    backend: str
    needs_trust: bool = False
    """Whether loading it runs Python code that came with it."""
    lineage: Lineage = Lineage()
    tags: dict[str, str] = {}
    aliases: tuple[str, ...] = ()
    signer: str = ""
    """SHA-256 fingerprint of the key that signed it, when the signature was verified."""
    is_retired: bool = False
    retired_reason: str = ""
    created_at: datetime
    created_by: str = ""
    revision: int = 1
    """Grows with every change of tags or retirement; the entity tag."""


class Model(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One model: a name, its aliases and how many versions it has."""

    name: str
    title: str = ""
    owner: str = ""
    """Title and owner as the newest version's contract says them."""
    tags: dict[str, str] = {}
    aliases: dict[str, int] = {}
    latest: int = 0
    """Number of the newest version that is not retired; 0 when there is none."""
    versions: int = 0
    created_at: datetime
    revision: int = 1
    """Grows with every change of tags; the entity tag."""


class Alias(msgspec.Struct, frozen=True, kw_only=True):
    """What a version is called for now."""

    model: str
    alias: str
    version: int
    revision: int
    """Grows with every move; the entity tag."""
    updated_at: datetime


class Evidence(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was measured about a version. Never changed and never removed."""

    id: int = 0
    model: str
    version: int
    kind: EvidenceKind
    verdict: Verdict
    body: Json = None
    created_at: datetime
    created_by: str = ""
