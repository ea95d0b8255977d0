"""The contract compiled for records: JSON rows of named fields in, JSON rows of named fields out.

The good path is one typed decode in C: the contract becomes a msgspec Struct with its types, bounds and enums; patterns follow. Only
when that refuses a body does the exact walk run, which lists every mistake as `instances[3].amount: must be ≥ 0`.
The body is the dialect of TensorFlow Serving, KServe V1 and Vertex AI: `{"instances": [...]}` → `{"predictions": [...]}`.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from operator import attrgetter
from typing import Annotated, Any, Literal

import ml_dtypes
import msgspec
import numpy as np
import orjson

from limen.contracts import names
from limen.contracts.contract import Contract, Field, Json
from limen.contracts.errors import MAX_VIOLATIONS, InvalidArgument, Reason, Violation
from limen.contracts.inference import Parameter
from limen.contracts.strict import json as strict_json
from limen.contracts.strict.patterns import compile_pattern
from limen.contracts.strict.pieces import LARGE_TEXT, Text
from limen.contracts.tensors import Array, ElementType, Kind
from limen.contracts.validation import json_values
from limen.contracts.validation.large_records import LargeRecords, reason_of
from limen.contracts.validation.rows import RowCheck
from limen.contracts.validation.tensors import default_value, filled

_INT64_MAX = (1 << 63) - 1


class Records(msgspec.Struct, gc=False):
    """What a record body holds once it is decoded: one tensor per input field."""

    inputs: dict[str, Array]
    rows: int
    id: str = ""
    parameters: Mapping[str, Parameter] = {}


class RecordCodec:
    """Reads and writes the records of one contract. Immutable; shared by all requests."""

    def __init__(self, contract: Contract) -> None:
        """Compile the row type, the decoder and the column readers."""
        self._contract = contract
        self.fields = contract.inputs
        self._json_outputs = {f.name: len(f.shape) for f in contract.outputs if f.is_json}
        self.limit = contract.batching.max_request_rows
        self.row_check = RowCheck(contract)
        row = _row_type(contract.inputs)
        body = msgspec.defstruct(
            "PredictRequest",
            [
                ("instances", list[row]),  # type: ignore[valid-type]  # built at run time from the contract
                ("parameters", dict[str, str | bool | int | float], {}),
                ("id", Annotated[str, msgspec.Meta(pattern=rf"^{names.REQUEST_ID.pattern}\Z")], ""),
                ("signature_name", str, ""),
            ],
            forbid_unknown_fields=True,
            gc=False,
        )
        self._decode = msgspec.json.Decoder(body).decode
        self._columns = [_Column(f, attrgetter(f"f{i}")) for i, f in enumerate(contract.inputs)]
        self._optional = any(not f.is_required for f in contract.inputs)
        self._patterns = [
            (f.name, compile_pattern(f.pattern)) for f in contract.inputs if f.pattern is not None and f.enum is None
        ]
        # The typed decoder cannot express an enumeration of floats.
        self._choices = [
            (f.name, np.array(f.enum, f.element.dtype), f.nullable) for f in contract.inputs if f.is_float and f.enum
        ]

    def decode(self, body: Text) -> Records:
        """Return the tensors of a predict body, validated field by field.

        Raises:
            InvalidArgument: with every mistake found (up to 32) and its path, and none of the values.
        """
        if len(body) > LARGE_TEXT:
            inputs, count, around = LargeRecords(self, body).read()
            return Records(inputs, count, around.get("id", ""), around.get("parameters", {}))
        return self._decode_small(bytes(body))

    def _decode_small(self, body: bytes, first: int = 0) -> Records:
        try:
            request: Any = self._decode(body)
            rows = request.instances
            count = len(rows)
            if 0 < count <= self.limit and not self._may_repeat_keys(body, request, count):
                with np.errstate(over="raise"):
                    inputs = {c.name: c.read(rows, count) for c in self._columns}
                if all(pattern.match_all(_texts(inputs[name])) for name, pattern in self._patterns) and all(
                    _is_among(inputs[name], choices, nullable) for name, choices, nullable in self._choices
                ):
                    return Records(inputs, count, request.id, request.parameters)
        except (msgspec.MsgspecError, ValueError, ArithmeticError, TypeError, RecursionError):
            pass
        return self._decode_exactly(body, first)

    def rows(self, text: bytes, first: int) -> dict[str, Array]:
        """Return the tensors of some rows of a large body, of which the first one is its `first`; see `decode`."""
        return self._decode_small(b'{"instances":[%s]}' % text, first).inputs

    def envelope(self, text: bytes) -> Mapping[str, Any]:
        """Return what surrounds the rows of a large body, or raise as `decode` does."""
        value = strict_json.parse(text)
        found: list[Violation] = []
        self.row_check.envelope(value, found)
        if found:
            raise InvalidArgument.of(found[:MAX_VIOLATIONS], reason_of(found))
        known: Mapping[str, Any] = value
        return known

    def column(self, field: Field, value: Any) -> Array:
        """Return the tensor of one value that has been checked, as one row."""
        with np.errstate(over="raise"):
            return _Column(field, attrgetter("")).build([value], 1)

    def values(self, field: Field) -> Callable[[bytes], Array]:
        """Return what decodes a list of values of a field's shape, or raises anything when one is not right."""
        column = _Column(field, attrgetter(""))
        decode = msgspec.json.Decoder(list[_value_type(field)]).decode  # type: ignore[misc]  # built from the contract
        choices = np.array(field.enum, field.element.dtype) if field.is_float and field.enum else None
        pattern = None if field.pattern is None or field.enum is not None else compile_pattern(field.pattern)

        def read(text: bytes) -> Array:
            values = decode(text)
            if field.is_json:
                values = [_json_texts(value, field) for value in values]
            with np.errstate(over="raise"):
                array = column.build(values, len(values))
            if choices is not None and not _is_among(array, choices, field.nullable):
                raise ValueError
            if pattern is not None and not pattern.match_all(_texts(array)):
                raise ValueError
            return array

        return read

    def encode(self, outputs: Mapping[str, Array]) -> list[dict[str, Json]]:
        """Return the predictions as rows of named fields, ready for JSON."""
        rows = as_rows(outputs)
        json_values.in_rows(rows, self._json_outputs)
        return rows

    def tensors(self, records: Sequence[Mapping[str, Json]]) -> dict[str, Array]:
        """Return the tensors of already decoded records (examples, batch files), or raise as `decode` does."""
        return self.decode(orjson.dumps({"instances": list(records)})).inputs

    def _may_repeat_keys(self, body: bytes, request: Any, count: int) -> bool:
        # Valid JSON has one colon a member; more colons than members means a repeated key, or a colon in some text.
        members = 1 + count * len(self.fields) + len(request.parameters) + bool(request.parameters)
        members += bool(request.id) + bool(request.signature_name)
        colons = body.count(b":")
        if colons == members:
            return False
        if colons < members and not self._optional:
            return False
        return strict_json.has_duplicate_keys(body)

    def _decode_exactly(self, body: bytes, first: int = 0) -> Records:
        value = strict_json.parse(body)
        found: list[Violation] = []
        rows = self.row_check.envelope(value, found)
        if not found and not 0 < len(rows) <= self.limit:
            text = f"must have 1 to {self.limit} rows, got {len(rows)}"
            raise InvalidArgument.at("instances", text, Reason.BATCH_LIMIT)
        clean: list[list[Any]] = []
        for i, row in enumerate(rows):
            if len(found) >= MAX_VIOLATIONS:
                break
            clean.append(self.row_check.row(row, f"instances[{first + i}]", found))
        if found:
            raise InvalidArgument.of(found[:MAX_VIOLATIONS], reason_of(found))
        inputs = {}
        for i, column in enumerate(self._columns):
            try:
                inputs[column.name] = column.build([values[i] for values in clean], len(clean))
            except ValueError as exc:
                text = f"must all have {column.name} of the same size; send rows of other sizes in separate requests"
                raise InvalidArgument.at("instances", text, Reason.SHAPE_MISMATCH) from exc
        return Records(inputs, len(clean), value.get("id", ""), value.get("parameters", {}))


class _Column:
    """Turns one field of all rows into a tensor."""

    __slots__ = ("_array", "_get", "_is_blank_missing", "_kind", "_scalar", "field", "name")

    def __init__(self, field: Field, get: attrgetter[Any]) -> None:
        self.field = field
        self.name = field.name
        self._get = get
        dtype = field.element.dtype
        self._array: Callable[[list[Any]], Array] = (
            _bfloat16_array if dtype.name == "bfloat16" else partial(np.array, dtype=dtype)
        )
        self._kind = field.element.kind
        self._scalar = field.is_scalar
        self._is_blank_missing = field.is_blank_missing

    def read(self, rows: list[Any], count: int) -> Array:
        if self.field.is_json:
            return self.build([_json_texts(self._get(row), self.field) for row in rows], count)
        if count == 1:
            return self.build([self._get(rows[0])], 1)
        return self.build(list(map(self._get, rows)), count)

    def build(self, values: list[Any], count: int) -> Array:
        if self._scalar and self._kind is not Kind.BINARY:
            return self._array([value or None for value in values] if self._is_blank_missing else values)
        if any(v is None for v in values):
            whole = filled(self.field, 1)[0]
            values = [whole if v is None else v for v in values]
        if self._kind is Kind.BINARY or self._kind is Kind.TEXT:
            return _objects(values, count, self.field)
        array = self._array(values)
        if array.ndim != len(self.field.shape) + 1:
            raise ValueError(self.name)
        return array


def _bfloat16_array(values: list[Any]) -> Array:
    """Return the values, or raise for one that is too large: this type overflows without a floating-point error."""
    array = np.array(values, np.float64).astype(ml_dtypes.bfloat16)  # by way of a type that takes None for NaN
    if np.isinf(array).any():
        raise ArithmeticError
    return array


def _objects(values: list[Any], count: int, field: Field) -> Array:
    """Return rows of str or bytes as one object array with the field's shape."""
    flat: list[Any] = values
    shape: list[int] = [count]
    for size in field.shape:
        lengths = {len(v) for v in flat}
        if len(lengths) > 1:
            raise ValueError(field.name)
        # Within something empty, such as a value that is missing, the size is the declared one.
        shape.append(lengths.pop() if lengths else max(size, 0))
        flat = [item for row in flat for item in row]
    array = np.empty(len(flat), object)
    array[:] = [value or None for value in flat] if field.is_blank_missing else flat
    return array.reshape(shape)


def _is_among(array: Array, choices: Array, nullable: bool) -> bool:
    known = np.isin(array, choices)
    return bool((known | np.isnan(array) if nullable else known).all())


def _json_texts(value: Any, field: Field) -> Any:
    """Return the JSON text of each element that the typed decoder left alone; a default is text already.

    Raises:
        ValueError: an element is not what it may be; the exact walk says why.
    """
    if isinstance(value, list):
        return [_json_texts(item, field) for item in value]
    if value is None or isinstance(value, str):
        return value
    text = json_values.raw_text(value)
    if text != json_values.NULL:
        return text
    if not field.nullable:
        raise ValueError(field.name)
    return None


def _texts(array: Array) -> list[str]:
    return [value for value in array.ravel().tolist() if value is not None]


def _row_type(fields: Sequence[Field]) -> type[msgspec.Struct]:
    """Build the Struct that decodes one row; attributes are f0, f1, … because a field may be named like a keyword."""
    required = [(f"f{i}", _value_type(f)) for i, f in enumerate(fields) if f.is_required]
    optional = [(f"f{i}", _value_type(f), _default(f)) for i, f in enumerate(fields) if not f.is_required]
    return msgspec.defstruct(
        "Row",
        [*required, *optional],
        rename={f"f{i}": f.name for i, f in enumerate(fields)},
        forbid_unknown_fields=True,
        gc=False,
    )


def _value_type(field: Field) -> Any:
    value: Any = _scalar_type(field, field.element)
    if field.nullable and field.shape:
        value = value | None
    for dimension in reversed(field.shape):
        size = msgspec.Meta() if dimension < 0 else msgspec.Meta(min_length=dimension, max_length=dimension)
        value = Annotated[list[value], size]
    return value | None if field.nullable else value


def _scalar_type(field: Field, element: ElementType) -> Any:
    kind = element.kind
    if kind is Kind.BOOL:
        return bool
    if field.is_json:
        return msgspec.Raw
    if kind is Kind.BINARY:
        return Annotated[bytes, msgspec.Meta(min_length=field.min_length, max_length=field.max_length)]
    if field.enum is not None and kind is not Kind.FLOAT:
        return Literal[(*field.enum, "") if field.is_blank_missing else field.enum]
    if kind is Kind.TEXT:
        # Patterns are matched afterwards: msgspec would run them on an engine that backtracks.
        return Annotated[str, msgspec.Meta(min_length=field.min_length, max_length=field.max_length)]
    if kind is Kind.FLOAT:
        return Annotated[float, msgspec.Meta(ge=field.minimum, le=field.maximum)]
    low = element.low if field.minimum is None else max(element.low, math.ceil(field.minimum))
    high = element.high if field.maximum is None else min(element.high, math.floor(field.maximum))
    # msgspec takes bounds up to int64; NumPy refuses what is beyond them and the exact walk says so.
    return Annotated[int, msgspec.Meta(ge=low, le=high if high <= _INT64_MAX else None)]


def _default(field: Field) -> Any:
    value = default_value(field)
    # A Struct takes a factory for a mutable default.
    return msgspec.field(default_factory=lambda: list(value)) if isinstance(value, list) else value


def as_rows(tensors: Mapping[str, Array]) -> list[dict[str, Json]]:
    """Return tensors of the same number of rows as rows of named fields, ready for JSON."""
    names = tuple(tensors)
    columns = [_to_json(tensors[name]) for name in names]
    if len(names) == 1:
        name = names[0]
        return [{name: value} for value in columns[0]]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _to_json(array: Array) -> list[Json]:
    """Return a tensor as nested lists; floats in their shortest form, NaN and None as null, bytes as base64."""
    if array.dtype.kind == "O":
        return [_text(v) for v in array] if array.ndim == 1 else [_to_json(row) for row in array]
    if array.dtype.name in ("float32", "float64", "float16"):
        # Through text, so that a float32 reads 0.1 and not 0.10000000149011612.
        found: list[Json] = orjson.loads(orjson.dumps(np.ascontiguousarray(array), option=orjson.OPT_SERIALIZE_NUMPY))
        return found
    if array.dtype.kind not in "biu":
        return _to_json(array.astype(np.float32))
    plain: list[Json] = array.tolist()
    return plain


def _text(value: Any) -> Json:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value
