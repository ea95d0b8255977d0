"""Fixed-layout rows: for models whose fields are all float32 and float64 of fixed shapes, every byte has a known position.

Such rows are all equally long, and their values lie at the same places in each, so a whole message is read, and written, as one
NumPy array of records. What only looks like it is left to protobuf: every byte that is not a value is compared. Used by
`typed_codec`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from limen.contracts.contract import Field
from limen.contracts.proto.schema import field_numbers
from limen.contracts.tensors import Array
from limen.gateway.grpc.oip.codec import varint

_ROWS: Final = b"\x0a"
"""Key of field 1, a message: the rows of a request and of an answer."""
_WIRE_TYPES: Final = {"float32": 5, "float64": 1}
_VECTOR: Final = 2


class RowLayout:
    """Where everything is in a row of such fields."""

    def __init__(self, fields: Sequence[Field], path: str) -> None:
        """Lay the row out in the order of the field numbers, as every protobuf library writes it.

        Args:
            fields: fields for which `has_layout` holds.
            path: `inputs` or `outputs`.
        """
        numbers = field_numbers(fields, path)
        places: dict[str, int] = {}
        row = bytearray()
        for field in sorted(fields, key=lambda f: numbers[f.name]):
            size = math.prod(field.shape) * field.element.size
            if field.shape:
                row += varint(numbers[field.name] << 3 | _VECTOR) + varint(size)
            else:
                row += varint(numbers[field.name] << 3 | _WIRE_TYPES[field.type])
            places[field.name] = len(row)
            row += bytes(size)
        head = _ROWS + varint(len(row))
        self._size = len(head) + len(row)
        self._fields = tuple((f.name, f.element.dtype) for f in fields)
        self._record = np.dtype(
            {
                "names": [f.name for f in fields],
                "formats": [(f.element.dtype, f.shape) for f in fields],
                "offsets": [len(head) + places[f.name] for f in fields],
                "itemsize": self._size,
            }
        )
        whole = np.frombuffer(head + row, np.uint8)
        is_value = np.zeros(self._size, bool)
        for field in fields:
            at = len(head) + places[field.name]
            is_value[at : at + math.prod(field.shape) * field.element.size] = True
        self._empty = whole
        self._fixed_places = np.flatnonzero(~is_value)
        self._fixed = whole[self._fixed_places]

    def read(self, data: bytes) -> tuple[dict[str, Array], int, bytes]:
        """Return the tensors of the rows that `data` begins with, how many these are, and the bytes after them."""
        most = len(data) // self._size
        if not most:
            return {}, 0, data
        raw = np.frombuffer(data, np.uint8, most * self._size).reshape(most, self._size)
        fits = (raw[:, self._fixed_places] == self._fixed).all(axis=1)
        rows = most if fits.all() else int(fits.argmin())
        if not rows:
            return {}, 0, data  # an empty buffer is no array
        records = np.frombuffer(data, self._record, rows)
        return {name: np.array(records[name], dtype) for name, dtype in self._fields}, rows, data[rows * self._size :]

    def write(self, tensors: Mapping[str, Array], rows: int) -> bytes:
        """Return the rows of an answer as a message holds them."""
        raw = np.empty((rows, self._size), np.uint8)
        raw[:] = self._empty
        records: Any = raw.view(self._record)[:, 0]
        for name, _ in self._fields:
            records[name] = tensors[name]
        return raw.tobytes()


def layout_of(fields: Sequence[Field], path: str) -> RowLayout | None:
    """Return the layout of rows of these fields, or None when rows differ in length."""
    return RowLayout(fields, path) if all(map(_is_fixed, fields)) else None


def _is_fixed(field: Field) -> bool:
    return field.type in _WIRE_TYPES and all(d > 0 for d in field.shape) and not field.nullable
