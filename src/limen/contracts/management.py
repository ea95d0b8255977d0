"""Requests and answers of the management API beyond `contracts.catalogue` and `contracts.endpoint`.

`docs/reference/management-api.md` says which path takes and gives which. `admin` reads and writes these values, `client` writes and
reads them; both sides of the wire are made from this one description.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, Generic, TypeVar

import msgspec

from limen.contracts.catalogue import Evidence, Lineage, ModelVersion
from limen.contracts.compatibility.findings import Change, Finding
from limen.contracts.conditions import Condition
from limen.contracts.contract import Json
from limen.contracts.endpoint import EndpointSpec
from limen.contracts.errors import Violation

T = TypeVar("T")
Number = Annotated[int, msgspec.Meta(ge=1, le=1_000_000_000)]
"""Number of a version, as callers may say it."""

PACKAGE_TYPE: Final = "application/vnd.limen.package"
"""Media type of an archive, and of a publish body, which is an archive that a head may precede."""
PROBLEM_TYPE: Final = "application/problem+json"
HEAD_LENGTH: Final = "limen-head-length"
"""Header of a publish request: how many bytes of its body are the head, a `PublishHead` in JSON. Without it all is the archive."""
MAX_HEAD_BYTES: Final = 4 << 20
"""The longest head; a signature of ten thousand files has about half of that."""
MAX_PAGE: Final = 500
"""Most items of one page."""


class Page(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """A part of a list."""

    items: tuple[T, ...]
    next: str = ""
    """What `cursor` has to be for the next page; empty on the last one."""


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An error of the management API. Source: RFC 9457."""

    type: str = "about:blank"
    title: str
    """The status in words."""
    status: int
    detail: str
    """What happened."""
    code: str
    """The catalogue reason, as `code` in errors of the inference API."""
    request_id: str
    errors: tuple[Violation, ...] = ()
    """Every mistake that was found, with its path."""


class PublishHead(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What is said about an archive that is published."""

    sha256: str = ""
    """64 hexadecimal digits of the archive's bytes; compared with what arrived, unless empty."""
    signature: bytes = b""
    """The detached signature, as `limen sign` writes it; base64 in JSON."""
    number: Number | None = None
    """The version number to require; None takes the next one."""
    alias: str = ""
    """An alias that is set to the version in the same transaction."""
    same_answers: bool | None = None
    """Whether to refuse a version that answers its predecessor's examples differently; None uses the server's setting."""
    lineage: Lineage = Lineage()
    tags: dict[str, str] = {}


class Published(msgspec.Struct, frozen=True, kw_only=True):
    """What came of publishing."""

    version: ModelVersion
    is_new: bool
    """False where a version with the same content was there already: that one is answered."""
    evidence: tuple[Evidence, ...] = ()
    """Evidence out about it: scan, signature, golden answers, compatibility, behaviour."""


class TagChanges(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Tags to set, and with null to remove; others stay."""

    tags: dict[str, str | None]


class Retirement(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Why a version is retired."""

    reason: str = ""


class AliasTarget(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which version an alias is to name."""

    version: Number


class VersionDiff(msgspec.Struct, frozen=True, kw_only=True):
    """What callers of one version would notice of another."""

    model: str
    before: int
    after: int
    old_major: int
    new_major: int
    verdict: Change
    findings: tuple[Finding, ...]


class SettingChange(msgspec.Struct, frozen=True):
    """One setting of an endpoint in which two specs differ."""

    path: str
    before: Json = None
    """None where it was not said."""
    after: Json = None
    """None where it is no longer said."""


class EndpointPreview(msgspec.Struct, frozen=True, kw_only=True):
    """Preview applying a spec."""

    name: str
    is_new: bool
    revision: int
    """The revision it was compared with, for `If-Match`; 0 for a new endpoint."""
    changes: tuple[SettingChange, ...]
    """Empty when nothing would change."""


class EndpointRevision(msgspec.Struct, frozen=True, kw_only=True):
    """One change of an endpoint."""

    revision: int
    spec: EndpointSpec | None
    """None where the endpoint was removed."""
    changed_at: datetime
    changed_by: str = ""


class ServerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A registry, and the server that works from it."""

    release: str
    """Release of Limen that answers."""
    revision: int
    """Revision of the registry: grows with every change of anything in it."""
    models: int
    endpoints: int
    is_ready: bool = False
    """Whether every endpoint answers: the condition Ready, in short; false where no server runs."""
    problem: str = ""
    """What needs attention: why it is not ready, not as specified, or does not follow the registry."""
    conditions: tuple[Condition, ...] = ()
    """Ready, Stale, Progressing and Degraded, of the server; none where no server runs."""
    server: Json = None
    """What `limen status --json` shows; None where no server runs."""
