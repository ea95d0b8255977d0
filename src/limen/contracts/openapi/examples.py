"""Example values within a contract's limits, and the contract as callers may see it.

The examples of the OpenAPI document and the docs page come from here: the owner's golden example, else the field's own
examples, else a value made up within the limits. A secret field never shows what its owner wrote, and a personal one only
what was written to be shown (`Field.examples`), because golden examples may be copied from life.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from limen.contracts.contract import Contract, Field, Json, Sensitivity
from limen.contracts.openapi.pattern_example import matching_text
from limen.contracts.tensors import Kind
from limen.contracts.validation import json_values

_VARIABLE_SIZE: Final = 2
"""Length of a variable axis in an example that is made up."""
MAX_SHOWN: Final = 10_000
"""Values of a row, inputs and outputs together, above which no example of it is written out."""
_GUARDED: Final = frozenset({Sensitivity.PERSONAL, Sensitivity.SECRET})


def values_of_a_row(contract: Contract) -> int:
    """Return how many values an example of one row holds, its answer included."""
    fields = (*contract.inputs, *contract.outputs)
    return sum(math.prod(_VARIABLE_SIZE if d < 0 else d for d in field.shape) for field in fields)


def is_showable(contract: Contract) -> bool:
    """Return whether a row is small enough to be written out as an example; an image is not."""
    return values_of_a_row(contract) <= MAX_SHOWN


def example_record(contract: Contract) -> dict[str, Json]:
    """Return one record, as JSON values, that the contract accepts and that shows nothing secret."""
    golden = contract.examples[0].inputs if contract.examples else None
    return {f.name: _example(f, golden) for f in contract.inputs}


def example_outputs(contract: Contract) -> dict[str, Json]:
    """Return what an answer to `example_record` looks like; the golden answer where the owner gave one."""
    golden = contract.examples[0].outputs if contract.examples else None
    return {f.name: _example(f, golden) for f in contract.outputs}


def example_value(field: Field) -> Json:
    """Return one value of the field for one row: an example of its owner, or one made up within the limits."""
    if field.sensitivity is not Sensitivity.SECRET:
        for value in field.examples:
            if field.is_json and field.is_scalar:
                return value
            if value is not None and shape_of(value, len(field.shape)) is not None and _fits_shape(field, value):
                return value
    return _spread(example_element(field), tuple(_VARIABLE_SIZE if d < 0 else d for d in field.shape))


def shown(contract: Contract) -> Contract:
    """Return the contract as callers may see it: without the owner's values of secret and personal fields."""
    hidden = {f.name for f in (*contract.inputs, *contract.outputs) if f.sensitivity in _GUARDED}
    return msgspec.structs.replace(
        contract,
        inputs=tuple(map(_shown_field, contract.inputs)),
        outputs=tuple(map(_shown_field, contract.outputs)),
        examples=tuple(
            msgspec.structs.replace(e, inputs=_without(e.inputs, hidden), outputs=_without(e.outputs, hidden))
            for e in contract.examples
        ),
    )


def contract_document(contract: Contract) -> dict[str, Json]:
    """Return the contract as the JSON object callers may read, without the owner's values of sensitive fields."""
    found: dict[str, Json] = msgspec.to_builtins(shown(contract))
    return found


def shape_of(value: Json, axes: int) -> tuple[int, ...] | None:
    """Return the lengths of `axes` levels of nested lists, or None when the nesting is another or ragged."""
    if axes == 0:
        return None if isinstance(value, list) else ()
    if not isinstance(value, list):
        return None
    inner = {shape_of(item, axes - 1) for item in value} or {(0,) * (axes - 1)}
    only = inner.pop()
    return None if inner or only is None else (len(value), *only)


def tensor_value(field: Field, value: Json) -> Json:
    """Return a value of a record as a tensor has it: JSON text in place of what a field of type `json` holds."""
    return json_values.texts(value, len(field.shape)) if field.is_json else value


def _example(field: Field, golden: Mapping[str, Json] | None) -> Json:
    if field.is_json and field.nullable and not field.examples and field.name not in (golden or {}):
        return None  # no made-up value fits what may have any form
    if golden is None or field.sensitivity in _GUARDED:
        return example_value(field)
    if field.name in golden:
        return golden[field.name]
    if field.has_default:
        return field.default
    return None if field.nullable else example_value(field)


def _fits_shape(field: Field, value: Json) -> bool:
    shape = shape_of(value, len(field.shape)) or ()
    return all(wanted in (-1, got) for wanted, got in zip(field.shape, shape, strict=True))


def _shown_field(field: Field) -> Field:
    if field.sensitivity is not Sensitivity.SECRET:
        return field
    return msgspec.structs.replace(field, examples=(), default=msgspec.UNSET)


def _without(values: Mapping[str, Json], hidden: Iterable[str]) -> dict[str, Json]:
    return {name: value for name, value in values.items() if name not in hidden}


def _spread(element: Json, shape: tuple[int, ...]) -> Json:
    value: Json = element
    for size in reversed(shape):
        value = [value] * size
    return value


def example_element(field: Field) -> Json:
    """Return one element of the field, made up within its limits."""
    kind = field.element.kind
    if field.enum and kind is not Kind.BINARY:
        return field.enum[0]
    if kind is Kind.BOOL:
        return True
    if kind is Kind.INT:
        return _whole_number(field)
    if kind is Kind.FLOAT:
        return _number(field)
    if field.is_json:
        return {}
    if kind is Kind.TEXT:
        return _text(field)
    low, high = field.min_length or 0, field.max_length
    content = (b"example" * (low // 7 + 1))[: max(low, 7)]
    return base64.b64encode(content if high is None else content[:high]).decode()


def _whole_number(field: Field) -> int:
    low = field.element.low if field.minimum is None else max(field.element.low, math.ceil(field.minimum))
    high = field.element.high if field.maximum is None else min(field.element.high, math.floor(field.maximum))
    if field.minimum is None or field.maximum is None:
        return min(max(low, 1), high)
    return (low + high) // 2


def _number(field: Field) -> float:
    low, high = field.minimum, field.maximum
    if low is None or high is None:
        bound = high if low is None else low
        return 0.5 if bound is None else float(bound)
    middle = low + (high - low) / 2
    # As few digits as the limits allow: a short number reads better than an exact middle.
    return next((r for digits in range(8) if low < (r := round(middle, digits)) < high), middle)


def _text(field: Field) -> str:
    low, high = field.min_length or 0, field.max_length
    if field.pattern is not None:
        found = matching_text(field.pattern, min_length=field.min_length, max_length=high)
        if found is not None:
            return found
    text = ("text" * (low // 4 + 1))[: max(low, 4)]
    return text if high is None else text[:high]
