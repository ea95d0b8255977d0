"""Large record bodies: rows are decoded and checked in batches, and a large field in batches of its values.

Reading stops at the first piece with a mistake in it, and before tensors take more memory than a body may have. What a piece means is
said by the decoders that read small bodies whole. Called by `contracts.validation.records`; runs beside the event loop, no step takes long.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

import msgspec
import numpy as np

from limen.contracts.contract import Field
from limen.contracts.errors import InvalidArgument, Reason, Violation
from limen.contracts.names import shown
from limen.contracts.oip.wire import MAX_BYTES_ELEMENT
from limen.contracts.strict import json as strict_json
from limen.contracts.strict.pieces import LARGE_TEXT, PIECE, SMALL_PIECE, Cursor, Group, Text
from limen.contracts.tensors import Array, Kind, TensorBudget
from limen.contracts.validation.rows import ENVELOPE, RowCheck

_ROWS: Final = "instances"


class Codec(Protocol):
    """What `contracts.validation.records` lends."""

    fields: tuple[Field, ...]
    limit: int
    row_check: RowCheck

    def rows(self, text: bytes, first: int) -> dict[str, Array]:
        """Return the tensors of some rows, of which the first one is the `first` of its body."""
        ...

    def column(self, field: Field, value: Any) -> Array:
        """Return the tensor of one checked value."""
        ...

    def values(self, field: Field) -> Callable[[bytes], Array]:
        """Return what decodes a list of values of a field's shape, or raises anything when one is not right."""
        ...

    def envelope(self, text: bytes) -> Mapping[str, Any]:
        """Return what surrounds the rows, checked."""
        ...


class LargeRecords:
    """Reads one body."""

    def __init__(self, codec: Codec, body: Text) -> None:
        """Prepare; `read` does it."""
        self._codec = codec
        self._cursor = Cursor(body)
        self._budget = TensorBudget()
        self._columns: defaultdict[str, list[Array]] = defaultdict(list)
        self._rows = 0

    def read(self) -> tuple[dict[str, Array], int, Mapping[str, Any]]:
        """Return the tensors, the number of rows, and what surrounds them.

        Raises:
            InvalidArgument: with the mistakes of the first piece that has any.
        """
        cursor = self._cursor
        if not cursor.enter(b"{"):
            error = InvalidArgument("the body must be an object with instances", reason=Reason.VALUE)
            raise cursor.refusal(error)
        around: list[bytes] = []
        is_over = False
        while not is_over:
            group = cursor.group(b"}", SMALL_PIECE)
            if group is not None:
                around.append(group.text)
                is_over = group.is_last
                if sum(map(len, around)) > LARGE_TEXT:
                    self._codec.envelope(_object(around))
                    raise InvalidArgument("the data outside the instances is too large", reason=Reason.TOO_MANY_PARTS)
                continue
            key = self._key(ENVELOPE, "", "is not a field of this request")
            if key != _ROWS:
                around.append(self._beside(key))
                is_over = cursor.leave(b"}")
                continue
            if self._rows:
                raise InvalidArgument("an object repeats a key", reason=Reason.DUPLICATE_KEY)
            self._read_rows()
            around.append(b'"instances":[]')
            is_over = cursor.leave(b"}")
        cursor.end()
        envelope = self._codec.envelope(_object(around))
        if not self._rows:
            rows = envelope.get(_ROWS)
            text = msgspec.json.encode(rows)[1:-1] if isinstance(rows, list) else b""
            self._take(self._codec.rows(text, 0), is_spent=False)
        return {field.name: self._whole(field) for field in self._codec.fields}, self._rows, envelope

    def _whole(self, field: Field) -> Array:
        try:
            return np.concatenate(self._columns.pop(field.name))
        except ValueError as exc:
            text = f"must all have the same size of {field.name}"
            raise InvalidArgument.at(_ROWS, text, Reason.SHAPE_MISMATCH) from exc

    def _read_rows(self) -> None:
        cursor, is_over = self._cursor, False
        if not cursor.enter(b"["):
            raise InvalidArgument.at(_ROWS, "must be a list of records", Reason.VALUE)
        while not is_over:
            group = cursor.group(b"]", PIECE)
            if group is None:
                self._take(self._row(f"{_ROWS}[{self._rows}]"), is_spent=True)
                is_over = cursor.leave(b"]")
            else:
                is_over = group.is_last
                if group.text or not self._rows:
                    rows = self._located(group, lambda text: self._codec.rows(text, self._rows))
                    self._take(rows, is_spent=False)

    def _take(self, inputs: Mapping[str, Array], *, is_spent: bool) -> None:
        self._rows += len(next(iter(inputs.values()), ()))
        if self._rows > self._codec.limit:
            text = f"must have 1 to {self._codec.limit} rows, got more"
            raise InvalidArgument.at(_ROWS, text, Reason.BATCH_LIMIT)
        for name, array in inputs.items():
            if not is_spent:
                self._budget.spend(array)
            self._columns[name].append(array)

    def _row(self, path: str) -> dict[str, Array]:
        """Read a row that is larger than a piece: its large fields value by value, the others as in a small row."""
        cursor, fields = self._cursor, {f.name: f for f in self._codec.fields}
        large: dict[str, Array] = {}
        if len(fields) == 1 and cursor.peek() != b"{":
            (field,) = fields.values()  # the bare value in place of the record
            return {field.name: self._value(field, f"{path}.{field.name}")}
        if not cursor.enter(b"{"):
            raise cursor.refusal(InvalidArgument.at(path, "must be an object of named fields", Reason.VALUE))
        small: list[bytes] = []
        is_over = False
        while not is_over:
            group = cursor.group(b"}", SMALL_PIECE)
            if group is not None:
                small.append(group.text)
                is_over = group.is_last
                if sum(map(len, small)) > LARGE_TEXT:
                    raise InvalidArgument.at(path, "has too many fields", Reason.TOO_MANY_PARTS)
                continue
            key = self._key(fields, path, "is not a field of this model")
            if key in large:
                raise InvalidArgument("an object repeats a key", reason=Reason.DUPLICATE_KEY)
            large[key] = self._value(fields[key], f"{path}.{key}")
            is_over = cursor.leave(b"}")
        found: list[Violation] = []
        values = self._codec.row_check.fields(strict_json.parse(_object(small)), path, found, known=large)
        if found:
            raise InvalidArgument.of(found, reason_of(found))
        return {n: large[n] if n in large else self._codec.column(f, values[n]) for n, f in fields.items()}

    def _value(self, field: Field, path: str) -> Array:
        """Read one value that is larger than a piece, as a tensor of one row."""
        if field.shape:
            return self._list(field, field.shape, path)[np.newaxis]
        return self._texts(field, path)

    def _list(self, field: Field, shape: tuple[int, ...], path: str) -> Array:
        cursor, size = self._cursor, shape[0]
        if not cursor.enter(b"["):
            wanted = "" if size < 0 else f"{size} "
            raise cursor.refusal(InvalidArgument.at(path, f"must be a list of {wanted}values", Reason.VALUE))
        inner = msgspec.structs.replace(field, shape=shape[1:])
        decode = self._codec.values(inner)
        parts: list[Array] = []
        count, is_over = 0, False
        while not is_over and (size < 0 or count <= size):
            group = cursor.group(b"]")
            if group is None:
                where = f"{path}[{count}]"
                is_list = len(shape) > 1
                parts.append(self._list(field, shape[1:], where)[np.newaxis] if is_list else self._texts(inner, where))
                is_over = cursor.leave(b"]")
            else:
                is_over = group.is_last
                parts.append(self._group(inner, decode, group, path, count))
                self._budget.spend(parts[-1])
            count += len(parts[-1])
        if size >= 0 and count != size:
            got = count if is_over else "more"
            raise InvalidArgument.at(path, f"must have {size} values, got {got}", Reason.VALUE)
        try:
            return np.concatenate(parts)
        except ValueError as exc:
            raise InvalidArgument.at(path, "must not be ragged", Reason.VALUE) from exc

    def _group(self, field: Field, decode: Callable[[bytes], Array], group: Group, path: str, first: int) -> Array:
        try:
            return decode(b"[%s]" % group.text)
        except (msgspec.MsgspecError, ValueError, ArithmeticError, TypeError, RecursionError):
            values = self._located(group, lambda text: strict_json.parse(b"[%s]" % text))
        found: list[Violation] = []
        clean = []
        for i, value in enumerate(values, first):
            clean.append(self._codec.row_check.value(field, value, f"{path}[{i}]", found))
            if len(found) > 3:
                break
        if found:
            raise InvalidArgument.of(found, reason_of(found))
        try:
            return np.concatenate([self._codec.column(field, value) for value in clean])
        except ValueError as exc:
            raise InvalidArgument.at(path, "must not be ragged", Reason.VALUE) from exc

    def _texts(self, field: Field, path: str) -> Array:
        """Read a text, or a JSON value, that is larger than a piece."""
        if field.is_json and self._cursor.peek() != b'"':
            text = self._cursor.value(LARGE_TEXT)
            if text is None:
                raise InvalidArgument.at(path, f"may have at most {LARGE_TEXT} bytes", Reason.ELEMENT_TOO_LARGE)
            return self._checked(field, text, path)
        if self._cursor.peek() != b'"':
            word = {Kind.TEXT: "text", Kind.BINARY: "base64 text", Kind.BOOL: "true or false"}
            error = f"must be {word.get(field.element.kind, 'a number')}"
            raise self._cursor.refusal(InvalidArgument.at(path, error, Reason.VALUE))
        # Base64 takes four bytes for three.
        return self._checked(field, self._cursor.string(MAX_BYTES_ELEMENT * 2), path)

    def _checked(self, field: Field, text: bytes, path: str) -> Array:
        found: list[Violation] = []
        value = self._codec.row_check.value(field, strict_json.parse(text), path, found)
        if found:
            raise InvalidArgument.of(found, reason_of(found))
        return self._codec.column(field, value)

    def _key(self, known: Any, path: str, text: str) -> str:
        """Return the key of the member that is next; one that is not known is refused before its value is looked at."""
        key: str = strict_json.parse(self._cursor.key())
        if key not in known:
            where = f"{path}.{shown(key)}" if path else shown(key)
            raise self._cursor.refusal(InvalidArgument.at(where, text, Reason.UNKNOWN_FIELD))
        return key

    def _beside(self, key: str) -> bytes:
        """Return a known member other than the rows, as text."""
        value = self._cursor.value(LARGE_TEXT)
        if value is None:
            reason = Reason.INVALID_ID if key == "id" else Reason.INVALID_PARAMETER
            raise InvalidArgument.at(key, f"may have at most {LARGE_TEXT} bytes", reason)
        return b'"%s":%s' % (key.encode(), value)

    def _located(self, group: Group, decode: Callable[[bytes], Any]) -> Any:
        """Decode a group; what is no JSON there is said of the body, whose bytes the caller can count."""
        try:
            return decode(group.text)
        except InvalidArgument as exc:
            if exc.reason is Reason.BAD_JSON:
                raise self._cursor.broken(group.start) from exc
            raise


def _object(members: list[bytes]) -> bytes:
    return b"{%s}" % b",".join(m for m in members if m)


def reason_of(found: list[Violation]) -> Reason:
    """Return the catalogue reason of the first mistake."""
    text = found[0].reason
    if "not a field" in text or "unknown" in text:
        return Reason.UNKNOWN_FIELD
    return Reason.INPUT_SET if "required" in text else Reason.VALUE
