"""Facts about a field from a column of sample data: missing values, range, and values for examples. Pure."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import numpy as np

from limen.contracts.contract import Json
from limen.contracts.tensors import Array, ElementType, Kind
from limen.packaging.manifest.yaml_text import flow

MAX_EXAMPLE_SIZE: Final = 1000
"""Elements of a value in an example; more is no use to a reader."""
_FEW: Final = 10
_TRUE: Final = frozenset(["true", "t", "yes", "y", "1", "on"])
_FALSE: Final = frozenset(["false", "f", "no", "n", "0", "off"])


def has_gap(values: Array) -> bool:
    """Return whether a value is missing."""
    if values.dtype == object:
        return any(map(is_missing, values.ravel().tolist()))
    return bool(values.dtype.kind == "f" and np.isnan(values).any())


def is_missing(value: Any) -> bool:
    """Return whether a value is None or NaN."""
    return value is None or (isinstance(value, float) and value != value)  # noqa: PLR0124 - NaN


def observed(values: Array) -> str:
    """Return what a column of single values shows, for a comment: a fact about the sample, no limit."""
    present = [value for value in values.tolist() if not is_missing(value)]
    if not present or values.dtype.kind == "b":
        return ""
    if values.dtype.kind in "iuf":
        return f"observed {flow(min(present))} to {flow(max(present))}"
    if not all(isinstance(value, str) for value in present):
        return ""
    found = sorted(set(present))
    count = "1 value" if len(found) == 1 else f"{len(found)} different values"
    shown = f": {', '.join(map(flow, found))}" if len(found) <= min(_FEW, len(present) // 2) else ""
    return f"{count} in the sample{shown}"


def rows_to_show(columns: Sequence[Array], count: int) -> list[int]:
    """Return the numbers of a few rows that differ: the first, the first with a gap, the last."""
    length = len(columns[0]) if columns else 0
    if not length:
        return []
    gaps = (i for i in range(min(length, 1000)) if any(has_gap(column[i : i + 1]) for column in columns))
    wanted = [0, next(gaps, 0), length - 1]
    return list(dict.fromkeys(wanted))[:count]


def example_value(value: Any, element: ElementType, *, is_nullable: bool) -> Json:
    """Return a value of a sample as a caller would send it, or UNSET when the field does not take it."""
    if isinstance(value, np.ndarray):
        return _array(value, element)
    if is_missing(value):
        return None if is_nullable else msgspec.UNSET
    return _READERS[element.kind](value)


def _array(value: Array, element: ElementType) -> Json:
    if value.size > MAX_EXAMPLE_SIZE:
        return msgspec.UNSET
    flat = [example_value(item, element, is_nullable=False) for item in value.ravel().tolist()]
    if msgspec.UNSET in flat:
        return msgspec.UNSET
    shaped = np.empty(len(flat), object)
    shaped[:] = flat
    return shaped.reshape(value.shape).tolist()


def _text(value: Any) -> Json:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _binary(value: Any) -> Json:
    return base64.b64encode(value if isinstance(value, bytes) else str(value).encode()).decode()


def _number(value: Any) -> Json:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return msgspec.UNSET
    return number if math.isfinite(number) else msgspec.UNSET


def _whole(value: Any) -> Json:
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        return msgspec.UNSET
    return number if number == value or isinstance(value, str) else msgspec.UNSET


def _flag(value: Any) -> Json:
    word = str(value).strip().casefold()
    return word in _TRUE if word in _TRUE | _FALSE else msgspec.UNSET


_READERS: Final = {Kind.TEXT: _text, Kind.BINARY: _binary, Kind.FLOAT: _number, Kind.INT: _whole, Kind.BOOL: _flag}
