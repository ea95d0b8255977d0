"""Samples in memory: data frames of pandas, Polars and Arrow, arrays, columns by name, and lists of records.

None of the libraries is imported: what is handed over has its own. Called with what `samples.files` reads, and by whoever holds a
frame.
"""

from __future__ import annotations

import datetime as dt
import decimal
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Final, NoReturn

import msgspec
import numpy as np

from limen.authoring.samples.sample import SAMPLE_ROWS, UNNAMED, Sample, ensure_rows
from limen.contracts.errors import InvalidPackage
from limen.contracts.tensors import Array, element_type_of
from limen.packaging.importers.draft import WHOLE

_AS_TEXT: Final = (dt.date, dt.time, dt.timedelta, uuid.UUID)
_EXACT: Final = 1 << 53


def as_sample(data: Any, source: str = "the sample", limit: int | None = SAMPLE_ROWS) -> Sample:
    """Return the columns of what holds example rows.

    Args:
        data: a data frame (pandas, Polars, Arrow), a series, an array, columns by name, a list of records, or a sample.
        source: what people call it.
        limit: rows that are taken; all if None.

    Raises:
        InvalidPackage: it holds no rows, or something that no contract can express.
    """
    if isinstance(data, Sample):
        return data
    if hasattr(data, "to_frame") and not hasattr(data, "columns"):
        data = data.to_frame()
    if hasattr(data, "column_names"):
        return _of_arrow(data, source, limit)
    if hasattr(data, "columns") and hasattr(data, "__getitem__"):
        names = list(data.columns)
        at = getattr(data, "iloc", None)
        return _sample(names, [data[n] if at is None else at[:, i] for i, n in enumerate(names)], source, limit)
    if hasattr(data, "__array__"):
        return _of_array(np.asarray(data), source, limit)
    if isinstance(data, Mapping):
        return _sample(list(data), list(data.values()), source, limit)
    if isinstance(data, Sequence) and not isinstance(data, (str, bytes)) and len(data):
        if all(isinstance(row, Mapping) for row in data):
            names = list(dict.fromkeys(name for row in data for name in row))
            return _sample(names, [[row.get(name) for row in data] for name in names], source, limit)
        return _of_array(_nested(data, source), source, limit)
    raise InvalidPackage(
        f"{source} is not a table: give a data frame, an array, columns by name, or a list of records with at least one row"
    )


def _of_arrow(table: Any, source: str, limit: int | None) -> Sample:
    names = list(table.column_names)
    columns = [table.column(i) for i in range(len(names))]
    sample = _sample(names, columns, source, limit)
    # Arrow itself has dictionaries for brevity; those that pandas wrote are declared categories.
    written = (table.schema.pandas_metadata or {}).get("columns", ())
    declared = {column.get("name") for column in written if column.get("pandas_type") == "categorical"}
    categories = {
        name: tuple(column.chunk(0).dictionary.to_pylist())
        for name, column in zip(names, columns, strict=True)
        if name in declared and hasattr(column.type, "index_type") and column.num_chunks
    }
    texts = {name: found for name, found in categories.items() if all(isinstance(value, str) for value in found)}
    return msgspec.structs.replace(sample, categories=texts)


def _of_array(array: Array, source: str, limit: int | None) -> Sample:
    if array.dtype.names:
        return _sample(list(array.dtype.names), [array[name] for name in array.dtype.names], source, limit)
    if array.ndim == 0:
        raise InvalidPackage(f"{source} is a single value; give an array with the rows as its first axis")
    values, why = _values(array[:limit], source)
    return ensure_rows(
        Sample(columns={WHOLE: values}, source=source, reasons={WHOLE: why} if why else {}, is_typed=True)
    )


def _nested(rows: Sequence[Any], source: str) -> Array:
    try:
        return np.asarray(rows)
    except ValueError as exc:
        raise InvalidPackage(f"{source} has rows of different lengths") from exc


def _sample(names: Sequence[Any], found: Sequence[Any], source: str, limit: int | None) -> Sample:
    columns: dict[str, Array] = {}
    reasons: dict[str, str] = {}
    categories: dict[str, tuple[str, ...]] = {}
    for label, data in zip(names, found, strict=True):
        name = ".".join(map(str, label)) if isinstance(label, tuple) else str(label)
        name = name.strip() or UNNAMED
        if name in columns:
            raise InvalidPackage(f"{source} has more than one column named {name}; give each a unique name")
        columns[name], why = _values(_first(data, limit), f"{source}, column {name}")
        if why:
            reasons[name] = why
        if declared := _categories(data):
            categories[name] = declared
    sample = Sample(columns=columns, source=source, reasons=reasons, categories=categories, is_typed=True)
    return ensure_rows(sample)


def _first(data: Any, limit: int | None) -> Any:
    """Return the first rows, by their place and not by their label."""
    at = getattr(data, "iloc", data)
    return at[:limit]


def _categories(data: Any) -> tuple[str, ...]:
    """Return the texts that a column declares as all it can hold: a categorical of pandas, or an enum of Polars."""
    dtype: Any = getattr(data, "dtype", None)
    if type(dtype).__name__ not in ("CategoricalDtype", "Enum"):
        return ()
    declared = list(dtype.categories)
    return tuple(declared) if all(isinstance(value, str) for value in declared) else ()


def _values(data: Any, where: str) -> tuple[Array, str]:
    """Return a column as an array of a type that a contract knows, and why it has another type than its source."""
    dtype = getattr(data, "dtype", None)
    if isinstance(dtype, np.dtype) and dtype.kind in "biuf" and element_type_of(dtype) is not None:
        array = np.asarray(data)
        return array.astype(array.dtype.newbyteorder("="), copy=False), ""
    if isinstance(data, np.ndarray) and data.dtype.kind == "M":
        # Finer times have no type in Python.
        data = data.astype("M8[us]") if data.dtype != np.dtype("M8[D]") else data
    return _of_values(_listed(data), where)


def _listed(data: Any) -> list[Any]:
    for method in ("to_list", "to_pylist", "tolist"):
        if hasattr(data, method):
            found: list[Any] = getattr(data, method)()
            return found
    return list(data)


def _of_values(values: Sequence[Any], where: str) -> tuple[Array, str]:
    plain = [_plain(value) for value in values]
    present = [value for value in plain if value is not None]
    has_gap = len(present) < len(plain)
    kinds = {type(value) for value in present}
    if not present:
        return np.full(len(plain), np.nan), "no value in the sample shows the type"
    if kinds == {bool} and not has_gap:
        return np.array(plain, np.bool_), ""
    if kinds == {bool}:
        texts = [None if value is None else str(value).lower() for value in plain]
        return _objects(texts), "true and false with gaps, which only text can express"
    if kinds == {int} and (not has_gap or max(map(abs, present)) > _EXACT):
        return _whole(plain, has_gap=has_gap)
    if kinds <= {int, float}:
        why = "whole numbers with gaps, which only a float type can express" if kinds == {int} else ""
        return np.array([np.nan if value is None else float(value) for value in plain]), why
    if kinds == {bytes}:
        return _objects(plain), ""
    if kinds == {list}:
        return _arrays(plain, where)
    if not kinds <= {str, int, float, bool}:
        _refused(where, "values that are not numbers, text or lists of these")
    why = "dates are text" if any(isinstance(value, _AS_TEXT) for value in values) else ""
    if kinds != {str}:
        why = "a mix of numbers and text"
    return _objects([None if value is None else str(value) for value in plain]), why


def _plain(value: Any) -> Any:
    """Return a value as Python's own type, None for what is missing: None, NaN, pandas.NA, NaT, empty text."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return None
    if hasattr(value, "tolist") and not isinstance(value, (str, bytes)):
        value = value.tolist()
    if isinstance(value, float) and value != value:  # noqa: PLR0124 - NaN
        return None
    if isinstance(value, str):
        return str(value) if value.strip() else None
    if isinstance(value, decimal.Decimal):
        return float(value)
    if isinstance(value, (dt.date, dt.time)):
        return value.isoformat()
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, tuple):
        return list(value)
    return str(value) if isinstance(value, _AS_TEXT) else value


def _whole(values: Sequence[Any], *, has_gap: bool) -> tuple[Array, str]:
    present = [value for value in values if value is not None]
    if not has_gap and min(present) >= -(1 << 63) and max(present) < 1 << 63:
        return np.array(values, np.int64), ""
    if not has_gap and min(present) >= 0 and max(present) < 1 << 64:
        return np.array(values, np.uint64), "whole numbers that need an unsigned type"
    texts = [None if value is None else str(value) for value in values]
    return _objects(texts), "whole numbers with more digits than any number type holds"


def _arrays(rows: Sequence[Any], where: str) -> tuple[Array, str]:
    try:
        array = np.array(rows)
    except ValueError:
        _refused(where, "lists of different lengths")
    if array.dtype.kind == "U":
        array = array.astype(object)
    if array.dtype != object and element_type_of(array.dtype) is None:
        _refused(where, "values that are not numbers, text or lists of these")
    return array, ""


def _refused(where: str, what: str) -> NoReturn:
    raise InvalidPackage(f"{where} holds {what}, which a sample cannot contain; remove it or convert it")


def _objects(values: Sequence[Any]) -> Array:
    array = np.empty(len(values), object)
    array[:] = values
    return array
