"""The exact validation of records: finds every mistake in rows that the typed decoder refused.

Called by `contracts.validation.records` only after its fast decoder said no, so clarity counts here and speed does not.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Container
from typing import Any, Final

import numpy as np

from limen.contracts import names
from limen.contracts.contract import Contract, Field, Json
from limen.contracts.errors import InvalidArgument, Violation
from limen.contracts.strict.patterns import Pattern, compile_pattern
from limen.contracts.tensors import Kind, is_whole
from limen.contracts.validation import json_values
from limen.contracts.validation.tensors import default_value, text_problem

ENVELOPE: Final = ("instances", "parameters", "id", "signature_name")
_WORDS: Final = {Kind.BOOL: "true or false", Kind.INT: "a whole number", Kind.FLOAT: "a number", Kind.TEXT: "text"}


class RowCheck:
    """Walks the records of one contract and collects violations."""

    def __init__(self, contract: Contract) -> None:
        """Prepare the patterns and enums of the fields."""
        self._fields = contract.inputs
        self._names = {f.name for f in contract.inputs}
        self._patterns = {f.name: compile_pattern(f.pattern) for f in contract.inputs if f.pattern is not None}

    def envelope(self, value: Json, found: list[Violation]) -> list[Json]:
        """Check what surrounds the rows and return them; an empty list when they are not there."""
        if not isinstance(value, dict):
            found.append(Violation("", "the body must be an object with instances"))
            return []
        found.extend(
            Violation(names.shown(key), "is not a field of this request") for key in value if key not in ENVELOPE
        )
        if not isinstance(value.get("signature_name", ""), str):
            found.append(Violation("signature_name", "must be text"))
        if "id" in value:
            self._check_id(value["id"], found)
        self._check_parameters(value.get("parameters", {}), found)
        rows = value.get("instances")
        if rows is None:
            found.append(Violation("instances", "is required"))
            return []
        if not isinstance(rows, list):
            found.append(Violation("instances", "must be a list of records"))
            return []
        return rows

    def row(self, row: Json, path: str, found: list[Violation]) -> list[Any]:
        """Check one record and return its values in field order; a missing optional value is its default or None.

        A model with a single input also takes the bare value in place of the record.
        """
        if not isinstance(row, dict):
            if len(self._fields) != 1:
                found.append(Violation(path, "must be an object of named fields"))
                return []
            row = {self._fields[0].name: row}
        found.extend(
            Violation(f"{path}.{names.shown(k)}", "is not a field of this model") for k in row if k not in self._names
        )
        return [self._value(field, row, path, found) for field in self._fields]

    def fields(
        self, row: dict[str, Json], path: str, found: list[Violation], *, known: Container[str]
    ) -> dict[str, Any]:
        """Check a record without some of its fields, which were read by themselves; return its values by name."""
        for key in row:
            if key in known:
                found.append(Violation(f"{path}.{names.shown(key)}", "is repeated"))
            elif key not in self._names:
                found.append(Violation(f"{path}.{names.shown(key)}", "is not a field of this model"))
        return {f.name: self._value(f, row, path, found) for f in self._fields if f.name not in known}

    def value(self, field: Field, value: Json, where: str, found: list[Violation]) -> Any:
        """Check one value, or one element of a larger one; return what to keep."""
        return self._nested(field, value, field.shape, where, found)

    def _value(self, field: Field, row: dict[str, Json], path: str, found: list[Violation]) -> Any:
        where = f"{path}.{field.name}"
        if field.name not in row:
            if field.is_required:
                found.append(Violation(where, "is required"))
            return default_value(field)
        value = row[field.name]
        if _is_missing(field, value):
            return self._missing(field, where, found)
        return self._nested(field, value, field.shape, where, found)

    def _nested(self, field: Field, value: Json, shape: tuple[int, ...], where: str, found: list[Violation]) -> Any:
        if not shape:
            return self._element(field, value, where, found)
        if not isinstance(value, list):
            size = "" if shape[0] < 0 else f"{shape[0]} "
            found.append(Violation(where, f"must be a list of {size}values"))
            return None
        if shape[0] >= 0 and len(value) != shape[0]:
            found.append(Violation(where, f"must have {shape[0]} values, got {len(value)}"))
            return None
        before = len(found)
        items = []
        for i, item in enumerate(value):
            items.append(self._nested(field, item, shape[1:], f"{where}[{i}]", found))
            if len(found) - before > 3:
                break
        if len(shape) > 1 and len({len(item) for item in items if isinstance(item, list)}) > 1:
            found.append(Violation(where, "must not be ragged"))
        return items

    def _missing(self, field: Field, where: str, found: list[Violation]) -> None:
        if not field.nullable:
            found.append(Violation(where, "must not be null"))

    def _element(self, field: Field, value: Json, where: str, found: list[Violation]) -> Any:
        if _is_missing(field, value):
            return self._missing(field, where, found)
        problem, clean = element_problem(field, value, self._patterns.get(field.name))
        if problem:
            found.append(Violation(where, problem))
        return clean

    def _check_id(self, value: Json, found: list[Violation]) -> None:
        try:
            names.parse_request_id(value if isinstance(value, str) else "")
        except InvalidArgument as exc:
            found.extend(exc.violations)

    def _check_parameters(self, value: Json, found: list[Violation]) -> None:
        if not isinstance(value, dict):
            found.append(Violation("parameters", "must be an object"))
            return
        for key, item in value.items():
            if not isinstance(item, (str, bool, int, float)):
                found.append(Violation(f"parameters.{names.shown(key)}", "must be text, a number, true or false"))


def _is_missing(field: Field, value: Json) -> bool:
    """Return whether a value is one that a nullable field may lack; NaN comes from YAML only, for JSON has none."""
    is_blank = value == "" and field.is_blank_missing and not field.is_json  # as JSON it is a text without characters
    return value is None or value != value or is_blank  # noqa: PLR0124 - NaN


def element_problem(field: Field, value: Json, pattern: Pattern | None = None) -> tuple[str | None, Any]:
    """Return what is wrong with one JSON value of a field (None when nothing is) and the value to keep."""
    kind = field.element.kind
    if field.is_json:
        return (
            ("must not be null", None) if value is None and not field.nullable else (None, json_values.to_text(value))
        )
    if kind is Kind.BINARY:
        if isinstance(value, dict) and value.keys() == {"b64"}:
            value = value["b64"]  # as TensorFlow Serving's clients write it
        try:
            value = base64.b64decode(value, validate=True) if isinstance(value, str) else None
        except (binascii.Error, ValueError):
            value = None
        if value is None:
            return "must be base64 text", None
        return text_problem(field, value, None, None), value
    if kind is Kind.INT and isinstance(value, float) and is_whole(value):
        value = int(value)  # JSON has one kind of number: 36.0 is the whole number 36
    fits = {
        Kind.BOOL: isinstance(value, bool),
        Kind.INT: isinstance(value, int) and not isinstance(value, bool),
        Kind.FLOAT: isinstance(value, (int, float)) and not isinstance(value, bool),
        Kind.TEXT: isinstance(value, str),
    }[kind]
    if not fits:
        return f"must be {_WORDS[kind]}", None
    if kind is Kind.TEXT:
        return text_problem(field, value, None if field.enum is None else frozenset(field.enum), pattern), value
    return _number_problem(field, value), value


def _number_problem(field: Field, value: float) -> str | None:
    element = field.element
    if element.kind is Kind.INT and not element.low <= value <= element.high:
        return f"must fit {field.type}"
    if element.kind is Kind.FLOAT and not _fits_float(field, value):
        return f"must fit {field.type}"
    if field.enum is not None and value not in field.enum:
        return "must be one of " + ", ".join(str(v) for v in field.enum)
    if field.minimum is not None and value < field.minimum:
        return f"must be ≥ {field.minimum}"
    if field.maximum is not None and value > field.maximum:
        return f"must be ≤ {field.maximum}"
    return None


def _fits_float(field: Field, value: float) -> bool:
    try:
        number = float(value)
    except OverflowError:
        return False
    with np.errstate(over="ignore"):
        return math.isfinite(float(np.array(number).astype(field.element.dtype)))
