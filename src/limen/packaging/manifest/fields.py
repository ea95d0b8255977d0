"""The inputs and outputs of `model.yaml`: their keys, and the checks that involve several keys.

Called by `packaging.manifest.decoder`, which hands over what could be read of each field, even when other keys of it are wrong, so that
all mistakes are found at once. Values (defaults, examples) are judged by `contracts.validation.rows`, the same walk that judges requests.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
import numpy as np

from limen.contracts.contract import Contract, Field, Json, Sensitivity
from limen.contracts.errors import Violation
from limen.contracts.names import FIELD_NAME, FIELD_NAME_RULE, WIRE_NAME, WIRE_NAME_RULE
from limen.contracts.strict.patterns import PatternError, compile_pattern
from limen.contracts.strict.rules import (
    INVALID,
    Anything,
    ByKind,
    Flag,
    Key,
    Keys,
    ListOf,
    Number,
    OneOf,
    Report,
    Text,
    at,
    did_you_mean,
    shown,
)
from limen.contracts.tensors import BY_NAME, ElementType, Kind
from limen.contracts.validation.rows import RowCheck

MAX_FIELDS: Final = 4096
MAX_ELEMENTS: Final = 1 << 31
FIELD_NAME_TEXT: Final = Text(form=FIELD_NAME.pattern, rule=FIELD_NAME_RULE)
WIRE_NAME_TEXT: Final = Text(form=WIRE_NAME.pattern, rule=WIRE_NAME_RULE)
_RESERVED_NUMBERS: Final = range(19_000, 20_000)
_NUMERIC: Final = (Kind.INT, Kind.FLOAT)


class _Dimension(msgspec.Struct, frozen=True):
    """One dimension of a shape: a size, or -1."""

    def read(self, value: Json, path: str, report: Report) -> Any:
        if isinstance(value, int) and not isinstance(value, bool) and (value == -1 or 1 <= value <= MAX_ELEMENTS):
            return value
        report.add(path, f"must be -1 (variable) or a whole number from 1, not {shown(value)}")
        return INVALID

    def schema(self) -> dict[str, Json]:
        return {"type": "integer", "minimum": -1, "maximum": MAX_ELEMENTS, "not": {"const": 0}}


class _Plain(msgspec.Struct, frozen=True):
    """One entry of an enum: text or a number."""

    def read(self, value: Json, path: str, report: Report) -> Any:
        if isinstance(value, (str, int, float)) and not isinstance(value, bool):
            return value
        hint = "; put it in quotes if it is text" if isinstance(value, bool) or value is None else ""
        report.add(path, f"must be text or a number, not {shown(value)}{hint}")
        return INVALID

    def schema(self) -> dict[str, Json]:
        return {"type": ["string", "number"]}


DIMENSION: Final = _Dimension()
FIELD: Final = Keys(
    (
        Key("name", FIELD_NAME_TEXT, "the name callers use", required=True),
        Key("wire", WIRE_NAME_TEXT, "the tensor's name in OIP, when callers know it by another one, such as `input.1`"),
        Key("type", OneOf(tuple(BY_NAME)), "the type of each element", required=True),
        Key(
            "shape",
            ListOf(item=DIMENSION, max_items=31),
            "shape of one row, without the batch axis; [] is one value",
        ),
        Key(
            "number",
            Number(whole=True, low=1, high=(1 << 29) - 1),
            "Protobuf field number; the field's position by default",
        ),
        Key("title", Text(max_length=200), "a short name for people"),
        Key("description", Text(), "what the field means"),
        Key("unit", Text(max_length=100), "the unit of the numbers"),
        Key("minimum", Number(), "the smallest allowed number"),
        Key("maximum", Number(), "the largest allowed number"),
        Key("enum", ListOf(item=_Plain(), min_items=1), "the allowed values"),
        Key("pattern", Text(max_length=1000), "a regular expression that text must match"),
        Key("min_length", Number(whole=True, low=0), "the minimum number of characters (bytes) of text (bytes)"),
        Key("max_length", Number(whole=True, low=0), "the maximum number of characters (bytes) of text (bytes)"),
        Key("nullable", Flag(), "whether null is allowed"),
        Key("default", Anything(), "used when a record omits the field"),
        Key("finite", Flag(), "whether NaN and infinity are refused (true by default)"),
        Key("sensitivity", OneOf(tuple(Sensitivity)), "how sensitive the values are"),
        Key("examples", ListOf(item=Anything(), max_items=100), "values as callers may send them"),
        Key("labels", ListOf(item=Text(max_length=500), max_items=1 << 20), "names of the classes along the last axis"),
    )
)
FIELDS: Final = ListOf(item=FIELD, min_items=1, max_items=MAX_FIELDS)

Values = dict[str, Any]
"""What could be read of one field."""
Fields = Mapping[str, Field | None]
"""The fields of one list by name; None for one that is too wrong for further checks."""
_VALUE: Final = "value"
"""The name of a field whose own name could not be read."""


def check_fields(fields: Any, path: str, report: Report) -> Fields:
    """Report what is wrong within and between the fields of one list; return them by name."""
    if fields is INVALID:
        return {}
    readable = [(at(path, i), field) for i, field in enumerate(fields) if field is not INVALID]
    for where, field in readable:
        _FieldCheck(field, where, report, is_output=path == "outputs").run()
    _check_names(readable, report)
    _check_wire_names(readable, report)
    _check_numbers(readable, report)
    return {field["name"]: _as_field(field) if "type" in field else None for _, field in readable if "name" in field}


def _check_names(fields: list[tuple[str, Values]], report: Report) -> None:
    seen: dict[str, str] = {}
    for where, field in fields:
        name = field.get("name", "")
        # Protobuf's JSON spells loan_amount as loanAmount and refuses two fields with one spelling.
        spelling = re.sub(r"_+(.?)", lambda m: m[1].upper(), name)
        if name and spelling in seen:
            other = seen[spelling]
            text = "is repeated" if other == name else f"is the same as {shown(other)} in Protobuf's JSON"
            report.add(f"{where}.name", f"{shown(name)} {text}")
        elif name:
            seen[spelling] = name


def _check_wire_names(fields: list[tuple[str, Values]], report: Report) -> None:
    seen: dict[str, str] = {}
    for where, field in fields:
        name = field.get("wire") or field.get("name", "")
        if name and name in seen:
            # Two fields of one name have been reported.
            if "wire" in field or not report.has(f"{where}.name"):
                text = f"callers of tensors would know {seen[name]} and this field by one name, {shown(name)}"
                report.add(f"{where}.{'wire' if 'wire' in field else 'name'}", text)
        elif name:
            seen[name] = field.get("name", where)


def _check_numbers(fields: list[tuple[str, Values]], report: Report) -> None:
    numbers: dict[int, str] = {}
    numbered = any("number" in field for _, field in fields)
    for where, field in fields:
        number = field.get("number")
        if number is None:
            if numbered and not report.has(f"{where}.number"):
                report.add(f"{where}.number", "is required, because another field of the list has one: all or none")
        elif number in _RESERVED_NUMBERS:
            report.add(f"{where}.number", f"must not be from 19000 to 19999, which Protobuf keeps, not {number}")
        elif number in numbers:
            report.add(f"{where}.number", f"{number} is also the number of {numbers[number]}")
        else:
            numbers[number] = where


class _FieldCheck:
    """Checks the keys of one field against each other. A key that is refused is taken out, so that it causes no echo."""

    def __init__(self, values: Values, path: str, report: Report, *, is_output: bool) -> None:
        self._values = values
        self._path = path
        self._report = report
        self._is_output = is_output

    def run(self) -> None:
        values = self._values
        for key in ("shape", "labels"):
            if INVALID in values.get(key, ()):
                del values[key]
        self._refuse_if("default", self._is_output, "is for inputs only; an output is always given")
        self._refuse_if("labels", not self._is_output, "is for outputs only")
        element = BY_NAME.get(values.get("type", ""))
        if element is None:
            return
        self._check_kinds(element)
        self._check_bounds(element)
        self._check_pattern()
        self._check_order("min_length", "max_length")
        self._check_enum()
        self._check_shape()
        self._check_values()

    def _refuse(self, key: str, text: str) -> None:
        self._report.add(f"{self._path}.{key}", text)
        self._values.pop(key, None)

    def _refuse_if(self, key: str, wrong: bool, text: str) -> None:
        if wrong and key in self._values:
            self._refuse(key, text)

    def _check_kinds(self, element: ElementType) -> None:
        kind, name = element.kind, element.name
        for key in ("minimum", "maximum"):
            self._refuse_if(key, kind not in _NUMERIC, f"is for numbers only; the type is {name}")
        self._refuse_if("pattern", kind is not Kind.TEXT or name == "json", f"is for string only; the type is {name}")
        for key in ("min_length", "max_length"):
            self._refuse_if(
                key, element.size > 0 or name == "json", f"is for string and bytes only; the type is {name}"
            )
        no_enum = f"is for numbers and string only; the type is {name}"
        self._refuse_if("enum", kind in (Kind.BOOL, Kind.BINARY) or name == "json", no_enum)
        if self._values.get("finite") is False and kind is not Kind.FLOAT:
            self._refuse("finite", f"can be false for floating-point types only; {name} has no NaN or infinity")
        if self._values.get("nullable") and kind in (Kind.BOOL, Kind.INT):
            way = "take a float type or" if kind is Kind.INT else "take a string with an enum or"
            self._refuse("nullable", f"{name} has no value that could mean 'missing'; {way} give a default")

    def _check_bounds(self, element: ElementType) -> None:
        for key in ("minimum", "maximum"):
            bound = self._values.get(key)
            if bound is not None and (text := _bound_problem(element, bound)):
                self._refuse(key, f"{text}, not {shown(bound)}")
        self._check_order("minimum", "maximum")

    def _check_order(self, low: str, high: str) -> None:
        values = self._values
        if low in values and high in values and values[low] > values[high]:
            self._refuse(high, f"must be at least {low} ({shown(values[low])}), not {shown(values[high])}")

    def _check_pattern(self) -> None:
        pattern = self._values.get("pattern")
        if pattern is None:
            return
        try:
            compile_pattern(pattern)
        except PatternError as exc:
            self._refuse("pattern", f"{shown(pattern)} cannot be used: {exc}")

    def _check_enum(self) -> None:
        enum = self._values.get("enum", [])
        bad = len(self._report.violations)
        bare = _as_field({k: v for k, v in self._values.items() if k not in ("shape", "enum")})
        seen: set[Json] = set()
        for i, value in enumerate(enum):
            if value in seen and value is not INVALID:
                self._report.add(f"{self._path}.enum[{i}]", f"{shown(value)} is repeated")
            elif value is not INVALID:
                self._judge(bare, value, f"enum[{i}]")
            seen.add(value)
        if INVALID in seen or len(self._report.violations) > bad:
            del self._values["enum"]

    def _check_shape(self) -> None:
        shape = self._values.get("shape", [])
        if math.prod(d for d in shape if d > 0) > MAX_ELEMENTS:
            self._refuse("shape", f"holds more than {MAX_ELEMENTS} elements a row")
        labels = self._values.get("labels", [])
        if labels and shape and shape[-1] not in (-1, len(labels)):
            self._refuse("labels", f"must name the {shape[-1]} classes of the last axis, not {len(labels)}")

    def _check_values(self) -> None:
        field = _as_field(self._values)
        if "default" in self._values:
            self._judge(field, self._values["default"], "default")
        for i, value in enumerate(self._values.get("examples", [])):
            self._judge(field, value, f"examples[{i}]")

    def _judge(self, field: Field, value: Json, key: str) -> None:
        field = msgspec.structs.replace(field, name=_VALUE)
        for problem in record_problems([field], {_VALUE: value}):
            self._report.add(f"{self._path}.{key}{problem.path.removeprefix(_VALUE)}", problem.reason)


def _bound_problem(element: ElementType, bound: float) -> str | None:
    if element.kind is Kind.INT:
        fits = isinstance(bound, int) and element.low <= bound <= element.high
        return None if fits else f"must be a whole number from {element.low} to {element.high} for {element.name}"
    with np.errstate(over="ignore"):
        fits = math.isfinite(float(np.array(float(bound)).astype(element.dtype)))
    return None if fits else f"must fit {element.name}"


def _as_field(values: Values) -> Field:
    """Build a field from what could be read of it; the keys that only describe it are left out."""
    known = {k: v for k, v in values.items() if k not in ("examples", "number")}
    return msgspec.convert({"name": _VALUE} | known, Field)


def record_mistakes(record: dict[str, Json], path: str, fields: Fields, known: Fields, report: Report) -> None:
    """Report what is wrong with one record that stands in the manifest.

    Args:
        record: the values by name.
        path: where the record stands.
        fields: what it must hold, as far as it could be read.
        known: what it may name.
        report: where the mistakes go.
    """
    for name in record:
        if name not in known:
            report.add(at(path, name), f"is not one of the fields{did_you_mean(name, known)}")
    usable = [f for f in fields.values() if f is not None]
    names = {f.name for f in usable}
    for problem in record_problems(usable, {k: v for k, v in record.items() if k in names}):
        report.add(f"{path}.{problem.path}", problem.reason)


def record_problems(fields: list[Field], record: dict[str, Json]) -> list[Violation]:
    """Return what a server with these inputs would say about a record, and the values it would not show."""
    found: list[Violation] = []
    RowCheck(Contract(name="record", inputs=tuple(fields), outputs=())).row(record, "", found)
    return [_with_value(v.path.removeprefix("."), v.reason, record) for v in found]


def _with_value(path: str, reason: str, record: dict[str, Json]) -> Violation:
    name, *indexes = re.findall(r"[^\[\]]+", path)
    value: Any = record.get(name)
    for index in indexes:
        value = value[int(index)]
    says_it = reason.startswith("must not") or ", got " in reason
    return Violation(path, reason if value is None or says_it else f"{reason}, not {shown(value)}")


def field_reference(fields: Fields, what: str) -> Callable[[str, str, Report], Field | None]:
    """Return a function that finds a field by name, and reports an unknown one with what is meant."""

    def find(name: str, path: str, report: Report) -> Field | None:
        if name not in fields:
            report.add(path, f"{shown(name)} is not an {what} of the model{did_you_mean(name, fields)}")
        return fields.get(name)

    return find


FIELD_NAMES: Final = ByKind(
    "the name of one field or a list of names",
    text=FIELD_NAME_TEXT,
    items=ListOf(item=FIELD_NAME_TEXT, min_items=1, max_items=MAX_FIELDS),
)
