"""Which element types may replace one another between a contract and an artifact.

A cast is allowed when no value can change: every value the source may hold has an exact counterpart in the target. What a field
may hold is narrowed by its `minimum`, `maximum` and `enum`. The one exception is float64 to float32, which rounds (and takes
what is beyond float32's range to infinity): models are trained in one precision and called in the other all the time.
Pure; called by `runtime.binding.binding`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np

from limen.contracts.contract import Field
from limen.contracts.errors import InvalidOutput
from limen.contracts.tensors import Array, ElementType, Kind

_WHOLE: Final = {"float16": 1 << 11, "bfloat16": 1 << 8, "float32": 1 << 24, "float64": 1 << 53}
"""Up to here every whole number is exact."""
_WIDER: Final = {
    ("float16", "float32"),
    ("float16", "float64"),
    ("bfloat16", "float32"),
    ("bfloat16", "float64"),
    ("float32", "float64"),
    ("float64", "float32"),
}
Limits = tuple[float, float]


def limits_of(field: Field) -> Limits:
    """Return the smallest and largest whole number a field of integers may hold."""
    element = field.element
    low = element.low if field.minimum is None else max(element.low, field.minimum)
    high = element.high if field.maximum is None else min(element.high, field.maximum)
    if field.enum:
        numbers = [v for v in field.enum if isinstance(v, int)]
        low, high = max([low, min(numbers, default=low)]), min([high, max(numbers, default=high)])
    return low, high


def cast_problem(source: ElementType, target: ElementType, limits: Limits | None = None) -> str | None:
    """Return why a cast could change values, or None when it may be done.

    Args:
        source: the type of the values.
        target: the type they are to have.
        limits: what integers are known to stay within; the whole range of `source` when None.
    """
    if source is target or (source.name, target.name) in _WIDER:
        return None
    if source.kind is Kind.BOOL and target.kind in (Kind.INT, Kind.FLOAT):
        return None
    if source.kind is Kind.INT and target.kind in (Kind.INT, Kind.FLOAT):
        exact = (target.low, target.high) if target.kind is Kind.INT else (-_WHOLE[target.name], _WHOLE[target.name])
        low, high = limits or (source.low, source.high)
        if exact[0] <= low and high <= exact[1]:
            return None
        return f"{target.name} holds whole numbers from {exact[0]} to {exact[1]} exactly"
    return f"{source.name} cannot become {target.name} without changing values"


def cast_values(array: Array, target: ElementType, name: str) -> Array:
    """Return an array of an unknown type as `target`, if every value survives (float64 to float32 may round).

    Raises:
        InvalidOutput: naming the output.
    """
    kind = array.dtype.kind
    if kind in "OUS" or not target.size:
        if kind == "O" and not target.size:
            return array
        if (kind, target.kind) in (("U", Kind.TEXT), ("S", Kind.BINARY)):
            return array.astype(object)
        raise InvalidOutput(f"the model's output {name} must have the type {target.name}")
    with np.errstate(all="ignore"):
        cast = array.astype(target.dtype)
        rounds = array.dtype == np.float64 and target.dtype == np.float32
        if not rounds and not _survive(array, cast, target):
            raise InvalidOutput(f"the model's output {name} has values that {target.name} cannot hold")
    return cast


def _survive(array: Array, cast: Array, target: ElementType) -> bool:
    """Whether the cast kept every value; NaN stays NaN among floats."""
    if array.size == 0 or target.kind is Kind.BOOL:
        return array.size == 0
    if target.kind is Kind.INT:
        # A wrapped integer would come back right, so the range decides; NaN is within no range.
        within = target.low <= array.min() and array.max() <= target.high
        return bool(within and (array.dtype.kind in "biu" or (cast == array).all()))
    return bool(((cast.astype(array.dtype) == array) | np.isnan(cast)).all())


def listed_shape(shape: Iterable[int]) -> str:
    """Return a shape as people write it."""
    return f"[{', '.join(map(str, shape))}]"
