"""The findings of a comparison of two contracts, and their effect on existing callers.

`contracts.compatibility.compare` makes these values; publishing records them as evidence, `limen diff` prints them. Pure data.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from limen.contracts.errors import Violation


class Change(StrEnum):
    """What a difference means for callers, from harmless to harmful."""

    COMPATIBLE = "compatible"
    """Existing callers are not affected."""
    NOTE = "note"
    """Every call that worked still works, but its answer, speed or terms may differ."""
    BREAKING = "breaking"
    """A call that worked may be refused, or an answer may contain values that the old contract ruled out."""


class FindingKind(StrEnum):
    """In which way something differs."""

    ADDED = "added"
    """It is new."""
    REMOVED = "removed"
    """It was removed."""
    NARROWED = "narrowed"
    """Fewer values than before."""
    WIDENED = "widened"
    """More values than before."""
    CHANGED = "changed"
    """It is another one."""
    MOVED = "moved"
    """It has another place."""


class Surface(StrEnum):
    """One of the forms in which callers see a contract."""

    RECORDS = "records"
    """JSON records over REST."""
    TENSORS = "tensors"
    """Open Inference Protocol tensors, REST and gRPC."""
    PROTOBUF = "protobuf"
    """The typed Protobuf messages, and the code that callers generated from them."""


EVERYWHERE = tuple(Surface)
"""A rule that every way of calling shares: whatever the form, the same checks judge the values."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One difference between two contracts. It names limits and fields, which are public; never a caller's value."""

    path: str
    """Where: `inputs.age.minimum`, `outputs.score`, `slo.deadline_ms`."""
    kind: FindingKind
    change: Change
    surfaces: tuple[Surface, ...] = ()
    """What it breaks; empty unless it is breaking."""
    reason: str
    """A sentence for people: what differs, and what callers will see of it."""


class Compatibility(msgspec.Struct, frozen=True, kw_only=True):
    """Everything in which a new contract differs from an old one."""

    old_major: int
    new_major: int
    findings: tuple[Finding, ...] = ()
    """In the order of the contract: the model itself, its inputs, its outputs."""

    @property
    def verdict(self) -> Change:
        """The worst of the findings; compatible when there are none."""
        order = list(Change)
        return max((f.change for f in self.findings), key=order.index, default=Change.COMPATIBLE)

    @property
    def breaking(self) -> tuple[Finding, ...]:
        """The findings that break callers."""
        return tuple(f for f in self.findings if f.change is Change.BREAKING)

    @property
    def breaks_callers(self) -> bool:
        """Whether the new version must not take the old one's place: it is breaking, and its major does not say so."""
        return self.old_major == self.new_major and self.verdict is Change.BREAKING

    @property
    def violations(self) -> tuple[Violation, ...]:
        """The breaking findings as an error lists them."""
        return tuple(Violation(f.path, f.reason) for f in self.breaking)
