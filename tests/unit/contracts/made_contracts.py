"""Contracts, edits of them and records for them, made by Hypothesis."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
from hypothesis import strategies as st

from limen.contracts.contract import Batching, Contract, Field
from limen.contracts.strict.patterns import compile_pattern
from limen.contracts.tensors import Kind
from limen.contracts.validation.rows import element_problem

TYPES = ("bool", "int8", "int32", "uint8", "float32", "float64", "string", "string", "bytes")
SHAPES = ((), (), (), (), (), (2,), (-1,), (2, 2), (-1, 2), (-1, -1))
WORDS = ("", "A", "B", "CC", "dd", "EEE")
PATTERNS = (None, None, "^[A-Z]+$", "[a-z]")
LIMITS = ("minimum", "maximum", "enum", "pattern", "min_length", "max_length")
PARTS = (*LIMITS, *LIMITS, "type", "shape", "nullable", "default", "finite", "unit", "labels")
BELONGS: dict[str, tuple[tuple[Kind, ...], Any]] = {
    "minimum": ((Kind.INT, Kind.FLOAT), None),
    "maximum": ((Kind.INT, Kind.FLOAT), None),
    "enum": ((Kind.INT, Kind.FLOAT, Kind.TEXT), None),
    "pattern": ((Kind.TEXT,), None),
    "min_length": ((Kind.TEXT, Kind.BINARY), None),
    "max_length": ((Kind.TEXT, Kind.BINARY), None),
    "finite": ((Kind.FLOAT,), True),
    "nullable": ((Kind.FLOAT, Kind.TEXT, Kind.BINARY), False),
}
"""Which kinds can have a part of a field, and what the others have in its place."""

numbers = st.integers(-3, 6)
some_numbers = st.none() | numbers
some_lengths = st.none() | st.integers(0, 3)


@st.composite
def fields(draw: st.DrawFn, name: str, *, is_output: bool) -> Field:
    """Make a field that `model.yaml` could declare."""
    values: dict[str, Any] = {
        "type": draw(st.sampled_from(TYPES)),
        "shape": draw(st.sampled_from(SHAPES)),
        "minimum": draw(some_numbers),
        "maximum": draw(some_numbers),
        "enum": draw(st.none() | st.lists(st.sampled_from(WORDS) | numbers, min_size=1, unique=True).map(tuple)),
        "pattern": draw(st.sampled_from(PATTERNS)),
        "min_length": draw(some_lengths),
        "max_length": draw(some_lengths),
        "nullable": draw(st.booleans()),
        "default": draw(st.just(msgspec.UNSET) | numbers | st.sampled_from(WORDS)),
        "finite": draw(st.booleans()),
        "unit": draw(st.sampled_from(("", "", "EUR", "USD"))),
        "labels": draw(st.sampled_from(((), (), ("a", "b"), ("b", "a"), ("a", "b", "c")))),
    }
    return proper(Field(name=name, **values), is_output=is_output)


def proper(field: Field, *, is_output: bool) -> Field:
    """Return the field without what its type cannot have or what contradicts itself."""
    kind = field.element.kind
    gone = {part: other for part, (kinds, other) in BELONGS.items() if kind not in kinds}
    field = msgspec.structs.replace(field, **gone if is_output else gone | {"labels": ()})
    if field.type == "uint8":
        bounds = {key: getattr(field, key) for key in ("minimum", "maximum")}
        field = msgspec.structs.replace(field, **{k: None if v is None else max(0, int(v)) for k, v in bounds.items()})
    for low, high in (("minimum", "maximum"), ("min_length", "max_length")):
        least, most = getattr(field, low), getattr(field, high)
        if least is not None and most is not None and least > most:
            field = msgspec.structs.replace(field, **{high: least})
    bare = msgspec.structs.replace(field, enum=None)
    field = msgspec.structs.replace(bare, enum=tuple(v for v in field.enum or () if is_good(bare, v)) or None)
    default = field.default
    if kind is Kind.BINARY and isinstance(default, str):
        default = base64.b64encode(default.encode()).decode()
    if is_output or default is msgspec.UNSET or not is_good(field, default):
        return msgspec.structs.replace(field, default=msgspec.UNSET)
    return msgspec.structs.replace(field, default=shaped(default, field))


def shaped(value: Any, field: Field) -> Any:
    """Return a row of the field with the value everywhere."""
    for size in reversed(field.shape):
        value = [value] * abs(size)
    return value


def is_good(field: Field, value: Any) -> bool:
    """Return whether the record API takes a value for one element."""
    pattern = compile_pattern(field.pattern) if field.pattern is not None else None
    return element_problem(field, value, pattern)[0] is None


@st.composite
def contracts(draw: st.DrawFn) -> Contract:
    """Make a contract of a few fields."""
    inputs = [draw(fields(name, is_output=False)) for name in ("a", "b", "c")[: draw(st.integers(1, 3))]]
    outputs = [draw(fields(name, is_output=True)) for name in ("x", "y", "z")[: draw(st.integers(1, 3))]]
    batching = Batching(max_request_rows=draw(st.sampled_from((2, 100))))
    return Contract(name="made", inputs=tuple(inputs), outputs=tuple(outputs), batching=batching)


@st.composite
def edited_pairs(draw: st.DrawFn) -> tuple[Contract, Contract]:
    """Make a contract and one that differs from it in a part or two."""
    old = new = draw(contracts())
    for _ in range(draw(st.integers(1, 2))):
        side = draw(st.sampled_from(("inputs", "outputs")))
        new = msgspec.structs.replace(new, **{side: draw(_edited(getattr(new, side), is_output=side == "outputs"))})
    if draw(st.booleans()):
        new = msgspec.structs.replace(new, batching=Batching(max_request_rows=draw(st.sampled_from((2, 100)))))
    return old, new


@st.composite
def _edited(draw: st.DrawFn, before: tuple[Field, ...], *, is_output: bool) -> tuple[Field, ...]:
    way = draw(st.sampled_from((*("part",) * 12, "add", "add", "remove", "order", "number")))
    place = draw(st.integers(0, len(before) - 1))
    if way == "order":
        return tuple(draw(st.permutations(before)))
    if way == "add":
        return (*before[:place], draw(fields(f"new{len(before)}", is_output=is_output)), *before[place:])
    if way == "remove" and len(before) > 1:
        return before[:place] + before[place + 1 :]
    if way == "number":
        return tuple(msgspec.structs.replace(f, number=n) for n, f in enumerate(before, draw(st.integers(1, 2))))
    other = draw(fields("other", is_output=is_output))
    parts = draw(st.sets(st.sampled_from(PARTS), min_size=1, max_size=2))
    field = msgspec.structs.replace(before[place], **{part: getattr(other, part) for part in parts})
    if "default" not in parts and field.shape != before[place].shape:
        field = msgspec.structs.replace(field, default=msgspec.UNSET)
    return (*before[:place], _settled(field, is_output=is_output), *before[place + 1 :])


def _settled(field: Field, *, is_output: bool) -> Field:
    """Return an edited field without what its new parts forbid; its default is one for its shape already."""
    bare = proper(msgspec.structs.replace(field, default=msgspec.UNSET), is_output=is_output)
    default = field.default
    while isinstance(default, list):
        default = default[0]
    if field.default is msgspec.UNSET or not is_good(bare, default):
        return bare
    return msgspec.structs.replace(bare, default=shaped(default, bare))


@st.composite
def records_of(draw: st.DrawFn, wanted: tuple[Field, ...], *, is_whole: bool = False) -> dict[str, Any]:
    """Make a record that the fields take, or very nearly; a whole one leaves nothing out."""
    record = {}
    for field in wanted:
        if not is_whole and not field.is_required and draw(st.booleans()):
            continue
        if field.nullable and draw(st.integers(0, 3)) == 0:
            record[field.name] = None
            continue
        value = _elements(field)
        for size in reversed(field.shape):
            value = st.lists(value, min_size=2 if size < 0 else size, max_size=2 if size < 0 else size)
        record[field.name] = draw(value)
    return record


def _elements(field: Field) -> st.SearchStrategy[Any]:
    kind = field.element.kind
    if field.enum is not None:
        return st.sampled_from(field.enum)
    if kind is Kind.BOOL:
        return st.booleans()
    if kind is Kind.TEXT:
        return st.sampled_from(WORDS).map(lambda word: word if is_good(field, word) else "AB")
    if kind is Kind.BINARY:
        return st.sampled_from(WORDS).map(lambda word: base64.b64encode(word.encode()).decode())
    low = -3 if field.minimum is None else int(field.minimum)
    high = 6 if field.maximum is None else int(field.maximum)
    return st.integers(max(low, field.element.low) if kind is Kind.INT else low, max(low, high, 0))


@st.composite
def limited_pairs(draw: st.DrawFn, kind: str) -> tuple[Field, Field]:
    """Make a field and the same one with other limits."""
    made = []
    for _ in range(2):
        drawn = draw(fields("a", is_output=True))
        limits = {limit: getattr(drawn, limit) for limit in LIMITS}
        limits["enum"] = draw(st.none() | st.none() | st.sets(numbers | st.sampled_from(WORDS)).map(tuple))
        made.append(proper(Field(name="a", type=kind, **limits), is_output=True))
    return made[0], made[1]
