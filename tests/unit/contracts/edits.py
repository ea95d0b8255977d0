"""A contract, and edits of it with what each means for those who call today. The table is the specification of `compare`."""

from __future__ import annotations

from typing import Any

import msgspec

from limen.contracts.compatibility.findings import Change, FindingKind, Surface
from limen.contracts.contract import Batching, Contract, Example, Field, Sensitivity, Slo, Tolerance

BREAKING, NOTE, COMPATIBLE = Change.BREAKING, Change.NOTE, Change.COMPATIBLE
ADDED, REMOVED, CHANGED, MOVED = FindingKind.ADDED, FindingKind.REMOVED, FindingKind.CHANGED, FindingKind.MOVED
NARROWED, WIDENED = FindingKind.NARROWED, FindingKind.WIDENED
ALL = tuple(Surface)
RECORDS, TENSORS, PROTOBUF = ALL

LOAN = Contract(
    name="loan",
    title="Loan",
    description="How likely a loan is to default.",
    owner="risk",
    licence="Apache-2.0",
    tags=("lending",),
    task="classification",
    slo=Slo(p95_ms=20, deadline_ms=100),
    batching=Batching(max_rows=64, max_request_rows=500),
    tolerance=Tolerance(absolute=1e-4),
    inputs=(
        Field(name="amount", type="float32", unit="EUR", minimum=500, maximum=40000),
        Field(name="term", type="int16", enum=(36, 60)),
        Field(name="grade", type="string", enum=("A", "B", "C")),
        Field(name="years", type="float32", nullable=True),
        Field(name="limit", type="float32", finite=False),
        Field(name="purpose", type="string", max_length=40, default="other"),
        Field(name="code", type="string", min_length=2, pattern="^[A-Z]+$"),
        Field(name="face", type="float32", shape=(8, 8)),
        Field(name="trail", type="float32", shape=(-1,)),
        Field(name="file", type="bytes", max_length=100),
    ),
    outputs=(
        Field(name="risk", type="float32", unit="%", minimum=0, maximum=100),
        Field(name="decision", type="string", enum=("accept", "decline")),
        Field(name="scores", type="float32", shape=(3,), labels=("low", "middle", "high")),
        Field(name="hint", type="string", nullable=True, max_length=20),
        Field(name="route", type="float32", shape=(-1,), labels=("a", "b")),
        Field(name="rank", type="int32"),
        Field(name="margin", type="float64", finite=False),
    ),
)


def with_contract(contract: Contract = LOAN, **values: Any) -> Contract:
    return msgspec.structs.replace(contract, **values)


def _edit(side: str, name: str, values: dict[str, Any]) -> Contract:
    fields = getattr(LOAN, side)
    assert any(f.name == name for f in fields), name
    edited = tuple(msgspec.structs.replace(f, **values) if f.name == name else f for f in fields)
    return with_contract(**{side: edited})


def put(name: str, /, **values: Any) -> Contract:
    """Return the contract with an input edited."""
    return _edit("inputs", name, values)


def out(name: str, /, **values: Any) -> Contract:
    """Return the contract with an output edited."""
    return _edit("outputs", name, values)


def without(side: str, name: str) -> Contract:
    return with_contract(**{side: tuple(f for f in getattr(LOAN, side) if f.name != name)})


def more(side: str, *fields: Field) -> Contract:
    return with_contract(**{side: (*getattr(LOAN, side), *fields)})


def reversed_(side: str) -> Contract:
    return with_contract(**{side: tuple(reversed(getattr(LOAN, side)))})


NUMBERED = tuple(msgspec.structs.replace(f, number=n) for n, f in enumerate(LOAN.outputs, 1))
UNSET = msgspec.UNSET

Edit = tuple[str, Contract, Change, str, FindingKind | None, tuple[Surface, ...]]
EDITS: list[Edit] = [
    # what is edited, the new contract, its verdict, and the one finding: path, kind, what breaks
    ("nothing", LOAN, COMPATIBLE, "", None, ()),
    # -- the model ---------------------------------------------------------------------------------------------------------
    ("another name", with_contract(name="mortgage"), BREAKING, "name", CHANGED, ALL),
    ("another major", with_contract(major=2), BREAKING, "major", CHANGED, ALL),
    ("another title", with_contract(title="Loans"), COMPATIBLE, "title", CHANGED, ()),
    ("another description", with_contract(description="Default."), COMPATIBLE, "description", CHANGED, ()),
    ("another owner", with_contract(owner="lending"), COMPATIBLE, "owner", CHANGED, ()),
    ("other tags", with_contract(tags=()), COMPATIBLE, "tags", CHANGED, ()),
    ("another task", with_contract(task="scoring"), COMPATIBLE, "task", CHANGED, ()),
    ("another licence", with_contract(licence="MIT"), NOTE, "licence", CHANGED, ()),
    ("a sooner promise", with_contract(slo=Slo(p95_ms=10, deadline_ms=100)), COMPATIBLE, "slo.p95_ms", NARROWED, ()),
    ("a later promise", with_contract(slo=Slo(p95_ms=50, deadline_ms=100)), NOTE, "slo.p95_ms", WIDENED, ()),
    ("no promise", with_contract(slo=Slo(deadline_ms=100)), NOTE, "slo.p95_ms", WIDENED, ()),
    ("a sooner deadline", with_contract(slo=Slo(p95_ms=20, deadline_ms=50)), NOTE, "slo.deadline_ms", CHANGED, ()),
    ("no deadline", with_contract(slo=Slo(p95_ms=20)), NOTE, "slo.deadline_ms", CHANGED, ()),
    (
        "fewer rows in a request",
        with_contract(batching=Batching(max_rows=64, max_request_rows=499)),
        *(BREAKING, "batching.max_request_rows", NARROWED, ALL),
    ),
    (
        "more rows in a request",
        with_contract(batching=Batching(max_rows=64, max_request_rows=501)),
        *(COMPATIBLE, "batching.max_request_rows", WIDENED, ()),
    ),
    (
        "fewer rows in a run",
        with_contract(batching=Batching(max_rows=8, max_request_rows=500)),
        *(COMPATIBLE, "batching.max_rows", CHANGED, ()),
    ),
    (
        "waiting for company",
        with_contract(batching=Batching(max_rows=64, max_request_rows=500, max_wait_ms=2)),
        *(COMPATIBLE, "batching.max_wait_ms", CHANGED, ()),
    ),
    (
        "no batch axis",
        with_contract(batching=Batching(max_rows=64, max_request_rows=500, is_batched=False)),
        *(BREAKING, "batching", CHANGED, (TENSORS,)),
    ),
    ("a looser tolerance", with_contract(tolerance=Tolerance(absolute=1)), NOTE, "tolerance", CHANGED, ()),
    ("a golden example", with_contract(examples=(Example(),)), COMPATIBLE, "examples", CHANGED, ()),
    # -- the inputs --------------------------------------------------------------------------------------------------------
    (
        "an input's other name on the wire",
        put("amount", wire="input.1"),
        BREAKING,
        "inputs.amount.wire",
        CHANGED,
        (TENSORS,),
    ),
    ("an output's other name on the wire", out("risk", wire="r:0"), BREAKING, "outputs.risk.wire", CHANGED, (TENSORS,)),
    ("the same name on the wire", put("amount", wire="amount"), COMPATIBLE, "", None, ()),
    ("a new required input", more("inputs", Field(name="age", type="int8")), BREAKING, "inputs.age", ADDED, ALL),
    (
        "a new input with a default",
        more("inputs", Field(name="age", type="int8", default=40)),
        *(COMPATIBLE, "inputs.age", ADDED, ()),
    ),
    (
        "a new nullable input",
        more("inputs", Field(name="age", type="float32", nullable=True)),
        *(COMPATIBLE, "inputs.age", ADDED, ()),
    ),
    ("an input gone", without("inputs", "years"), BREAKING, "inputs.years", REMOVED, ALL),
    ("inputs in another order", reversed_("inputs"), COMPATIBLE, "inputs", MOVED, ()),
    (
        "a wider type of input",
        put("amount", type="float64"),
        BREAKING,
        "inputs.amount.type",
        CHANGED,
        (TENSORS, PROTOBUF),
    ),
    ("a narrower type of input", put("term", type="int8"), BREAKING, "inputs.term.type", CHANGED, (RECORDS, TENSORS)),
    (
        "a whole number as a float",
        put("term", type="float32"),
        BREAKING,
        "inputs.term.type",
        CHANGED,
        (TENSORS, PROTOBUF),
    ),
    ("a float as a whole number", put("amount", type="int32"), BREAKING, "inputs.amount.type", CHANGED, ALL),
    ("a text as bytes", put("purpose", type="bytes"), BREAKING, "inputs.purpose.type", CHANGED, (RECORDS, PROTOBUF)),
    ("bytes as a text", put("file", type="string"), BREAKING, "inputs.file.type", CHANGED, ALL),
    ("a matrix of another size", put("face", shape=(8, 9)), BREAKING, "inputs.face.shape", CHANGED, ALL),
    ("a matrix as a vector", put("face", shape=(64,)), BREAKING, "inputs.face.shape", CHANGED, ALL),
    ("a value as a vector", put("years", shape=(-1,)), BREAKING, "inputs.years.shape", CHANGED, ALL),
    ("a size that is free", put("face", shape=(-1, 8)), COMPATIBLE, "inputs.face.shape", WIDENED, ()),
    ("two sizes that are free", put("face", shape=(-1, -1)), BREAKING, "inputs.face.shape", CHANGED, (PROTOBUF,)),
    ("a size that is no longer free", put("trail", shape=(4,)), BREAKING, "inputs.trail.shape", CHANGED, ALL),
    ("another unit of an input", put("amount", unit="USD"), BREAKING, "inputs.amount.unit", CHANGED, ALL),
    ("a unit stated", put("years", unit="years"), NOTE, "inputs.years.unit", ADDED, ()),
    ("a unit no longer stated", put("amount", unit=""), NOTE, "inputs.amount.unit", REMOVED, ()),
    ("a higher minimum", put("amount", minimum=501), BREAKING, "inputs.amount.minimum", NARROWED, ALL),
    ("a lower minimum", put("amount", minimum=0), COMPATIBLE, "inputs.amount.minimum", WIDENED, ()),
    ("a new minimum", put("years", minimum=0), BREAKING, "inputs.years.minimum", NARROWED, ALL),
    ("a minimum below what is allowed", put("term", minimum=36), COMPATIBLE, "inputs.term.minimum", WIDENED, ()),
    ("a lower maximum", put("amount", maximum=39999), BREAKING, "inputs.amount.maximum", NARROWED, ALL),
    ("no maximum", put("amount", maximum=None), COMPATIBLE, "inputs.amount.maximum", WIDENED, ()),
    ("a value of a list gone", put("grade", enum=("A", "B")), BREAKING, "inputs.grade.enum", NARROWED, ALL),
    ("a value of a list more", put("grade", enum=("A", "B", "C", "D")), COMPATIBLE, "inputs.grade.enum", WIDENED, ()),
    ("a list in another order", put("grade", enum=("C", "B", "A")), COMPATIBLE, "inputs.grade.enum", WIDENED, ()),
    (
        "a list where all was allowed",
        put("purpose", enum=("other", "car")),
        BREAKING,
        "inputs.purpose.enum",
        NARROWED,
        ALL,
    ),
    ("no list", put("term", enum=None), COMPATIBLE, "inputs.term.enum", WIDENED, ()),
    ("another pattern", put("code", pattern="^[A-Z]*$"), BREAKING, "inputs.code.pattern", NARROWED, ALL),
    (
        "a pattern that fits the whole list",
        put("grade", pattern="[A-F]"),
        COMPATIBLE,
        "inputs.grade.pattern",
        WIDENED,
        (),
    ),
    ("no pattern", put("code", pattern=None), COMPATIBLE, "inputs.code.pattern", WIDENED, ()),
    ("longer texts only", put("code", min_length=3), BREAKING, "inputs.code.min_length", NARROWED, ALL),
    ("shorter texts, too", put("code", min_length=None), COMPATIBLE, "inputs.code.min_length", WIDENED, ()),
    ("shorter texts only", put("purpose", max_length=39), BREAKING, "inputs.purpose.max_length", NARROWED, ALL),
    ("shorter bytes only", put("file", max_length=99), BREAKING, "inputs.file.max_length", NARROWED, ALL),
    ("longer texts, too", put("purpose", max_length=41), COMPATIBLE, "inputs.purpose.max_length", WIDENED, ()),
    ("never missing", put("years", nullable=False), BREAKING, "inputs.years.nullable", NARROWED, ALL),
    (
        "a default for null",
        put("years", nullable=False, default=1.0),
        *(BREAKING, "inputs.years.nullable", NARROWED, (RECORDS, TENSORS)),
    ),
    ("may be missing", put("amount", nullable=True), COMPATIBLE, "inputs.amount.nullable", WIDENED, ()),
    ("no default", put("purpose", default=UNSET), BREAKING, "inputs.purpose.default", REMOVED, ALL),
    ("a default", put("code", default="AA"), COMPATIBLE, "inputs.code.default", ADDED, ()),
    ("another default", put("purpose", default="car"), NOTE, "inputs.purpose.default", CHANGED, ()),
    ("a default for what may be missing", put("years", default=0.0), NOTE, "inputs.years.default", ADDED, ()),
    ("no infinity", put("limit", finite=True), BREAKING, "inputs.limit.finite", NARROWED, (TENSORS, PROTOBUF)),
    ("infinity, too", put("amount", finite=False), COMPATIBLE, "inputs.amount.finite", WIDENED, ()),
    ("about a person", put("amount", sensitivity=Sensitivity.PERSONAL), NOTE, "inputs.amount.sensitivity", CHANGED, ()),
    ("for everyone", put("amount", sensitivity=Sensitivity.PUBLIC), NOTE, "inputs.amount.sensitivity", CHANGED, ()),
    ("another title of a field", put("amount", title="Sum"), COMPATIBLE, "inputs.amount.title", CHANGED, ()),
    (
        "another description of a field",
        put("amount", description="…"),
        COMPATIBLE,
        "inputs.amount.description",
        CHANGED,
        (),
    ),
    ("an example of a field", put("amount", examples=(700,)), COMPATIBLE, "inputs.amount.examples", CHANGED, ()),
    ("its own number", put("amount", number=1), COMPATIBLE, "", None, ()),
    ("another number", put("amount", number=90), BREAKING, "inputs.amount.number", CHANGED, (PROTOBUF,)),
    # -- the outputs -------------------------------------------------------------------------------------------------------
    ("a new output", more("outputs", Field(name="why", type="string")), NOTE, "outputs.why", ADDED, ()),
    ("an output gone", without("outputs", "hint"), BREAKING, "outputs.hint", REMOVED, ALL),
    ("outputs in another order", reversed_("outputs"), NOTE, "outputs", MOVED, ()),
    ("a narrower type of output", out("rank", type="int16"), BREAKING, "outputs.rank.type", CHANGED, (TENSORS,)),
    ("a wider type of output", out("rank", type="int64"), BREAKING, "outputs.rank.type", CHANGED, ALL),
    ("text where bytes were not", out("hint", type="bytes"), BREAKING, "outputs.hint.type", CHANGED, ALL),
    ("fewer classes", out("scores", shape=(2,), labels=()), BREAKING, "outputs.scores.shape", CHANGED, ALL),
    ("a size that is free now", out("scores", shape=(-1,)), BREAKING, "outputs.scores.shape", CHANGED, ALL),
    ("a size that is fixed now", out("route", shape=(2,)), COMPATIBLE, "outputs.route.shape", NARROWED, ()),
    ("another unit of an output", out("risk", unit="‰"), BREAKING, "outputs.risk.unit", CHANGED, ALL),
    ("a wider range", out("risk", maximum=101), BREAKING, "outputs.risk.maximum", WIDENED, ALL),
    ("no range", out("risk", minimum=None), BREAKING, "outputs.risk.minimum", WIDENED, ALL),
    ("a narrower range", out("risk", maximum=99), COMPATIBLE, "outputs.risk.maximum", NARROWED, ()),
    (
        "one more possible value",
        out("decision", enum=("accept", "refer", "decline")),
        *(BREAKING, "outputs.decision.enum", WIDENED, ALL),
    ),
    ("one possible value less", out("decision", enum=("accept",)), COMPATIBLE, "outputs.decision.enum", NARROWED, ()),
    ("any value", out("decision", enum=None), BREAKING, "outputs.decision.enum", WIDENED, ALL),
    ("longer texts", out("hint", max_length=21), BREAKING, "outputs.hint.max_length", WIDENED, ALL),
    ("shorter texts", out("hint", max_length=19), COMPATIBLE, "outputs.hint.max_length", NARROWED, ()),
    ("a promise of a pattern", out("hint", pattern="^[a-z]*$"), COMPATIBLE, "outputs.hint.pattern", NARROWED, ()),
    ("missing at times", out("risk", nullable=True), BREAKING, "outputs.risk.nullable", WIDENED, ALL),
    ("never missing any more", out("hint", nullable=False), BREAKING, "outputs.hint.nullable", NARROWED, (PROTOBUF,)),
    ("infinite at times", out("risk", finite=False), BREAKING, "outputs.risk.finite", WIDENED, ALL),
    ("never infinite any more", out("margin", finite=True), COMPATIBLE, "outputs.margin.finite", NARROWED, ()),
    (
        "classes in another order",
        out("scores", labels=("high", "middle", "low")),
        *(BREAKING, "outputs.scores.labels", MOVED, ALL),
    ),
    ("another name of a class", out("route", labels=("a", "c")), BREAKING, "outputs.route.labels", CHANGED, ALL),
    ("a class more", out("route", labels=("a", "b", "c")), BREAKING, "outputs.route.labels", WIDENED, ALL),
    ("a class less", out("route", labels=("a",)), COMPATIBLE, "outputs.route.labels", NARROWED, ()),
    ("no names of classes", out("route", labels=()), BREAKING, "outputs.route.labels", REMOVED, (TENSORS,)),
    (
        "the number of another output",
        with_contract(outputs=(*NUMBERED[:-1], msgspec.structs.replace(NUMBERED[-1], number=70))),
        *(BREAKING, "outputs.margin.number", CHANGED, (PROTOBUF,)),
    ),
]
