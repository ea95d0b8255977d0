"""Fields of type `json`: any JSON value in a record, its JSON text in a tensor.

A tensor needs elements of one kind, so the value travels through batches, replicas and both gRPC services as text; only the record
API and the golden examples show it as what it is. Called by the checks and codecs of `contracts`, and by backends whose models
take nested values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from limen.contracts.contract import Field, Json
from limen.contracts.errors import InvalidArgument, InvalidOutput
from limen.contracts.strict import json as strict_json
from limen.contracts.strict.pieces import MAX_DEPTH
from limen.contracts.tensors import Array

NULL = "null"


def to_text(value: Json) -> str:
    """Return a JSON value as JSON text."""
    return msgspec.json.encode(value).decode()


def from_text(text: str) -> Any:
    """Return the JSON value of a text that is known to be one."""
    return msgspec.json.decode(text)


def raw_text(raw: msgspec.Raw) -> str:
    """Return the text of a value that a typed decoder has left alone.

    Raises:
        ValueError: it is not UTF-8, holds a number that is out of range, or may be nested too deeply.
    """
    data = bytes(raw)
    if data.count(b"[") + data.count(b"{") > MAX_DEPTH:
        strict_json.parse(data)
    msgspec.json.decode(data)
    return data.decode()


def texts(value: Json, axes: int) -> Any:
    """Return a field's value with the JSON text of each element, below so many levels of lists; None stays None."""
    if value is None:
        return None
    return to_text(value) if axes == 0 else [texts(item, axes - 1) for item in value]


def values(value: Any, axes: int) -> Json:
    """Return what `texts` was given."""
    if value is None:
        return None
    return from_text(value) if axes == 0 else [values(item, axes - 1) for item in value]


def in_rows(rows: Sequence[dict[str, Json]], fields: Mapping[str, int]) -> None:
    """Put the values in place of their texts in records; `fields` says how many levels of lists a field has."""
    for name, axes in fields.items():
        for row in rows:
            if name in row:
                row[name] = values(row[name], axes)


def problem(field: Field, text: str) -> str | None:
    """Return what is wrong with an element that came as text, or None."""
    try:
        value = strict_json.parse(text.encode())
    except (InvalidArgument, UnicodeEncodeError):
        return "must be JSON text"
    return "must not be null" if value is None and not field.nullable else None


def encoded(array: Array, name: str) -> Array:
    """Return a model's own answer with JSON text in place of lists, mappings, numbers and truth values; text is JSON text already.

    Raises:
        InvalidOutput: an element is no JSON value.
    """
    try:
        flat = [v if v is None or isinstance(v, str) else to_text(v) for v in array.ravel().tolist()]
    except (TypeError, ValueError) as exc:
        raise InvalidOutput(f"the model's output {name} is not valid JSON") from exc
    found = np.empty(len(flat), object)
    found[:] = flat
    return found.reshape(array.shape)
