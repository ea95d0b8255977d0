"""Writes one output tensor into answer messages; prepared once per version. `typed.codec` writes column by column."""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import numpy as np

from limen.contracts.contract import Field
from limen.contracts.proto.schema import attribute, carries_shape
from limen.contracts.tensors import Array, Kind

Rows = Sequence[Any]
"""The messages of one answer, all of the same type."""


class OutputColumn:
    """Writes one value a row."""

    def __init__(self, field: Field) -> None:
        """Prepare what does not depend on an answer."""
        self.name = field.name
        self._attribute = attribute(field)
        self._get = attrgetter(self._attribute)
        self._is_nullable = field.nullable
        self._is_object = field.element.size == 0
        # 16-bit floats become numbers of Python through a type it knows.
        self._wide = np.float32 if field.is_float and field.element.size < 4 else None
        self._absent: Any = b"" if field.element.kind is Kind.BINARY else ""

    def write(self, array: Array, rows: Rows) -> None:
        """Set this field in each message; a row without a value stays without."""
        name = self._attribute
        values = self._values(array)
        if self._is_nullable:
            for row, value in zip(rows, values, strict=True):
                if value is not None and value == value:  # noqa: PLR0124  NaN is "missing"
                    setattr(row, name, value)
        else:
            for row, value in zip(rows, values, strict=True):
                setattr(row, name, value)

    def _values(self, array: Array) -> list[Any]:
        values: list[Any] = (array if self._wide is None else array.astype(self._wide)).tolist()
        return values

    def _flat(self, array: Array) -> list[Any]:
        """Return the values of each row, row-major; a message has no place for a missing one among others."""
        rows = self._values(array.reshape(len(array), math.prod(array.shape[1:])))
        if not (self._is_object and self._is_nullable):
            return rows
        return [[] if all(v is None for v in row) else [self._absent if v is None else v for v in row] for row in rows]


class VectorOutput(OutputColumn):
    """Writes as many values a row as the field's shape says."""

    def write(self, array: Array, rows: Rows) -> None:
        """Add the values to each message."""
        for row, values in zip(rows, self._flat(array), strict=True):
            self._get(row).extend(values)


class ShapedOutput(OutputColumn):
    """Writes shape and values."""

    def write(self, array: Array, rows: Rows) -> None:
        """Add shape and values to each message."""
        shape = array.shape[1:]
        for row, values in zip(rows, self._flat(array), strict=True):
            tensor = self._get(row)
            tensor.shape.extend(shape)
            tensor.values.extend(values)


def output_column_of(field: Field) -> OutputColumn:
    """Return what writes an output."""
    if carries_shape(field):
        return ShapedOutput(field)
    return VectorOutput(field) if field.shape else OutputColumn(field)
