"""Fast check for tensors that need only be finite floats of one shape and range, as most models' tensors.

`contracts.validation.tensors` asks it first; whatever it does not pass is checked field by field there, which also says what is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from limen.contracts.contract import Field
from limen.contracts.tensors import Array


class PlainFloats:
    """float32 and float64 tensors of fixed shapes."""

    __slots__ = ("_fields",)

    def __init__(self, fields: Sequence[Field]) -> None:
        """Take fields for which `is_plain` holds."""
        self._fields = tuple(
            (f.name, f.element.dtype, f.shape, bound_of(f, f.minimum), bound_of(f, f.maximum)) for f in fields
        )

    def rows(self, tensors: Mapping[str, Array], is_finite: bool) -> int:
        """Return the number of rows when these are exactly the tensors and all is well, else 0.

        Args:
            tensors: the tensors by name.
            is_finite: every number is known to be finite.
        """
        if len(tensors) != len(self._fields):
            return 0
        rows = 0
        for name, dtype, tail, low, high in self._fields:
            array = tensors.get(name)
            if array is None or array.dtype is not dtype:
                return 0
            shape = array.shape
            if shape[1:] != tail or not shape or (rows and rows != shape[0]):
                return 0
            rows = shape[0]
            if not is_finite and not all_finite(array):
                return 0
            if (low is not None or high is not None) and not _is_within(array, low, high):
                return 0
        return rows


def is_plain(field: Field) -> bool:
    """Return whether being finite, of its shape and in its range is all that is asked of a field."""
    return (
        field.is_float
        and field.element.size >= 4
        and field.finite
        and not field.nullable
        and field.enum is None
        and all(d >= 0 for d in field.shape)
    )


def bound_of(field: Field, bound: float | None) -> Any:
    """Return a bound in the field's own precision, so that a float32 0.1 is not above a maximum of 0.1."""
    if bound is None:
        return None
    dtype = field.element.dtype
    return dtype.type(bound) if dtype.kind == "f" else bound


def all_finite(array: Array) -> bool:
    """Return whether a float tensor holds neither NaN nor infinity."""
    if array.size == 1:
        return math.isfinite(array.item())
    # Looking for a zero byte costs a third of a reduction on the few numbers of a common request; `b"\0" in` costs twice that.
    return 0 not in np.isfinite(array).tobytes()


def _is_within(array: Array, low: Any, high: Any) -> bool:
    """Return whether finite numbers keep their bounds."""
    if array.size == 1:
        value = array.item()
        return (low is None or value >= low) and (high is None or value <= high)
    if not array.size:
        return True
    return (low is None or array.min() >= low) and (high is None or array.max() <= high)
