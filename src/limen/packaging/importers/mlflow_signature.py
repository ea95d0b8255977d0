"""What an MLflow model says about its inputs: the signature's columns and tensors, and the input example.

Pure but for reading the example's file; MLflow itself is not needed. Formats: `mlflow.types.Schema.to_dict` and
`mlflow.models.utils.save_example`. Called by `importers.mlflow`.
"""

from __future__ import annotations

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
    width: int | None = None
    """Columns of a two-dimensional tensor without names."""
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
    width = None
    for item in _items(signature.get("inputs")):
        name, is_required = item.get("name"), bool(item.get("required", not item.get("optional", False)))
        if item.get("type") == "tensor":
            spec = item.get("tensor-spec") or {}
            element, shape = _tensor_type(spec.get("dtype")), spec.get("shape") or []
            width = shape[1] if len(shape) == 2 and not name else width
        else:
            element = _TYPES.get(str(item.get("type")))
        if element is None:
            notes.append(f"the declared type of the input {name or len(columns)}: {item.get('type')} has no like here")
        if isinstance(name, str):
            columns.append(Column(name, element or "string", is_required))
    return Declared(tuple(columns), width if isinstance(width, int) and width > 0 else None, tuple(notes))


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


def read_example(folder: Path, info: Any, columns: Sequence[Column]) -> dict[str, Array]:
    """Return the rows of an input example: columns by name, or one array under `WHOLE`; nothing when there are none of use.

    Args:
        folder: the model's folder.
        info: `saved_input_example_info` of the MLmodel file.
        columns: what the signature declares, for the types.
    """
    if not isinstance(info, Mapping) or info.get("type") not in ("dataframe", "ndarray"):
        return {}
    path = ensure_inside(folder, str(info.get("artifact_path")))
    if not path.is_file() or path.stat().st_size > MAX_EXAMPLE_BYTES:
        return {}
    try:
        value = msgspec.json.decode(path.read_bytes())
    except msgspec.DecodeError:
        return {}
    if info["type"] == "ndarray":
        return _tensors(value)
    return _frame(value, {column.name: column.type for column in columns})


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
    except ValueError:
        return None
    if array.ndim == 0 or array.dtype == object:
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
    if (element is not None and element.kind is Kind.TEXT) or any(isinstance(cell, str) for cell in cells):
        texts = np.empty(len(cells), object)
        texts[:] = [None if cell is None else str(cell) for cell in cells]
        return texts
    is_missing = any(cell is None for cell in cells)
    values = [np.nan if cell is None else cell for cell in cells]
    try:
        if element is None or (is_missing and element.kind is not Kind.FLOAT):
            return np.asarray(values, np.float64) if is_missing else _array(values)
        return np.asarray(values, element.dtype)
    except (TypeError, ValueError, OverflowError):
        return None
