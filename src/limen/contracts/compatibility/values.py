"""Which values a field allows, and whether another field allows them all.

Called by `contracts.compatibility.fields` with the roles already settled: `wide` is the one that must allow everything `narrow` does.
For an input that is the new field (whatever callers sent must still be taken), for an output the old one (whatever they get must
be something they were told of). Where a question has no cheap answer, as for two different patterns, the answer is no.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sized
from typing import Any, Final

from limen.contracts.contract import Field
from limen.contracts.strict.patterns import PatternError, compile_pattern
from limen.contracts.tensors import Kind

_NUMERIC: Final = (Kind.INT, Kind.FLOAT)
_FEW: Final = 1000
_LARGEST: Final = {"float16": 65504.0, "bfloat16": 3.3895313892515355e38, "float32": 3.4028234663852886e38}


def types_cover(wide: Field, narrow: Field) -> bool:
    """Return whether a JSON value of the narrow field's type is one of the wide field's type, limits aside."""
    if wide.type == narrow.type:
        return True
    if narrow.element.kind not in _NUMERIC or wide.element.kind not in _NUMERIC:
        return False
    if narrow.is_float and not wide.is_float:
        return False
    (low, high), (least, most) = _type_range(narrow), _type_range(wide)
    return least <= low and high <= most


def shapes_cover(wide: Field, narrow: Field) -> bool:
    """Return whether every shape the narrow field may have is one the wide field may have."""
    return len(wide.shape) == len(narrow.shape) and all(
        w in (-1, n) for w, n in zip(wide.shape, narrow.shape, strict=True)
    )


def _type_range(field: Field) -> tuple[float, float]:
    if field.is_float:
        largest = _LARGEST.get(field.type, math.inf)
        return -largest, largest
    return field.element.low, field.element.high


def _enum_covers(wide: Field, narrow: Field) -> bool:
    if wide.enum is None:
        return True
    allowed = narrow.enum if narrow.enum is not None else _few_numbers(narrow)
    return allowed is not None and set(wide.enum).issuperset(allowed)


def _few_numbers(field: Field) -> range | None:
    """Return the whole numbers of a range when there are few enough to look at each."""
    if field.element.kind is not Kind.INT:
        return None
    numbers = range(_low(field), _high(field) + 1)
    return numbers if len(numbers) <= _FEW else None


def _minimum_covers(wide: Field, narrow: Field) -> bool:
    least = _low(wide)
    return all(value >= least for value in narrow.enum or (_low(narrow),))


def _maximum_covers(wide: Field, narrow: Field) -> bool:
    most = _high(wide)
    return all(value <= most for value in narrow.enum or (_high(narrow),))


def _low(field: Field) -> Any:
    """Return the smallest number a field allows; a bound on whole numbers counts from the next whole number."""
    is_whole = field.element.kind is Kind.INT
    if field.minimum is None:
        return field.element.low if is_whole else -math.inf
    return max(math.ceil(field.minimum), field.element.low) if is_whole else field.minimum


def _high(field: Field) -> Any:
    is_whole = field.element.kind is Kind.INT
    if field.maximum is None:
        return field.element.high if is_whole else math.inf
    return min(math.floor(field.maximum), field.element.high) if is_whole else field.maximum


def _min_length_covers(wide: Field, narrow: Field) -> bool:
    return all(length >= (wide.min_length or 0) for length in _lengths(narrow, narrow.min_length or 0))


def _max_length_covers(wide: Field, narrow: Field) -> bool:
    most = math.inf if wide.max_length is None else wide.max_length
    longest = math.inf if narrow.max_length is None else narrow.max_length
    return all(length <= most for length in _lengths(narrow, longest))


def _lengths(field: Field, without_enum: float) -> list[float]:
    return [len(v) for v in field.enum if isinstance(v, Sized)] if field.enum else [without_enum]


def _pattern_covers(wide: Field, narrow: Field) -> bool:
    if wide.pattern is None or wide.pattern == narrow.pattern:
        return True
    if narrow.enum is None:
        return False
    try:
        return compile_pattern(wide.pattern).match_all([str(value) for value in narrow.enum])
    except PatternError:
        return False  # published before patterns were held to what can be matched in linear time


LIMITS: Final[dict[str, Callable[[Field, Field], bool]]] = {
    "enum": _enum_covers,
    "minimum": _minimum_covers,
    "maximum": _maximum_covers,
    "min_length": _min_length_covers,
    "max_length": _max_length_covers,
    "pattern": _pattern_covers,
}
"""By the key in `model.yaml`: whether this limit of the wide field (first) lets through whatever the narrow one allows.

Both fields are of one kind. A field lets through a value when all of its limits do.
"""
