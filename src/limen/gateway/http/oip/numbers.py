"""Large numeric JSON bodies, read by simdjson, which returns a list of numbers as one buffer.

Called by `gateway.http.oip.tensors`, which also judges what this does not see: repeated keys, and data nested deeper than its shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, Final

import numpy as np
import simdjson

from limen.contracts.oip.wire import MAX_DIMENSIONS
from limen.contracts.tensors import BY_WIRE, Array, ElementType, Kind

_BUFFER: Final = {"f": "d", "i": "i", "u": "u"}
_parser = simdjson.Parser()


class Numbers:
    """Reads flat lists, in a parser of its own: the other one belongs to the event loop."""

    def __init__(self) -> None:
        """Make the parser."""
        self._parser = simdjson.Parser()

    def read(self, text: bytes, element: ElementType) -> Array:
        """Return the numbers of one flat list.

        Raises one of the errors `_decode_numbers` knows when they are anything else or do not fit.
        """
        # Nested lists would be flattened.
        if element.size < 4 or text.find(b"[", 1) >= 0:
            raise ValueError
        values: Any = self._parser.parse(text)
        kind = _BUFFER[element.dtype.kind]
        flat = np.frombuffer(values.as_buffer(of_type=kind), np.float64 if kind == "d" else f"{kind}8")
        return _narrow(flat, element)


def scan(text: bytes) -> tuple[dict[str, Any], dict[str, Array], int]:
    """Return the body without its data, the data as tensors by name, and how many lists the data is made of.

    Raises one of the errors `_decode_numbers` knows when the body is anything but numbers and known keys. Nothing may go
    on referring to the parser's document afterwards: the parser is used again.
    """
    if not text.startswith(b"{"):
        raise ValueError  # simdjson would skip a byte-order mark
    document: Any = _parser.parse(text)
    outline: dict[str, Any] = {}
    arrays: dict[str, Array] = {}
    lists = 0
    for key in document:
        value = document[key]
        if key == "inputs":
            inputs = outline[key] = []
            for item in value:
                found, more = _scan_input(item, arrays)
                inputs.append(found)
                lists += more
        else:
            outline[key] = _plain(value)
    return outline, arrays, lists


def _scan_input(item: Any, arrays: dict[str, Array]) -> tuple[dict[str, Any], int]:
    found: dict[str, Any] = {key: _plain(item[key]) for key in item if key != "data"}
    element = BY_WIRE[found["datatype"]]
    shape = found["shape"]
    values = item["data"]
    if "parameters" in found or element.size < 4 or len(shape) > MAX_DIMENSIONS:
        raise ValueError
    if any(type(d) is not int or d < 1 for d in shape):
        raise ValueError
    is_flat = len(values) == prod(shape) and not isinstance(values[0], simdjson.Array)
    lists = 1 if is_flat else _lists_in(values, shape)
    kind = _BUFFER[element.dtype.kind]
    flat = np.frombuffer(values.as_buffer(of_type=kind), np.float64 if kind == "d" else f"{kind}8")
    arrays[found["name"]] = _narrow(flat, element).reshape(shape)
    return found, lists


def _lists_in(values: Any, shape: Sequence[int]) -> int:
    """Return how many lists nested data is made of; raises ValueError or TypeError unless all have the lengths of the shape."""
    if not shape or len(values) != shape[0]:
        raise ValueError
    return 1 if len(shape) == 1 else 1 + sum(_lists_in(value, shape[1:]) for value in values)


def _narrow(flat: Array, element: ElementType) -> Array:
    """Return 64-bit numbers in the request's own type, refusing those that do not fit."""
    if element.kind is Kind.INT:
        if flat.size and (flat.min() < element.low or flat.max() > element.high):
            raise ValueError
        return flat.astype(element.dtype)
    with np.errstate(over="raise"):
        return flat.astype(element.dtype)


def _plain(value: Any) -> Any:
    if isinstance(value, simdjson.Object):
        return value.as_dict()
    return value.as_list() if isinstance(value, simdjson.Array) else value
