"""Finds the rows of real data that a contract would refuse: by field, with the edit of model.yaml that would accept them.

Rows are judged by the walk that judges requests (`contracts.validation.rows`). Values are never told, neither of the data nor of its columns'
limits; only names, counts and row numbers are. Called by `limen check --data`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from limen.authoring.check import Step
from limen.authoring.samples.cells import BOOLEANS, MISSING
from limen.authoring.samples.delimited import TextTable
from limen.authoring.samples.files import read_table
from limen.authoring.samples.matching import listed
from limen.authoring.samples.sample import Sample
from limen.contracts.contract import Contract, Example, Field, Json
from limen.contracts.errors import InvalidPackage, Violation
from limen.contracts.tensors import Array, Kind
from limen.contracts.validation.rows import RowCheck
from limen.packaging.importers.draft import WHOLE

MAX_ROWS_TOLD: Final = 5
_NULL: Final = "must not be null"
_ABSENT: Final = "is required"
_INDEX: Final = re.compile(r"\[\d+\]")


class Refused(msgspec.Struct):
    """Rows that one field refuses for one reason."""

    field: str
    reason: str
    rows: list[int]
    """Their numbers, from 1; the first few."""
    count: int = 0
    edit: str = ""
    """What in model.yaml would take them; empty when nothing but other data would."""

    def __str__(self) -> str:
        """Say it in one line."""
        numbers = ", ".join(map(str, self.rows))
        rows = f"row {numbers}" if self.count == 1 else f"rows {numbers}"
        more = f" and {self.count - len(self.rows)} more" if self.count > len(self.rows) else ""
        return f"{self.field}: {self.reason} ({rows}{more}){f'; {self.edit}' if self.edit else ''}"


class Judged(msgspec.Struct, frozen=True):
    """What a contract makes of a file of data."""

    source: str
    rows: int
    refused: int
    """Rows that would be refused."""
    reasons: tuple[Refused, ...]
    """Why, the most frequent first; a row may have several reasons."""
    notes: tuple[str, ...]
    accepted: tuple[Example, ...]
    """The first rows that would be accepted, as examples."""

    def step(self) -> Step:
        """Return it as a step of a check."""
        if self.refused:
            rows = f"{self.refused} of {self.rows} rows of {self.source} would be refused"
        else:
            rows = f"all {self.rows} rows of {self.source} would be accepted"
        return Step("data", not self.refused, "; ".join((rows, *self.notes)), tuple(map(str, self.reasons)))


def judge(contract: Contract, path: Path, keep: int = 3) -> Judged:
    """Judge every row of a file of data.

    Args:
        contract: the one that callers see.
        path: the file, of any kind that a sample may have.
        keep: how many accepted rows are returned.

    Raises:
        InvalidPackage: the file cannot be read, or has no column of the contract.
    """
    table = read_table(path, None)
    columns, read = _columns(contract, table)
    notes = list(table.notes)
    unused = [name for name in table.columns if name not in columns.values()]
    if unused and WHOLE not in columns.values():
        notes.append(f"not fields of the contract: {listed(unused)}")
    check = RowCheck(contract)
    found: dict[tuple[str, str], Refused] = {}
    accepted: list[Example] = []
    refused = count = 0
    for count, row in enumerate(_rows(contract, table, columns, read), start=1):
        problems: list[Violation] = []
        check.row(row, "", problems)
        for field, reason in dict.fromkeys((_INDEX.sub("", p.path).lstrip("."), p.reason) for p in problems):
            entry = found.setdefault((field, reason), Refused(field, reason, []))
            entry.count += 1
            if len(entry.rows) < MAX_ROWS_TOLD:
                entry.rows.append(count)
        refused += bool(problems)
        if not problems and len(accepted) < keep:
            accepted.append(Example(name=f"row {count} of {path.name}", inputs=row))
    for entry in found.values():
        entry.edit = _edit(contract.input(entry.field), entry.reason)
        entry.reason = {_NULL: "has no value", _ABSENT: "is not in the data"}.get(entry.reason, entry.reason)
    reasons = tuple(sorted(found.values(), key=lambda entry: -entry.count))
    return Judged(path.name, count, refused, reasons, tuple(notes), tuple(accepted))


def _columns(contract: Contract, table: TextTable | Sample) -> tuple[dict[str, str], Callable[[Field, Any], Json]]:
    """Return the column of each field that has one, and what reads its values."""
    fields = contract.inputs
    spelled: dict[str, list[str]] = {}
    for name in table.columns:
        spelled.setdefault(_spelling(name), []).append(name)
    columns = {}
    for field in fields:
        alike = spelled.get(_spelling(field.name), [])
        if field.name in table.columns or len(alike) == 1:
            columns[field.name] = field.name if field.name in table.columns else alike[0]
    if not columns and len(fields) == 1 and fields[0].shape:
        columns[fields[0].name] = WHOLE
    if not columns:
        raise InvalidPackage(
            f"{table.source} has no column of the contract, which takes {listed([f.name for f in fields])}; "
            f"it has {listed(tuple(table.columns))}"
        )
    if isinstance(table, Sample):
        return columns, _typed
    return columns, _with_decimal_commas if table.has_decimal_commas else _from_text


def _rows(
    contract: Contract, table: TextTable | Sample, columns: Mapping[str, str], read: Callable[[Field, Any], Json]
) -> Iterator[dict[str, Json]]:
    """Yield the records that a caller would make of the rows: what is missing is left out where a default stands in."""
    named = []
    for field in contract.inputs:
        if field.name in columns:
            name = columns[field.name]
            values: Sequence[Any] | Array = table.columns[name] if name in table.columns else _stacked(table)
            named.append((field, values))
    for i in range(len(named[0][1])):
        record = {}
        for field, values in named:
            value = read(field, values[i])
            if value is not None or not field.has_default:
                record[field.name] = value
        yield record


def _stacked(table: TextTable | Sample) -> list[list[Any]]:
    """Return all columns as the vectors of an only field."""
    return [list(row) for row in zip(*table.columns.values(), strict=True)]


def _typed(field: Field, value: Any) -> Json:
    if isinstance(value, list):
        return [_typed(field, item) for item in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return _typed(field, value.tolist())
    return None if isinstance(value, float) and value != value else value  # noqa: PLR0124 - NaN


def _with_decimal_commas(field: Field, cell: Any) -> Json:
    return _from_text(field, cell.replace(",", ".") if isinstance(cell, str) and field.is_float else cell)


def _from_text(field: Field, cell: Any) -> Json:
    """Return what a caller would send for a cell; text that is no value of the field's type stays text, which is refused."""
    if isinstance(cell, list):
        return [_from_text(field, item) for item in cell]
    text = cell.strip()
    if text in MISSING:
        return None
    if field.shape and text.startswith("["):
        try:
            vector: Json = msgspec.json.decode(text)
        except msgspec.DecodeError:
            return text
        return vector
    kind = field.element.kind
    if kind is Kind.BOOL:
        return BOOLEANS.get(text, text)
    if kind in (Kind.INT, Kind.FLOAT):
        try:
            return int(text) if kind is Kind.INT and text.lstrip("+-").isdigit() else float(text)
        except ValueError:
            return text
    return str(cell)


def _edit(field: Field | None, reason: str) -> str:
    """Return what in model.yaml would take such values."""
    if field is None:
        return ""
    kind = field.element.kind
    if reason in (_NULL, _ABSENT):
        if kind in (Kind.FLOAT, Kind.TEXT):
            return "set nullable: true if the model handles missing values"
        return "use type: float64 with nullable: true" if kind is Kind.INT else "or set a default"
    edits = {
        "must be a whole number": "use type: float64",
        "must be a number": "use type: string if the model accepts text",
        "must be text": "use a number type, or write the column as text",
        "must be one of": "add the values to enum, or remove it",
        "must be ≥": "lower minimum, or remove it",
        "must be ≤": "raise maximum, or remove it",
        "must match": "loosen pattern, or remove it",
        "must have at least": "lower min_length, or remove it",
        "must have at most": "raise max_length, or remove it",
        "must fit": "use a wider type",
    }
    return next((edit for start, edit in edits.items() if reason.startswith(start)), "")


def _spelling(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "", name.casefold())
