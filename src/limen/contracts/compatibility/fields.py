"""The effect on callers of a change to one field of a contract.

Inputs are contravariant and outputs covariant: a new input must take whatever the old one took, a new output may only give what
the old one could give. Called by `contracts.compatibility.compare`, which settles which fields belong together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Any, Final

import msgspec

from limen.contracts.compatibility.findings import EVERYWHERE, Change, Finding, FindingKind, Surface
from limen.contracts.compatibility.values import LIMITS, shapes_cover, types_cover
from limen.contracts.contract import Field, Scalar
from limen.contracts.proto.schema import SCALARS, carries_shape
from limen.contracts.tensors import Kind

_SHOWN: Final = 5
"""How many values or names one sentence lists."""


class Side(StrEnum):
    """One of the two lists of a contract."""

    INPUTS = "inputs"
    """What callers send."""
    OUTPUTS = "outputs"
    """What callers get."""


class _Pair(msgspec.Struct, frozen=True):
    """One field before and after."""

    old: Field
    new: Field
    side: Side

    @property
    def is_input(self) -> bool:
        return self.side is Side.INPUTS

    @property
    def wide(self) -> Field:
        """The field that must allow whatever `narrow` does, if callers are not to notice."""
        return self.new if self.is_input else self.old

    @property
    def narrow(self) -> Field:
        return self.old if self.is_input else self.new

    def differs(self, key: str) -> bool:
        return bool(getattr(self.old, key) != getattr(self.new, key))

    def compatible(self, key: str, kind: FindingKind, reason: str) -> Finding:
        return self._finding(key, kind, Change.COMPATIBLE, reason)

    def note(self, key: str, kind: FindingKind, reason: str) -> Finding:
        return self._finding(key, kind, Change.NOTE, reason)

    def breaks(self, key: str, kind: FindingKind, reason: str, surfaces: Iterable[Surface] = EVERYWHERE) -> Finding:
        return self._finding(key, kind, Change.BREAKING, reason, surfaces)

    def _finding(
        self, key: str, kind: FindingKind, change: Change, reason: str, surfaces: Iterable[Surface] = ()
    ) -> Finding:
        path = f"{self.side}.{self.new.name}.{key}"
        return Finding(path=path, kind=kind, change=change, surfaces=tuple(surfaces), reason=reason)


def field_findings(old: Field, new: Field, side: Side) -> list[Finding]:
    """Return every difference between a field and the one that takes its place under the same name; numbers aside."""
    pair = _Pair(old, new, side)
    presence = _presence_in if pair.is_input else _presence_out
    rules = (_wire, _type, _shape, _unit, _limits, presence, _finite, _labels, _sensitivity, _words)
    return [finding for rule in rules for finding in rule(pair)]


def _wire(pair: _Pair) -> Iterator[Finding]:
    old, new = pair.old.wire_name, pair.new.wire_name
    if old != new:
        effect = (
            "callers that send it under the old name are refused"
            if pair.is_input
            else "callers find nothing under the old name"
        )
        reason = f"The tensor's wire name changes from {old} to {new}; {effect}."
        yield pair.breaks("wire", FindingKind.CHANGED, reason, (Surface.TENSORS,))


def _type(pair: _Pair) -> Iterator[Finding]:
    old, new = pair.old, pair.new
    if old.type == new.type:
        return
    surfaces = []
    if not types_cover(pair.wide, pair.narrow):
        surfaces.append(Surface.RECORDS)
    # string and bytes share a datatype, but not all bytes are text.
    if old.datatype != new.datatype or pair.wide.type == "string":
        surfaces.append(Surface.TENSORS)
    if SCALARS[old.type] != SCALARS[new.type]:
        surfaces.append(Surface.PROTOBUF)
    act = "send" if pair.is_input else "read"
    reason = f"The type changes from {old.type} to {new.type}; callers {act} {old.type}."
    yield pair.breaks("type", FindingKind.CHANGED, reason, surfaces)


def _shape(pair: _Pair) -> Iterator[Finding]:
    if not pair.differs("shape"):
        return
    change = f"The shape of a row changes from {_dims(pair.old)} to {_dims(pair.new)}"
    if not shapes_cover(pair.wide, pair.narrow):
        effect = "the shapes callers send are refused" if pair.is_input else "callers may get shapes they do not expect"
        yield pair.breaks("shape", FindingKind.CHANGED, f"{change}; {effect}.")
    elif carries_shape(pair.old) != carries_shape(pair.new):
        effect = "the field also becomes a different Protobuf message"
        yield pair.breaks("shape", FindingKind.CHANGED, f"{change}; {effect}.", (Surface.PROTOBUF,))
    else:
        kind = FindingKind.WIDENED if pair.is_input else FindingKind.NARROWED
        yield pair.compatible("shape", kind, f"{change}; {_harmless(pair)}.")


def _unit(pair: _Pair) -> Iterator[Finding]:
    old, new = pair.old.unit, pair.new.unit
    if old == new:
        return
    if old and new:
        reason = f"The unit changes from {old} to {new}; the numbers look right and mean something else."
        yield pair.breaks("unit", FindingKind.CHANGED, reason)
    elif new:
        reason = f"The unit {new} is now stated; callers that assumed another unit should check."
        yield pair.note("unit", FindingKind.ADDED, reason)
    else:
        yield pair.note("unit", FindingKind.REMOVED, f"The unit {old} is no longer stated.")


def _limits(pair: _Pair) -> Iterator[Finding]:
    kinds = {pair.old.element.kind, pair.new.element.kind}
    if len(kinds) > 1 and kinds != {Kind.INT, Kind.FLOAT}:
        return  # the change of type says it all
    for key, covers in LIMITS.items():
        if not pair.differs(key):
            continue
        change = _limit_change(key, pair)
        if not covers(pair.wide, pair.narrow):
            effect = (
                "values that were accepted are refused"
                if pair.is_input
                else "callers may get values that were ruled out"
            )
            kind = FindingKind.NARROWED if pair.is_input else FindingKind.WIDENED
            yield pair.breaks(key, kind, f"{change}; {effect}.")
        else:
            kind = FindingKind.WIDENED if pair.is_input else FindingKind.NARROWED
            yield pair.compatible(key, kind, f"{change}; {_harmless(pair)}.")


def _limit_change(key: str, pair: _Pair) -> str:
    old, new = getattr(pair.old, key), getattr(pair.new, key)
    if key == "enum":
        return _enum_change(old, new)
    words = key.replace("_", " of ") if "_" in key else key
    words = {"min of length": "minimum length", "max of length": "maximum length"}.get(words, words)
    if old is None:
        return f"A {words} of {new} was added"
    if new is None:
        return f"The {words} of {old} was removed"
    return f"The {words} changes from {old} to {new}"


def _enum_change(old: tuple[Scalar, ...] | None, new: tuple[Scalar, ...] | None) -> str:
    if old is None:
        return f"Only {_listed(new or ())} are now allowed"
    if new is None:
        return "The list of allowed values was removed"
    gone, more = [v for v in old if v not in new], [v for v in new if v not in old]
    parts = [f"loses {_listed(gone)}"] if gone else []
    parts += [f"gains {_listed(more)}"] if more else []
    return f"The list of allowed values {' and '.join(parts) or 'has a different order'}"


def _presence_in(pair: _Pair) -> Iterator[Finding]:
    old, new = pair.old, pair.new
    if old.nullable and not new.nullable:
        surfaces = EVERYWHERE if new.is_required else (Surface.RECORDS, Surface.TENSORS)
        effect = "callers without a value are refused"
        yield pair.breaks(
            "nullable", FindingKind.NARROWED, f"A missing value is no longer allowed; {effect}.", surfaces
        )
    elif new.nullable and not old.nullable:
        reason = f"A missing value is now allowed; {_harmless(pair)}."
        yield pair.compatible("nullable", FindingKind.WIDENED, reason)
    if _default(old) == _default(new):
        return
    if new.is_required:
        if not old.nullable:
            reason = "The default was removed, so the field is required; callers that omit it are refused."
            yield pair.breaks("default", FindingKind.REMOVED, reason)
    elif old.is_required:
        yield pair.compatible("default", FindingKind.ADDED, f"It is now optional; {_harmless(pair)}.")
    else:
        kind = FindingKind.CHANGED
        kind = (
            kind if old.has_default and new.has_default else (FindingKind.ADDED, FindingKind.REMOVED)[old.has_default]
        )
        reason = "The default changed; callers that omit the field may get different answers."
        yield pair.note("default", kind, reason)


def _presence_out(pair: _Pair) -> Iterator[Finding]:
    if pair.new.nullable and not pair.old.nullable:
        reason = "It may now be missing from an answer; callers expect it always to have a value."
        yield pair.breaks("nullable", FindingKind.WIDENED, reason)
    elif pair.old.nullable and not pair.new.nullable:
        if pair.new.shape:
            reason = f"It now always has a value; {_harmless(pair)}."
            yield pair.compatible("nullable", FindingKind.NARROWED, reason)
        else:
            reason = (
                "It now always has a value, so its Protobuf field loses presence tracking: code generated earlier "
                "reads a 0, a false or an empty text as a missing value. Leave it nullable; it can still always have a value."
            )
            yield pair.breaks("nullable", FindingKind.NARROWED, reason, (Surface.PROTOBUF,))


def _finite(pair: _Pair) -> Iterator[Finding]:
    if not pair.differs("finite"):
        return
    if not (pair.narrow.finite or not pair.wide.finite):
        if pair.is_input:
            reason = "NaN and infinity are now refused; they were accepted."
            # JSON has no form for them.
            yield pair.breaks("finite", FindingKind.NARROWED, reason, (Surface.TENSORS, Surface.PROTOBUF))
        else:
            reason = "It may now be NaN or infinite, which JSON shows as null; callers expect a number."
            yield pair.breaks("finite", FindingKind.WIDENED, reason)
    else:
        kind = FindingKind.WIDENED if pair.is_input else FindingKind.NARROWED
        allowed = "are taken now" if pair.is_input else "are never given now"
        yield pair.compatible("finite", kind, f"NaN and infinity {allowed}; {_harmless(pair)}.")


def _labels(pair: _Pair) -> Iterator[Finding]:
    old, new = pair.old.labels, pair.new.labels
    if old == new:
        return
    if not old:
        reason = "The classes now have names; classification answers include them after the class number."
        yield pair.note("labels", FindingKind.ADDED, reason)
    elif not new:
        reason = "The class names were removed; classification answers included them."
        yield pair.breaks("labels", FindingKind.REMOVED, reason, (Surface.TENSORS,))
    elif old[: len(new)] == new:
        reason = f"There are fewer classes, and the rest keep their positions; {_harmless(pair)}."
        yield pair.compatible("labels", FindingKind.NARROWED, reason)
    elif new[: len(old)] == old:
        reason = f"There are classes that callers do not know: {_listed(new[len(old) :])}."
        yield pair.breaks("labels", FindingKind.WIDENED, reason)
    else:
        kind = FindingKind.MOVED if sorted(old) == sorted(new) else FindingKind.CHANGED
        reason = "Class positions or names changed; callers that read them by position get a different class."
        yield pair.breaks("labels", kind, reason)


def _sensitivity(pair: _Pair) -> Iterator[Finding]:
    old, new = pair.old.sensitivity, pair.new.sensitivity
    if old is not new:
        reason = f"The values are {new} now and were {old}: logs, records and documents treat them accordingly."
        yield pair.note("sensitivity", FindingKind.CHANGED, reason)


def _words(pair: _Pair) -> Iterator[Finding]:
    for key in ("title", "description", "examples"):
        if pair.differs(key):
            yield pair.compatible(key, FindingKind.CHANGED, f"The {key} changed; calls are not affected.")


def _default(field: Field) -> Any:
    """Return a default that can be compared: true and 1 differ, 1 and 1.0 do not, null is like none."""
    if not field.has_default:
        return None
    return isinstance(field.default, bool), field.default


def _harmless(pair: _Pair) -> str:
    return "every value that was accepted still is" if pair.is_input else "every answer was possible before"


def _dims(field: Field) -> str:
    return f"[{', '.join('any' if d < 0 else str(d) for d in field.shape)}]" if field.shape else "one value"


def _listed(values: Iterable[Scalar]) -> str:
    found = [str(v) for v in values]
    return ", ".join(found[:_SHOWN]) + (f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else "")
