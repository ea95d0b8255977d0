"""A strict reader of Universal Binary JSON, as far as XGBoost writes it.

XGBoost's own reader trusts lengths and markers, and a damaged file ends the process; this one checks each against what is left.
Not here: what the values mean (`xgboost_file`). Source: UBJSON draft 12 (big-endian, optimised containers).
"""

from __future__ import annotations

import struct
from typing import Any, Final

import numpy as np

MAX_DEPTH: Final = 32
_DTYPES: Final = {
    marker: np.dtype(code)
    for marker, code in {"i": "i1", "U": "u1", "I": ">i2", "l": ">i4", "L": ">i8", "d": ">f4", "D": ">f8"}.items()
}
_PLAIN: Final = {"Z": None, "T": True, "F": False}


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, count: int) -> bytes:
        end = self.at + count
        if count < 0 or end > len(self.data):
            raise ValueError("a value runs past the end of the file")
        piece = self.data[self.at : end]
        self.at = end
        return piece

    def marker(self) -> str:
        return chr(self.take(1)[0])

    def peek(self) -> str:
        return chr(self.data[self.at]) if self.at < len(self.data) else ""

    def length(self) -> int:
        if self.marker() != "L":
            raise ValueError("a length has another type than int64")
        number: int = struct.unpack(">q", self.take(8))[0]
        if not 0 <= number <= len(self.data) - self.at:
            raise ValueError("a length is beyond the end of the file")
        return number

    def text(self) -> str:
        return self.take(self.length()).decode()

    def value(self, marker: str, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise ValueError("is nested too deeply")
        if marker in _DTYPES:
            dtype = _DTYPES[marker]
            return np.frombuffer(self.take(dtype.itemsize), dtype)[0].item()
        if marker in _PLAIN:
            return _PLAIN[marker]
        if marker == "S":
            return self.text()
        if marker == "{":
            return self.mapping(depth + 1)
        if marker == "[":
            return self.array(depth + 1)
        raise ValueError("has an unknown marker")

    def mapping(self, depth: int, spans: dict[str, slice] | None = None) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while self.peek() != "}":
            key = self.text()
            if key in found:
                raise ValueError("has a key twice")
            start = self.at
            found[key] = self.value(self.marker(), depth)
            if spans is not None:
                spans[key] = slice(start, self.at)
        self.at += 1
        return found

    def array(self, depth: int) -> Any:
        if self.peek() == "$":
            self.at += 1
            dtype = _DTYPES.get(self.marker())
            if dtype is None or self.marker() != "#":
                raise ValueError("has a typed array of no numbers")
            return np.frombuffer(self.take(self.length() * dtype.itemsize), dtype)
        if self.peek() == "#":
            self.at += 1
            return [self.value(self.marker(), depth) for _ in range(self.length())]
        items = []
        while self.peek() != "]":
            items.append(self.value(self.marker(), depth))
        self.at += 1
        return items


def decode(data: bytes, spans: dict[str, slice] | None = None) -> dict[str, Any]:
    """Return the object that `data` holds; arrays of one type are NumPy arrays.

    Args:
        data: the bytes.
        spans: takes where the value of each of the object's keys stands in `data`.

    Raises:
        ValueError: saying what is wrong with the bytes.
    """
    reader = _Reader(data)
    if reader.marker() != "{":
        raise ValueError("is no object")
    found = reader.mapping(1, spans)
    if reader.at != len(data):
        raise ValueError("continues after its end")
    return found
