"""Decides whether callers of one contract can keep calling when another replaces it.

`compare` judges the REST record schema, the tensor signature of the Open Inference Protocol and the typed Protobuf messages
together, because an endpoint serves all three and a caller of any of them must not break. Decisions that are not obvious:

- A new output is a note: answers without a list of requested outputs grow. The published schema of a record's answer says that it
  may, so who refuses unknown fields refuses more than was promised.
- A second input breaks: a model with one input also takes bare values in place of records, and no longer could.
- The order of inputs means nothing, they travel by name; that of outputs is a note, since answers list them in that order.
- Time is a note: a deadline or a promised latency changes when callers are answered and not how. They can state their own deadline.
- A field keeps the Protobuf number it has (`contracts.compatibility.field_numbers`) wherever it stands; only an explicit other number breaks.
- A different major is breaking by itself: it is another endpoint and another Protobuf package, and nobody is moved there unasked.

Not here: whether the answers are the same (golden examples are replayed for that). Pure; called by publishing, endpoints and `limen diff`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from limen.contracts.compatibility.field_numbers import number_conflicts
from limen.contracts.compatibility.fields import Side, field_findings
from limen.contracts.compatibility.findings import EVERYWHERE, Change, Compatibility, Finding, FindingKind, Surface
from limen.contracts.contract import Contract, Field
from limen.contracts.proto.schema import field_numbers


def compare(old: Contract, new: Contract) -> Compatibility:
    """Return everything in which two contracts differ and what it means for callers of the old one.

    Args:
        old: the contract callers rely on. With the numbers the registry keeps, when it comes from there.
        new: the contract that would take its place.

    Raises:
        InvalidPackage: the old contract's own field numbers are not usable.
    """
    findings = [
        *_identity(old, new),
        *_descriptions(old, new),
        *_time(old, new),
        *_rows(old, new),
        *_checks(old, new),
        *_fields(old.inputs, new.inputs, Side.INPUTS),
        *_fields(old.outputs, new.outputs, Side.OUTPUTS),
    ]
    return Compatibility(old_major=old.major, new_major=new.major, findings=tuple(findings))


def _identity(old: Contract, new: Contract) -> Iterator[Finding]:
    if old.name != new.name:
        reason = f"The model is renamed from {old.name} to {new.name}; callers use {old.name}."
        yield _breaks("name", FindingKind.CHANGED, reason)
    if old.major != new.major:
        reason = (
            f"Major {new.major} is a separate endpoint from major {old.major}, with its own Protobuf "
            f"package; callers of major {old.major} are not affected."
        )
        yield _breaks("major", FindingKind.CHANGED, reason)


def _descriptions(old: Contract, new: Contract) -> Iterator[Finding]:
    for key in ("title", "description", "owner", "tags", "task"):
        if getattr(old, key) != getattr(new, key):
            yield _compatible(key, FindingKind.CHANGED, f"The {key} changed; calls are not affected.")
    if old.licence != new.licence:
        yield _note("licence", FindingKind.CHANGED, "The terms of use changed; callers should read them.")


def _time(old: Contract, new: Contract) -> Iterator[Finding]:
    before, after = old.slo, new.slo
    if before.p95_ms != after.p95_ms:
        change = f"The promised latency changes from {_ms(before.p95_ms)} to {_ms(after.p95_ms)}"
        if after.p95_ms is not None and (before.p95_ms is None or after.p95_ms < before.p95_ms):
            yield _compatible("slo.p95_ms", FindingKind.NARROWED, f"{change}; answers arrive no later than before.")
        else:
            reason = f"{change}; answers may arrive later than callers expect."
            yield _note("slo.p95_ms", FindingKind.WIDENED, reason)
    if before.deadline_ms != after.deadline_ms:
        reason = (
            f"The default deadline changes from {_ms(before.deadline_ms)} to "
            f"{_ms(after.deadline_ms)}; requests without a deadline time out at a different time."
        )
        yield _note("slo.deadline_ms", FindingKind.CHANGED, reason)


def _rows(old: Contract, new: Contract) -> Iterator[Finding]:
    before, after = old.batching, new.batching
    if before.is_batched != after.is_batched:
        now = "now have the batch as their first axis" if after.is_batched else "no longer have a batch axis"
        reason = f"Tensors {now}; callers must send and read different shapes."
        yield _breaks("batching", FindingKind.CHANGED, reason, (Surface.TENSORS,))
    change = f"The row limit of one request changes from {before.max_request_rows} to {after.max_request_rows}"
    if after.max_request_rows < before.max_request_rows:
        yield _breaks(
            "batching.max_request_rows",
            FindingKind.NARROWED,
            f"{change}; larger requests that were accepted are refused.",
        )
    elif after.max_request_rows > before.max_request_rows:
        yield _compatible("batching.max_request_rows", FindingKind.WIDENED, f"{change}.")
    for key in ("max_rows", "max_wait_ms", "merge"):
        if getattr(before, key) != getattr(after, key):
            reason = "Batching inside the server changes; requests and answers stay the same."
            yield _compatible(f"batching.{key}", FindingKind.CHANGED, reason)


def _checks(old: Contract, new: Contract) -> Iterator[Finding]:
    if old.examples != new.examples:
        reason = "The golden examples changed; replaying the old ones shows whether answers did."
        yield _compatible("examples", FindingKind.CHANGED, reason)
    if old.tolerance != new.tolerance:
        reason = "The tolerance for golden answers changed; a change of behaviour may be detected earlier or later."
        yield _note("tolerance", FindingKind.CHANGED, reason)


def _fields(old: Sequence[Field], new: Sequence[Field], side: Side) -> Iterator[Finding]:
    before, after = {f.name: f for f in old}, {f.name: f for f in new}
    added = [f for f in new if f.name not in before]
    for field in old:
        if field.name in after:
            yield from field_findings(field, after[field.name], side)
        else:
            yield _removed(field, added, side)
    yield from _added(added, side)
    if side is Side.INPUTS and len(old) == 1 < len(new):
        reason = "A model with one input accepts bare values instead of records; with more inputs they are refused."
        yield _breaks("inputs", FindingKind.ADDED, reason, (Surface.RECORDS,))
    if [n for n in before if n in after] != [n for n in after if n in before]:
        yield _moved(side)
    for conflict in number_conflicts(new, field_numbers(old, side), side):
        reason = f"The Protobuf number {conflict.reason}."
        yield _breaks(conflict.path, FindingKind.CHANGED, reason, (Surface.PROTOBUF,))


def _removed(field: Field, added: Sequence[Field], side: Side) -> Finding:
    twin = next((f.name for f in added if _unnamed(f) == _unnamed(field)), None)
    change = f"It is now named {twin}" if twin else "It was removed"
    effect = "callers that send it are refused" if side is Side.INPUTS else "callers that read it find nothing"
    return _breaks(f"{side}.{field.name}", FindingKind.REMOVED, f"{change}; {effect}.")


def _unnamed(field: Field) -> Field:
    return msgspec.structs.replace(field, name="", wire="", number=None, title="", description="")


def _added(added: Sequence[Field], side: Side) -> Iterator[Finding]:
    for field in added:
        path = f"{side}.{field.name}"
        if side is Side.OUTPUTS:
            reason = "Answers have one more output; callers that reject unknown outputs must list the ones they want."
            yield _note(path, FindingKind.ADDED, reason)
        elif field.is_required:
            reason = "It is required; existing requests do not send it and are refused. Give it a default."
            yield _breaks(path, FindingKind.ADDED, reason)
        else:
            yield _compatible(path, FindingKind.ADDED, "It is optional, so existing requests still work.")


def _moved(side: Side) -> Finding:
    if side is Side.INPUTS:
        reason = "The order of the inputs changed; they are sent by name, so callers are not affected."
        return _compatible("inputs", FindingKind.MOVED, reason)
    reason = "The order of the outputs changed; callers that read them by position get a different one."
    return _note("outputs", FindingKind.MOVED, reason)


def _ms(value: float | None) -> str:
    return "none" if value is None else f"{value:g} ms"


def _compatible(path: str, kind: FindingKind, reason: str) -> Finding:
    return Finding(path=path, kind=kind, change=Change.COMPATIBLE, reason=reason)


def _note(path: str, kind: FindingKind, reason: str) -> Finding:
    return Finding(path=path, kind=kind, change=Change.NOTE, reason=reason)


def _breaks(path: str, kind: FindingKind, reason: str, surfaces: tuple[Surface, ...] = EVERYWHERE) -> Finding:
    return Finding(path=path, kind=kind, change=Change.BREAKING, surfaces=surfaces, reason=reason)
