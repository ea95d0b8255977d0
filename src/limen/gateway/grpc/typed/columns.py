"""Converts one field of typed messages to its tensor; prepared once per version.

`typed_codec` reads all rows of a field at once: a column of Python values and one array made of it, never a dictionary a row.
Only what the wire can get wrong is found here (presence, counts, what does not fit the type); ranges, enums and the like are the
contract check's business.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain
from operator import attrgetter
from typing import Any, Final

import numpy as np

from limen.contracts.contract import Field
from limen.contracts.errors import MAX_VIOLATIONS, InvalidArgument, LimenError, Reason, Violation
from limen.contracts.oip.wire import element_count
from limen.contracts.proto.schema import attribute, carries_shape
from limen.contracts.tensors import Array
from limen.contracts.validation.tensors import filled

Rows = Sequence[Any]
"""The messages of one request, all of the same type."""
_WIDE: Final = {
    "float16": np.float32,
    "bfloat16": np.float32,
    "int8": np.int32,
    "int16": np.int32,
    "uint8": np.uint32,
    "uint16": np.uint32,
}
"""How the types travel that protobuf does not have."""


class Column:
    """Reads one input of all rows. `read` collects mistakes in `found`; its answer counts only if there were none."""

    def __init__(self, field: Field) -> None:
        """Prepare what does not depend on a request."""
        self.field = field
        self.name = field.name
        self._attribute = attribute(field)
        self._get = attrgetter(self._attribute)
        self._is_object = field.element.size == 0
        self._dtype = field.element.dtype
        self._wide: Any = _WIDE.get(field.type)
        self._missing: Array | None = None if field.is_required else filled(field, 1)
        """One row, which stands for any that leaves the field out."""

    def read(self, rows: Rows, found: list[Violation]) -> Array:
        """Return the tensor of this field, one row for each message."""
        raise NotImplementedError

    def _array(self, values: Any, per_row: int, found: list[Violation]) -> Array:
        """Return values, so many a row, as a flat array of the field's type; report those that do not fit it."""
        if self._is_object:
            array = np.empty(len(values), object)
            array[:] = values
            return array
        if self._wide is None:
            return np.array(values, self._dtype)
        wide = np.array(values, self._wide)
        with np.errstate(over="ignore"):
            narrow = wide.astype(self._dtype)
        bad = np.isinf(narrow) & np.isfinite(wide) if self.field.is_float else narrow != wide
        if bad.any():
            text = f"must fit {self.field.type}"
            self._report(found, sorted({int(i) // per_row for i in np.flatnonzero(bad)}), text)
        return narrow

    def _report(self, found: list[Violation], rows: Sequence[int], text: str) -> None:
        found.extend(Violation(f"instances[{i}].{self.name}", text) for i in rows[:MAX_VIOLATIONS])

    def _check_even(self, sizes: Sequence[Any]) -> None:
        if any(size != sizes[0] for size in sizes):
            text = f"must all have {self.name} of the same size; send rows of other sizes in separate requests"
            raise InvalidArgument.at("instances", text, Reason.SHAPE_MISMATCH)


class ScalarColumn(Column):
    """One value a row."""

    def read(self, rows: Rows, found: list[Violation]) -> Array:
        """Return one value for each message."""
        values = list(map(self._get, rows))
        # An absent value reads as the zero of its type, so only rows that say zero are asked whether they say it.
        if not all(values):
            name = self._attribute
            absent = [i for i, value in enumerate(values) if not value and not rows[i].HasField(name)]
            if absent and self._missing is None:
                self._report(found, absent, "is required")
            elif absent and self._missing is not None:
                default = self._missing[0]
                for i in absent:
                    values[i] = default
        return self._array(values, 1, found)


class VectorColumn(Column):
    """As many values a row as the field's shape says, with at most one axis that varies."""

    def __init__(self, field: Field) -> None:
        """Count the values of a row."""
        super().__init__(field)
        self._step = math.prod(d for d in field.shape if d > 0)
        self._is_fixed = all(d > 0 for d in field.shape)
        self._filler: list[Any] | None = None if self._missing is None else self._missing.ravel().tolist()

    def read(self, rows: Rows, found: list[Violation]) -> Array:
        """Return the values of each message in the field's shape."""
        vectors = list(map(self._get, rows))
        filler = self._filler
        is_filled = filler is not None and not all(vectors)
        if is_filled:
            vectors = [vector or filler for vector in vectors]
        sizes = list(map(len, vectors))
        if bad := [i for i, size in enumerate(sizes) if not self._fits(size)]:
            word = "" if self._is_fixed else "a multiple of "
            self._report(found, bad, f"must have {word}{self._step} values")
            return np.empty(0)
        self._check_even(sizes)
        values: Any
        if len(vectors) == 1:
            values = vectors[0]
        elif self._is_object or is_filled:
            values = list(chain.from_iterable(vectors))
        else:
            # Appending whole vectors inside protobuf costs a tenth of making an array of each.
            joined = type(rows[0])()
            values = self._get(joined)
            for vector in vectors:
                values.MergeFrom(vector)
        size = sizes[0]
        shape = (size // self._step if d < 0 else d for d in self.field.shape)
        return self._array(values, size, found).reshape(len(rows), *shape)

    def _fits(self, size: int) -> bool:
        return size == self._step if self._is_fixed else size % self._step == 0


class ShapedColumn(Column):
    """A message of shape and values a row, for fields of which several axes vary."""

    def read(self, rows: Rows, found: list[Violation]) -> Array:
        """Return the values of each message in the shape they all have."""
        shapes: list[tuple[int, ...]] = []
        values: list[Any] = []
        for i, row in enumerate(rows):
            shape, items = self._row(row, i, found)
            shapes.append(shape)
            values += items
            if len(found) >= MAX_VIOLATIONS:
                break
        if found:
            return np.empty(0)
        self._check_even(shapes)
        return self._array(values, max(1, math.prod(shapes[0])), found).reshape(len(rows), *shapes[0])

    def _row(self, row: Any, i: int, found: list[Violation]) -> tuple[tuple[int, ...], Sequence[Any]]:
        if not row.HasField(self._attribute):
            if self._missing is None:
                self._report(found, [i], "is required")
                return (), ()
            return self._missing.shape[1:], self._missing.ravel().tolist()
        tensor = self._get(row)
        shape, items = tuple(tensor.shape), tensor.values
        try:
            count = element_count(shape, f"instances[{i}].{self.name}.shape")
        except LimenError as exc:
            found.extend(exc.violations)
            return (), ()
        if len(shape) != len(self.field.shape) or any(
            want not in (-1, got) for want, got in zip(self.field.shape, shape, strict=True)
        ):
            dims = ", ".join("any" if d < 0 else str(d) for d in self.field.shape)
            found.append(Violation(f"instances[{i}].{self.name}.shape", f"must be [{dims}]"))
        elif count != len(items):
            text = f"{count} are needed for this shape, {len(items)} were sent"
            found.append(Violation(f"instances[{i}].{self.name}.values", text))
        return shape, items


def column_of(field: Field) -> Column:
    """Return what reads an input."""
    if carries_shape(field):
        return ShapedColumn(field)
    return VectorColumn(field) if field.shape else ScalarColumn(field)
