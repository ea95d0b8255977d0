"""Element types: one table for the contract's names, the wire names of OIP, sizes and NumPy.

Tensors inside Limen are NumPy arrays, row-major, with the batch as the first axis. `string` elements are `str`, `json` elements
the `str` of a JSON value and `bytes` elements `bytes`, all in object arrays; on the wire they are `BYTES`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final

import ml_dtypes
import msgspec
import numpy as np
from numpy.typing import NDArray

from limen.contracts.errors import InvalidArgument, Reason

Array = NDArray[Any]
MAX_TENSOR_BYTES: Final = 64 << 20
"""Bytes of all numeric tensors of one large request: `1,` is two bytes of a body and eight of a float64."""
MAX_TEXTS: Final = 1 << 18
"""Elements of all text and bytes tensors of one large request; each costs more than a hundred bytes and a visit."""


class Kind(StrEnum):
    """What family an element type belongs to."""

    BOOL = "bool"
    INT = "int"
    FLOAT = "float"
    TEXT = "text"
    BINARY = "binary"


class ElementType(msgspec.Struct, frozen=True, gc=False):
    """One element type as every layer sees it."""

    name: str
    """Contract name, e.g. `float32`."""
    wire: str
    """OIP datatype, e.g. `FP32`."""
    size: int
    """Bytes per element; 0 when variable."""
    kind: Kind
    dtype: np.dtype[Any]
    """Little-endian NumPy dtype; object for string and bytes."""
    low: int = 0
    """Smallest integer value (integers only)."""
    high: int = 0
    """Largest integer value (integers only)."""


def _int(bits: int, *, signed: bool) -> ElementType:
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    name = f"{'' if signed else 'u'}int{bits}"
    return ElementType(name, name.upper(), bits // 8, Kind.INT, np.dtype(name), low, high)


TYPES: Final = (
    ElementType("bool", "BOOL", 1, Kind.BOOL, np.dtype(np.bool_)),
    *(_int(bits, signed=True) for bits in (8, 16, 32, 64)),
    *(_int(bits, signed=False) for bits in (8, 16, 32, 64)),
    ElementType("float16", "FP16", 2, Kind.FLOAT, np.dtype("<f2")),
    ElementType("bfloat16", "BF16", 2, Kind.FLOAT, np.dtype(ml_dtypes.bfloat16)),
    ElementType("float32", "FP32", 4, Kind.FLOAT, np.dtype("<f4")),
    ElementType("float64", "FP64", 8, Kind.FLOAT, np.dtype("<f8")),
    ElementType("string", "BYTES", 0, Kind.TEXT, np.dtype(object)),
    ElementType("bytes", "BYTES", 0, Kind.BINARY, np.dtype(object)),
    ElementType("json", "BYTES", 0, Kind.TEXT, np.dtype(object)),
)
BY_NAME: Final = {t.name: t for t in TYPES}
BY_WIRE: Final = {t.wire: t for t in TYPES if t.name != "json"}
"""OIP datatype to element type; `BYTES` gives `bytes`, which a `string` or `json` field turns into text when it is checked."""

WIRE_OF: Final = {t.dtype: t.wire for t in TYPES}
"""NumPy dtype to OIP datatype."""


def is_whole(value: float) -> bool:
    """Return whether a float is a whole number that it represents exactly."""
    return value.is_integer() and abs(value) <= 1 << 53


class TensorBudget:
    """How much memory the tensors of one request may take: as much as its body may have bytes."""

    __slots__ = ("_bytes", "_texts")

    def __init__(self) -> None:
        """Begin with all of it."""
        self._bytes = self._texts = 0

    def spend(self, array: Array) -> None:
        """Take what a tensor, or a part of one, needs.

        Raises:
            InvalidArgument: there is not so much left.
        """
        if array.dtype.kind == "O":
            self._texts += array.size
        else:
            self._bytes += array.nbytes
        self._check(0, 0)

    def look(self, element: ElementType, count: int) -> None:
        """Raise as `spend` does when there is not enough for so many elements, and take nothing."""
        self._check(count * element.size, 0 if element.size else count)

    def _check(self, size: int, texts: int) -> None:
        if self._bytes + size > MAX_TENSOR_BYTES:
            text = f"the tensors of a request may take at most {MAX_TENSOR_BYTES} bytes"
            raise InvalidArgument(text, reason=Reason.TOO_MANY_PARTS)
        if self._texts + texts > MAX_TEXTS:
            raise too_many_texts()


def too_many_texts() -> InvalidArgument:
    """Return the error for a request with more texts than are read at once."""
    text = f"a request may hold at most {MAX_TEXTS} texts; send fewer rows at once"
    return InvalidArgument(text, reason=Reason.TOO_MANY_PARTS)


class TensorSpec(msgspec.Struct, frozen=True):
    """Name, type and shape of one tensor of an artifact.

    `shape` includes the batch axis when there is one; -1 is variable.
    """

    name: str
    type: str
    shape: tuple[int, ...]
    columns: tuple[str, ...] = ()
    """Names along the last axis (features or classes), when the file knows them."""
    categories: tuple[bool | int | float | str, ...] = ()
    """The only values an input takes, when the file knows them."""
    nullable: bool = False
    """An input takes missing values: NaN among numbers, None among texts."""
    examples: tuple[Any, ...] = ()
    """Values that an input of type `json` takes, where the file shows some."""


def element_type_of(dtype: np.dtype[Any]) -> ElementType | None:
    """Return the element type of a NumPy dtype, or None when contracts cannot express it."""
    if dtype.kind in "OSU":
        return BY_NAME["bytes" if dtype.kind == "S" else "string"]
    return BY_NAME.get(dtype.name)
