"""An MLflow model's input declarations: the signature's columns and tensors, and the input example.

Pure but for reading the example's file; MLflow itself is not needed. Formats: `mlflow.types.Schema.to_dict` and
`mlflow.models.utils.save_example`. Called by `importers.mlflow`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from limen.contracts.tensors import BY_NAME, Array, Kind
from limen.packaging.importers.draft import WHOLE, Column
from limen.packaging.paths import ensure_inside

MAX_EXAMPLE_BYTES: Final = 16 << 20
MAX_EXAMPLE_ROWS: Final = 1000
_TYPES: Final = {
    "boolean": "bool",
    "integer": "int32",
    "long": "int64",
    "float": "float32",
    "double": "float64",
    "string": "string",
    "binary": "bytes",
}
_TENSOR_TYPES: Final = {"object": "string", "str": "string"}


class Declared(msgspec.Struct, frozen=True):
    """The inputs of a signature."""

    columns: tuple[Column, ...] = ()
    notes: tuple[str, ...] = ()


def read_signature(signature: Any) -> Declared:
    """Return what the `signature` of an MLmodel file says; nothing when there is none."""
    if not isinstance(signature, Mapping):
        return Declared()
    notes = []
    names = [str(p.get("name")) for p in _items(signature.get("params"))]
    if names:
        notes.append(f"parameters of the signature ({', '.join(names)}): the model is served with its own defaults")
    columns: list[Column] = []
    for item in _items(signature.get("inputs")):
        name, is_required = item.get("name"), bool(item.get("required", not item.get("optional", False)))
        if item.get("type") == "tensor":
            element = _tensor_type((item.get("tensor-spec") or {}).get("dtype"))
        else:
            element = _TYPES.get(str(item.get("type")))
        if element is None:
            notes.append(f"the declared type of the input {name or len(columns)}: {item.get('type')} has no equivalent")
        if isinstance(name, str):
            kind = BY_NAME[element].kind if element else Kind.TEXT
            if not is_required and kind is Kind.INT:
                # As pandas has it: whole numbers of which some are missing are floats.
                element = "float64"
            elif not is_required and kind is Kind.BOOL:
                notes.append(
                    f"the input {name} may be missing in MLflow; a bool has no missing value, so it is required"
                )
            columns.append(Column(name, element or "string", is_required))
    return Declared(tuple(columns), tuple(notes))


def _items(text: Any) -> list[dict[str, Any]]:
    """Return the list that stands as JSON in a text."""
    if not isinstance(text, str):
        return []
    try:
        return msgspec.json.decode(text, type=list[dict[str, Any]])
    except msgspec.DecodeError:
        return []


def _tensor_type(dtype: Any) -> str | None:
    if not isinstance(dtype, str):
        return None
    return dtype if dtype in BY_NAME else _TENSOR_TYPES.get(dtype, "string" if dtype.startswith("<U") else None)


class Example(msgspec.Struct, frozen=True):
    """The rows of an input example."""

    rows: dict[str, Array] = {}
    """Columns by name, or one array under `WHOLE`; empty when there are none of use."""
    note: str = ""
    """Why an example that is there is of no use."""


def read_example(folder: Path, info: Any, columns: Sequence[Column]) -> Example:
    """Return the input example of a model.

    Args:
        folder: the model's folder.
        info: `saved_input_example_info` of the MLmodel file.
        columns: what the signature declares, for the types.
    """
    if not isinstance(info, Mapping):
        return Example()
    path = ensure_inside(folder, str(info.get("artifact_path")))
    if not path.is_file():
        return Example(note="the input example: its file is not there")
    if path.stat().st_size > MAX_EXAMPLE_BYTES:
        return Example(note=f"the input example: it is larger than {MAX_EXAMPLE_BYTES >> 20} MiB")
    try:
        # MLflow writes NaN, which JSON proper has no form for.
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return Example(note="the input example: it is no JSON")
    types = {column.name: column.type for column in columns}
    kind = info.get("type")
    if kind == "ndarray":
        rows = _tensors(value)
    elif kind == "json_object":
        rows = _frame(_as_table(value), types)
    else:
        rows = _frame(value, types) if kind == "dataframe" else {}
    return Example(rows, "" if rows else "the input example: it is no table or array of numbers and text")


def _as_table(value: Any) -> Any:
    """Return a row, rows, or columns by name as MLflow writes a data frame; anything else as it is."""
    rows = value if isinstance(value, list) else [value]
    if not rows or not all(isinstance(row, Mapping) and row.keys() == rows[0].keys() for row in rows):
        return value
    names = list(rows[0])
    cells = [[row[name] for name in names] for row in rows]
    if len(rows) == 1 and cells[0] and all(isinstance(cell, list) for cell in cells[0]):
        lengths = {len(cell) for cell in cells[0]}
        cells = [list(row) for row in zip(*cells[0], strict=True)] if len(lengths) == 1 else []
    return {"columns": names, "data": cells}


def _tensors(value: Any) -> dict[str, Array]:
    """Return an example of arrays: `[[…]]`, `{"inputs": …}` or one array for each name."""
    if isinstance(value, Mapping) and "inputs" in value:
        value = value["inputs"]
    named = value if isinstance(value, Mapping) else {WHOLE: value}
    found = {str(name): _array(rows) for name, rows in named.items()}
    arrays = {name: array[:MAX_EXAMPLE_ROWS] for name, array in found.items() if array is not None}
    return arrays if len(arrays) == len(named) and len({len(a) for a in arrays.values()}) == 1 else {}


def _array(rows: Any) -> Array | None:
    try:
        array = np.asarray(rows)
        if array.dtype == object:
            array = array.astype(np.float64)  # numbers, and null for NaN
    except (TypeError, ValueError):
        return None
    if array.ndim == 0:
        return None
    return array.astype(object) if array.dtype.kind == "U" else array


def _frame(value: Any, types: Mapping[str, str]) -> dict[str, Array]:
    """Return a data frame written with `orient="split"`."""
    if not isinstance(value, Mapping):
        return {}
    names, rows = value.get("columns"), value.get("data")
    if not isinstance(names, list) or not isinstance(rows, list) or not rows:
        return {}
    if any(not isinstance(row, list) or len(row) != len(names) for row in rows):
        return {}
    rows = rows[:MAX_EXAMPLE_ROWS]
    columns = {str(name): _column([row[i] for row in rows], types.get(str(name))) for i, name in enumerate(names)}
    found = {name: array for name, array in columns.items() if array is not None}
    return found if len(found) == len(columns) else {}


def _column(cells: list[Any], type_name: str | None) -> Array | None:
    """Return the cells of one column in their declared type, or in the one that they have."""
    element = BY_NAME[type_name] if type_name else None
    if element is not None and element.kind is Kind.BINARY:
        return None
    gaps = [cell is None or cell != cell for cell in cells]  # noqa: PLR0124 - NaN
    if (element is not None and element.kind is Kind.TEXT) or any(isinstance(cell, str) for cell in cells):
        texts = np.empty(len(cells), object)
        texts[:] = [None if gap else str(cell) for gap, cell in zip(gaps, cells, strict=True)]
        return texts
    is_missing = any(gaps)
    values = [np.nan if gap else cell for gap, cell in zip(gaps, cells, strict=True)]
    try:
        if element is None or (is_missing and element.kind is not Kind.FLOAT):
            return np.asarray(values, np.float64) if is_missing else _array(values)
        return np.asarray(values, element.dtype)
    except (TypeError, ValueError, OverflowError):
        return None
