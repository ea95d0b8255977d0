"""Large infer bodies: everything but tensor data is read as a small body, and the data in batches.

Reading stops at the first piece with a mistake in it, and before tensors take more memory than a body may have. Called by
`gateway.http.oip.tensors`; runs beside the event loop, no step takes long.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from math import prod
from typing import Any, Final

import msgspec
import numpy as np

from limen.contracts.errors import InvalidArgument, Reason
from limen.contracts.oip.wire import MAX_BYTES_ELEMENT, element_count, element_of
from limen.contracts.strict import json as strict_json
from limen.contracts.strict.pieces import LARGE_TEXT, SMALL_PIECE, Cursor, Group, Text
from limen.contracts.tensors import Array, TensorBudget
from limen.gateway.http.oip.numbers import Numbers

MAX_BESIDE: Final = 2 << 20
"""Bytes beside large data: a thousand inputs whose data is just not large."""
MAX_LARGE: Final = 1024
"""Tensors whose data is large: as many as a request may have inputs."""
_BODY: Final = {
    "inputs": Reason.INPUT_SET,
    "outputs": Reason.OUTPUT_SET,
    "id": Reason.INVALID_ID,
    "parameters": Reason.INVALID_PARAMETER,
    "model_name": Reason.INVALID_NAME,
}
_INPUT: Final = {
    "name": Reason.INPUT_SET,
    "shape": Reason.SHAPE_OVERFLOW,
    "datatype": Reason.DTYPE,
    "data": Reason.DTYPE,
    "parameters": Reason.INVALID_PARAMETER,
}
"""What is known, and the reason for refusing one that is too large."""
Convert = Callable[[str, list[int], list[Any], str], Array]
"""Takes datatype, shape, values and path; returns the tensor."""


class LargeBody:
    """One body, without its large data."""

    def __init__(self, text: Text) -> None:
        """Find the large data.

        Raises:
            InvalidArgument: something else is large, or the text is no body.
        """
        self._text = text
        self._parts: list[bytes] = []
        self._size = 0
        self._inputs = 0
        self.places: dict[int, int] = {}
        """Where the data of a tensor begins, by its number."""
        cursor = self._cursor = Cursor(text)
        if not cursor.enter(b"{"):
            error = InvalidArgument("the body must be an object with inputs", reason=Reason.INVALID_FIELD)
            raise cursor.refusal(error)
        self._members("", self._large_member)
        cursor.end()
        self.beside = b"{%s}" % b",".join(self._parts)
        """The body with an empty list in the place of each large one."""

    def _members(self, path: str, take: Callable[[str, str], None]) -> None:
        """Copy the small members of the object that was entered, and have the others taken."""
        cursor, is_over = self._cursor, False
        while not is_over:
            group = cursor.group(b"}", SMALL_PIECE)
            if group is not None:
                self._copy(group.text)
                is_over = group.is_last
                continue
            take(strict_json.parse(cursor.key()), path)
            is_over = cursor.leave(b"}")

    def _copy(self, text: bytes) -> None:
        if text:
            self._parts.append(text)
            self._size += len(text)
            if self._size > MAX_BESIDE:
                raise InvalidArgument("the data outside the inputs is too large", reason=Reason.TOO_MANY_PARTS)

    def _large_member(self, key: str, path: str) -> None:
        if key != "inputs":
            self._beside(key, _BODY, path)
            return
        cursor, outer = self._cursor, self._parts
        if not cursor.enter(b"["):
            raise cursor.refusal(InvalidArgument.at("inputs", "must be a list of tensors", Reason.INPUT_SET))
        self._parts = []
        is_over = False
        while not is_over:
            group = cursor.group(b"]", SMALL_PIECE)
            if group is not None:
                self._copy(group.text)
                if group.text:
                    # Only to know the numbers of those that follow; what they hold is judged with the rest.
                    self._inputs += len(_raw_list(b"[%s]" % group.text, cursor, group.start))
                is_over = group.is_last
                continue
            self._large_input()
            is_over = cursor.leave(b"]")
        outer.append(b'"inputs":[%s]' % b",".join(self._parts))
        self._parts = outer

    def _large_input(self) -> None:
        path = f"inputs[{self._inputs}]"
        if not self._cursor.enter(b"{"):
            raise self._cursor.refusal(InvalidArgument.at(path, "must be an object", Reason.INPUT_SET))
        outer, self._parts = self._parts, []
        self._members(path, self._large_data)
        outer.append(b"{%s}" % b",".join(self._parts))
        self._parts = outer
        self._inputs += 1

    def _large_data(self, key: str, path: str) -> None:
        cursor = self._cursor
        if key != "data" or cursor.peek() != b"[":
            self._beside(key, _INPUT, path)
            return
        if self._inputs in self.places or len(self.places) >= MAX_LARGE:
            raise InvalidArgument.at(path, "has more than one data", Reason.DUPLICATE_KEY)
        self.places[self._inputs] = cursor.at
        cursor.skip(strict_json.MAX_PARTS)
        self._parts.append(b'"data":[]')

    def _beside(self, key: str, known: Mapping[str, Reason], path: str) -> None:
        """Copy a member that is not large data, unless it is larger than any of its kind."""
        where = f"{path}.{key}" if path else key
        if key not in known:
            text = f"has an unknown field; known are {', '.join(known)}"
            error = InvalidArgument.at(path, text if path else f"the body {text}", Reason.UNKNOWN_FIELD)
            raise self._cursor.refusal(error)
        value = self._cursor.value(LARGE_TEXT)
        if value is None:
            raise InvalidArgument.at(where, f"may have at most {LARGE_TEXT} bytes", known[key])
        self._copy(b'"%s":%s' % (key.encode(), value))

    def data(self, number: int, datatype: str, shape: list[int], convert: Convert, budget: TensorBudget) -> Array:
        """Return the large data of a tensor.

        Raises:
            InvalidArgument: as for small data.
        """
        path = f"inputs[{number}]"
        wanted = element_count(shape, f"{path}.shape")
        budget.look(element_of(datatype, f"{path}.datatype"), wanted)
        cursor = Cursor(self._text, self.places[number])
        reader = _Data(cursor, datatype, convert, budget, path)
        cursor.enter(b"[")
        is_flat = len(shape) < 2 or cursor.peek() != b"["
        return reader.read([wanted] if is_flat else shape, 0).reshape(shape)


class _Data:
    """The data of one tensor."""

    def __init__(self, cursor: Cursor, datatype: str, convert: Convert, budget: TensorBudget, path: str) -> None:
        self._cursor = cursor
        self._datatype = datatype
        self._element = element_of(datatype, f"{path}.datatype")
        self._numbers = Numbers()
        self._convert = convert
        self._budget = budget
        self._path = path

    def read(self, shape: list[int], first: int) -> Array:
        """Return the values of the list that was entered; `first` of the tensor's come before them."""
        cursor, inner = self._cursor, shape[1:]
        each = prod(inner)
        parts: list[Array] = []
        count, is_over = 0, False
        while not is_over and count <= shape[0]:
            group = cursor.group(b"]")
            at = first + count * each
            if group is None:
                part = self._one(inner, at)[np.newaxis]
                is_over = cursor.leave(b"]")
            else:
                is_over = group.is_last
                part = self._group(group, inner, at)
                self._budget.spend(part)
            parts.append(part)
            count += len(part)
        if count != shape[0]:
            where, got = f"{self._path}.data", count if is_over else "more"
            raise InvalidArgument.at(where, f"must have {shape[0]} values, got {got}", Reason.SHAPE_MISMATCH)
        return np.concatenate(parts)

    def _group(self, group: Group, inner: list[int], at: int) -> Array:
        """Convert the values of a piece: numbers quickly, whatever that does not take with its mistakes."""
        text = b"[%s]" % group.text
        if not inner:
            with suppress(ValueError, TypeError, KeyError, RuntimeError, ArithmeticError):
                return self._numbers.read(text, self._element)
        values = _raw_list(text, self._cursor, group.start)
        return self._tensor([len(values), *inner], values, at)

    def _one(self, shape: list[int], at: int) -> Array:
        """Read an element that is larger than a piece."""
        cursor = self._cursor
        if shape and cursor.enter(b"["):
            return self.read(shape, at)
        if not shape and cursor.peek() == b'"':
            return self._tensor([1], [strict_json.parse(cursor.string(MAX_BYTES_ELEMENT))], at)[0:1].reshape(())
        text = "has nesting that does not match the shape"
        raise InvalidArgument.at(f"{self._path}.data", text, Reason.SHAPE_MISMATCH)

    def _tensor(self, shape: list[int], values: list[Any], at: int) -> Array:
        """Convert some values, of which the first one is the tensor's `at`."""
        try:
            return self._convert(self._datatype, shape, values, self._path)
        except InvalidArgument as exc:
            raise _moved(exc, f"{self._path}.data", at) from exc


def _moved(exc: InvalidArgument, path: str, at: int) -> InvalidArgument:
    """Return an error about an element with the number that it has in the whole tensor."""
    (violation, *_) = exc.violations or (None,)
    if violation is None or not violation.path.startswith(f"{path}["):
        return exc
    number = int(violation.path.removeprefix(f"{path}[").removesuffix("]"))
    return InvalidArgument.at(f"{path}[{at + number}]", violation.reason, exc.reason)


def _raw_list(text: bytes, cursor: Cursor, start: int) -> list[Any]:
    try:
        found: list[Any] = msgspec.json.decode(text, type=list[Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        if isinstance(exc, msgspec.MsgspecError) and "out of range" in str(exc):
            raise InvalidArgument("a number is out of range", reason=Reason.NUMBER_RANGE) from exc
        raise cursor.broken(start) from exc
    return found
