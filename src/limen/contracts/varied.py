"""Generates varied rows that a contract allows: different values, scales, signs and categories, with missing values if allowed.

One row alone, or the same row twice, says little about a model. These rows are what `runtime.versions.independence` asks: the first is an
example, the others are made from it within the contract's limits. Always the same for the same contract. Tensors, not JSON: a row may be
an image. Pure.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from typing import Any, Final

import msgspec
import numpy as np

from limen.contracts.contract import Contract, Field
from limen.contracts.errors import InvalidArgument, LimenError
from limen.contracts.openapi.examples import example_element, example_record
from limen.contracts.tensors import Array, Kind
from limen.contracts.validation.records import RecordCodec
from limen.contracts.validation.tensors import TensorCheck

MAX_BASES: Final = 16
"""Golden examples that rows are made from."""
FREE_SIZES: Final = (2, 5)
"""Lengths of a variable axis when no example says one."""


class _Kind(msgspec.Struct, frozen=True):
    """One way to differ from the first row."""

    scale: float = 1.0
    noise: float = 0.5
    """How far values move, as a part of the largest one."""
    has_gaps: bool = False


_KINDS: Final = (
    _Kind(scale=100.0),
    _Kind(noise=0.05),
    _Kind(scale=-1.0),
    _Kind(noise=0.1, has_gaps=True),
    _Kind(scale=0.01),
    _Kind(scale=10.0),
    _Kind(scale=-300.0),
    _Kind(noise=1.0),
)
_WORDS: Final = (
    "a",
    "another text",
    "TEXT",
    "text, and a longer one with 12 words to tell it from the others",
    "x y",
    "",
)


def base_rows(contract: Contract, records: RecordCodec) -> list[dict[str, Array]]:
    """Return one-row inputs to start from: the golden examples, or rows made up from the limits, one for each free size."""
    found = []
    for example in contract.examples[:MAX_BASES]:
        try:
            found.append(records.tensors([example.inputs]))
        except LimenError:
            continue  # reported where examples are judged
    return found or made_up_rows(contract, records)


def made_up_rows(contract: Contract, records: RecordCodec) -> list[dict[str, Array]]:
    """Return one-row inputs that the contract allows; several when it has variable axes."""
    if any(field.examples for field in contract.inputs):
        return [records.tensors([example_record(contract)])]
    is_free = any(d < 0 for field in contract.inputs for d in field.shape)
    return [
        {field.name: _made_up(field, size) for field in contract.inputs}
        for size in (FREE_SIZES if is_free else FREE_SIZES[:1])
    ]


def varied_row(contract: Contract, base: Mapping[str, Array], number: int) -> dict[str, Array]:
    """Return the row `number` of those made from `base`, of the same sizes; 0 is `base` itself."""
    if number == 0:
        return dict(base)
    random = np.random.default_rng(number)
    kind = _KINDS[(number - 1) % len(_KINDS)]
    return {field.name: _varied(field, base[field.name], kind, number, random) for field in contract.inputs}


def _made_up(field: Field, size: int) -> Array:
    element = example_element(field)
    if field.element.kind is Kind.BINARY:
        element = base64.b64decode(str(element))
    row = np.empty((1, *(size if d < 0 else d for d in field.shape)), field.element.dtype)
    row[...] = element
    return row


def _varied(field: Field, base: Array, kind: _Kind, number: int, random: np.random.Generator) -> Array:
    element = field.element
    if element.kind is Kind.BINARY:
        return base
    if element.kind is Kind.BOOL:
        return random.integers(0, 2, base.shape).astype(bool)
    if element.kind is Kind.TEXT:
        made = _texts(field, base, number)
    elif field.enum:
        choices = np.array(field.enum, element.dtype)
        made = choices[(number + np.arange(base.size)) % len(choices)].reshape(base.shape)
    elif element.kind is Kind.INT:
        made = _whole_numbers(field, base, kind, random)
    else:
        made = _numbers(field, base, kind, random)
    return _with_gaps(made, element.kind, random) if kind.has_gaps and field.nullable else made


def _numbers(field: Field, base: Array, kind: _Kind, random: np.random.Generator) -> Array:
    given = np.nan_to_num(base.astype(np.float64), posinf=1.0, neginf=-1.0)
    low, high = field.minimum, field.maximum
    if low is not None and high is not None:
        # A large scale walks the whole range, a small one stays at the low end.
        share = min(1.0, max(abs(kind.scale) / 10, 0.02))
        made = low + (high - low) * share * random.random(base.shape)
        if kind.noise < 0.5:
            made = given + (made - given) * kind.noise
    else:
        size = float(np.abs(given).max(initial=0.0)) or 1.0
        made = (given + size * kind.noise * random.normal(size=base.shape)) * kind.scale
        if low is not None:
            made = low + np.abs(made - low)
        elif high is not None:
            made = high - np.abs(high - made)
    dtype = field.element.dtype
    widest = float(np.finfo(np.float32 if dtype.name == "bfloat16" else dtype).max) / 4
    made = np.clip(made, -widest, widest).astype(dtype)
    # In the field's own precision, as the limits are judged.
    fitting: Array = np.clip(made, None if low is None else dtype.type(low), None if high is None else dtype.type(high))
    return fitting


def _whole_numbers(field: Field, base: Array, kind: _Kind, random: np.random.Generator) -> Array:
    element = field.element
    low = element.low if field.minimum is None else max(element.low, math.ceil(field.minimum))
    high = element.high if field.maximum is None else min(element.high, math.floor(field.maximum))
    if field.minimum is not None and field.maximum is not None:
        made = low + np.floor((high - low + 1.0) * random.random(base.shape))
    else:
        # Without limits a whole number may be an index or a count: most rows stay as small as the example.
        size = max(float(np.abs(base.astype(np.float64)).max(initial=0.0)), 4.0)
        reach = size * (100 if kind.scale >= 100 else 1)
        made = np.floor(reach * random.random(base.shape)) * (-1 if kind.scale < 0 else 1)
    # No float holds the largest 64-bit number exactly; the next smaller one will do.
    top = float(high) if float(high) <= high else math.nextafter(float(high), 0.0)
    fitting: Array = np.clip(made, low, top).astype(element.dtype)
    return fitting


def _texts(field: Field, base: Array, number: int) -> Array:
    known = [v for v in (field.enum or field.examples) if isinstance(v, str)]
    if not field.enum:
        given = [v for v in base.flat if isinstance(v, str)]
        known += [*given, *(v[::-1] for v in given), *(f"{v} {v}" for v in given), *_WORDS]
    check = TensorCheck(field)
    fitting = [text for text in dict.fromkeys(known) if _is_allowed(check, text)]
    if not fitting:
        return base
    made = np.empty(base.size, object)
    made[:] = [fitting[(number + i) % len(fitting)] for i in range(base.size)]
    return made.reshape(base.shape)


def _is_allowed(check: TensorCheck, text: str) -> bool:
    try:
        check.check_values(np.array([text], object), "")
    except InvalidArgument:
        return False
    return True


def _with_gaps(row: Array, kind: Kind, random: np.random.Generator) -> Array:
    missing: Any = None if kind is Kind.TEXT else math.nan
    gaps = random.random(row.shape) < 0.5
    gaps.flat[0] = True
    made = row.copy()
    made[gaps] = missing
    return made
