"""Converts inputs in any supported form to rows or tensors, and outputs back to the same form.

| form | what it is |
|---|---|
| record | one mapping of field names to values |
| records | a sequence of them |
| arrays | a mapping of tensor names to NumPy arrays, as the protocol has them: the rows along the first axis, if the model has one for them |
| frame | a pandas data frame |

Rows become tensors only where no value changes by it: what the types of a model cannot hold is `Inexpressible` and either goes as JSON
or is refused. `bytes` in records are base64 text, as they are in JSON. None, NaN and pandas' NA and NaT are one thing: a missing value.
"""

from __future__ import annotations

import base64
import binascii
import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np

from limen.contracts.contract import Json
from limen.contracts.errors import InvalidArgument, Reason, Violation
from limen.contracts.names import shown
from limen.contracts.tensors import BY_WIRE, Array, ElementType, Kind, element_type_of
from limen.contracts.validation import json_values
from limen.contracts.validation.records import as_rows

if TYPE_CHECKING:
    import pandas as pd  # type: ignore[import-untyped]  # its stubs are a package of their own

Record = Mapping[str, Json]


class Form(StrEnum):
    """How inputs were handed over."""

    RECORD = "record"
    RECORDS = "records"
    ARRAYS = "arrays"
    FRAME = "frame"


class TensorType(msgspec.Struct, frozen=True, kw_only=True):
    """One input or output as a server describes it."""

    name: str
    """The tensor's name in the protocol; records may call it otherwise."""
    datatype: str
    shape: tuple[int, ...]
    """-1 is variable; the first axis is the batch, if the model has one."""
    is_text: bool = False
    """Whether a BYTES tensor holds text."""
    is_nullable: bool = False
    """Whether an input takes missing values."""
    is_json: bool = False
    """Whether that text is JSON, which callers give and get as what it says."""


class Signature(msgspec.Struct, frozen=True, kw_only=True):
    """Inputs and outputs of one endpoint, by the names that records have for them."""

    inputs: dict[str, TensorType]
    outputs: dict[str, TensorType]
    is_batched: bool = True
    """Whether tensors have the batch as their first axis; without it a call is one record."""


class Inexpressible(InvalidArgument):
    """These values cannot be sent as tensors of the model's types."""


class Given(msgspec.Struct, frozen=True, kw_only=True):
    """Inputs whose form is known."""

    form: Form
    rows: Sequence[Record] | None = None
    tensors: dict[str, Array] | None = None
    frame: Any = None
    is_mixed: bool = False
    """Arrays hold objects that are not all text or bytes: only the model's types say what they are."""

    @property
    def count(self) -> int:
        """How many rows there are, where rows were handed over."""
        return len(self.frame) if self.rows is None else len(self.rows)


def read_inputs(inputs: Any) -> Given:
    """Return inputs with their form.

    Raises:
        InvalidArgument: they have none of the forms.
    """
    if _is_frame(inputs):
        if any(type(name) is not str for name in inputs.columns):
            raise InvalidArgument("the columns of a data frame must have the names of the model's inputs")
        return Given(form=Form.FRAME, frame=inputs)
    if isinstance(inputs, Mapping):
        if inputs and all(isinstance(value, np.ndarray) for value in inputs.values()):
            tensors = {name: _as_tensor(array, name) for name, array in inputs.items()}
            is_mixed = any(array.dtype == object and not _is_plain(array) for array in tensors.values())
            return Given(form=Form.ARRAYS, tensors=tensors, is_mixed=is_mixed)
        return Given(form=Form.RECORD, rows=(inputs,))
    if isinstance(inputs, Sequence) and not isinstance(inputs, str | bytes):
        if not all(isinstance(row, Mapping) for row in inputs):
            raise InvalidArgument("every record must be a mapping of field names to values")
        return Given(form=Form.RECORDS, rows=inputs)
    raise InvalidArgument("inputs must be a record, a list of records, a mapping of NumPy arrays or a data frame")


def rows_of(given: Given) -> Sequence[Record]:
    """Return the inputs as rows, whatever their form."""
    if given.rows is not None:
        return given.rows
    if given.tensors is not None:
        return as_rows(given.tensors)
    rows: list[Record] = given.frame.to_dict(orient="records")
    return rows


def tensors_of(given: Given, signature: Signature) -> dict[str, Array]:
    """Return rows, a data frame or arrays of objects as tensors of the model's own types.

    Raises:
        Inexpressible: a field is unknown, is in some rows only, or holds what its type cannot; or there are several rows and the
            model's tensors have no place for them.
    """
    columns: dict[str, Any]
    if given.tensors is not None:
        fields = {kind.name: name for name, kind in signature.inputs.items()}
        arrays = {fields.get(name, name): array for name, array in given.tensors.items()}
        jsons = {name for name, kind in signature.inputs.items() if kind.is_json}
        arrays = {name: a if signature.is_batched else a[np.newaxis] for name, a in arrays.items()}
        columns = {name: array if name in jsons else _values(array) for name, array in arrays.items()}
    elif given.rows is None:
        columns = {name: _values(given.frame[name].to_numpy()) for name in given.frame.columns}
    else:
        columns = _columns(given.rows, signature)
    unknown = [name for name in columns if name not in signature.inputs]
    if unknown:
        raise _cannot(unknown[0], "is not a field of this model", Reason.UNKNOWN_FIELD)
    if signature.is_batched:
        return {signature.inputs[name].name: _typed(values, signature.inputs[name]) for name, values in columns.items()}
    if given.tensors is None and given.count != 1:
        text = "the model's tensors have no batch axis: send each record in a separate call"
        raise Inexpressible(text, reason=Reason.BATCH_LIMIT)
    found = {}
    for name, values in columns.items():
        kind = signature.inputs[name]
        one = _typed(values, msgspec.structs.replace(kind, shape=(1, *kind.shape)))
        found[kind.name] = one.reshape(one.shape[1:])
    return found


def _values(array: Array) -> Any:
    return array.tolist() if array.dtype.kind == "O" else array


def _columns(rows: Sequence[Record], signature: Signature) -> dict[str, list[Any]]:
    names = list(rows[0]) if rows else list(signature.inputs)
    count = len(names)
    for i, row in enumerate(rows):
        if len(row) != count or any(name not in row for name in names):
            path, text = f"instances[{i}]", "must have the same fields as the first record to be sent as tensors"
            raise Inexpressible(f"{path}: {text}", reason=Reason.INPUT_SET, violations=(Violation(path, text),))
    return {name: [row[name] for row in rows] for name in names}


def _typed(values: Any, kind: TensorType) -> Array:
    element = BY_WIRE.get(kind.datatype)
    if element is None:
        raise _cannot(kind.name, "has a datatype unknown to this client", Reason.DTYPE)
    try:
        array = _numbers(values, element, kind) if element.size else _texts(values, kind)
    except (ValueError, TypeError, ArithmeticError) as exc:
        if len(kind.shape) > 1 and len({len(v) for v in values if isinstance(v, list | np.ndarray)}) > 1:
            text = "must have the same size in all records of a call; send records of other sizes in separate calls"
            raise _cannot(kind.name, text, Reason.SHAPE_MISMATCH) from exc
        raise _cannot(kind.name, f"must be values of {kind.datatype}") from exc
    if array.ndim != len(kind.shape):
        raise _cannot(kind.name, "does not have the model's shape", Reason.SHAPE_MISMATCH)
    return array


def _numbers(values: Any, element: ElementType, kind: TensorType) -> Array:
    if isinstance(values, list):
        values = _with_gaps(values, np.nan if element.kind is Kind.FLOAT else None, kind)
        # NumPy would make a number of true among numbers.
        is_bool = [type(v) is bool for v in values]
        if any(is_bool) and not all(is_bool):
            raise ValueError
    array = np.stack(values) if _holds_arrays(values) else np.asarray(values)
    if array.dtype.kind not in _FITS[element.kind]:
        raise ValueError
    if element.kind is Kind.INT:
        return _whole(array, element)
    with np.errstate(over="raise"):
        found = array.astype(element.dtype)
    # bfloat16 overflows without an error.
    if element.kind is Kind.FLOAT and np.isinf(found).sum() != np.isinf(array).sum():
        raise ValueError
    return found


def _with_gaps(values: Any, gap: Any, kind: TensorType) -> Any:
    """Return values with one marker in place of all that are missing; their depth is that of the model's shape.

    Raises:
        Inexpressible: the model takes none.
    """
    if not isinstance(values, list | tuple):
        return values
    if any(isinstance(value, list | tuple) for value in values):
        return [_with_gaps(value, gap, kind) for value in values]
    is_gap = list(map(is_missing, values))
    if not any(is_gap):
        return values
    if gap is None and not kind.is_nullable:
        raise _cannot(kind.name, "must not be null")
    return [gap if missing else value for missing, value in zip(is_gap, values, strict=True)]


def is_missing(value: Any) -> bool:
    """Return whether a value says that there is none: None, NaN, or pandas' NA and NaT."""
    return value is None or (isinstance(value, float) and value != value) or type(value).__name__ in _GAPS  # noqa: PLR0124


_GAPS: Final = ("NAType", "NaTType")
_FITS: Final = {Kind.BOOL: "b", Kind.INT: "iuf", Kind.FLOAT: "iuf"}
"""NumPy kinds whose values a kind of element can hold, when they are in its range."""


def _whole(array: Array, element: ElementType) -> Array:
    if array.dtype.kind == "f" and not (np.isfinite(array) & (array == np.rint(array))).all():
        raise ValueError
    if array.size and not (element.low <= int(array.min()) and int(array.max()) <= element.high):
        raise ValueError
    return array.astype(element.dtype)


def _texts(values: Any, kind: TensorType) -> Array:
    if kind.is_json and isinstance(values, np.ndarray):
        return _json_texts(values)
    if kind.is_json:
        array = np.empty(len(values), object)
        array[:] = [json_values.texts(value, len(kind.shape) - 1) for value in values]
        return array if len(kind.shape) == 1 else np.array(array.tolist(), object)
    values = _with_gaps(values, None, kind)
    array = np.stack(values) if _holds_arrays(values) else np.array(values, object)
    flat = array.ravel()
    found = np.empty(flat.shape, object)
    if kind.is_text:
        if not all(isinstance(v, str) or v is None for v in flat):
            raise ValueError
        found[:] = [v if v is None else str(v) for v in flat]
    else:
        found[:] = [v if v is None else _binary(v) for v in flat]
    return found.reshape(array.shape)


def _json_texts(array: Array) -> Array:
    """Return an array of a caller with the JSON text of its values; text is JSON text already, as in the arrays of an answer."""
    found = np.empty(array.size, object)
    found[:] = [v if v is None or isinstance(v, str) else json_values.to_text(v) for v in array.ravel().tolist()]
    return found.reshape(array.shape)


def _binary(value: Any) -> bytes:
    return base64.b64decode(value, validate=True) if isinstance(value, str) else bytes(_bytes(value))


def _bytes(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise TypeError
    return value


def _holds_arrays(values: Any) -> bool:
    return len(values) > 0 and isinstance(values[0], np.ndarray)


def _is_plain(array: Array) -> bool:
    return all(type(value) in (str, bytes) for value in array.flat)


def _as_tensor(array: Array, name: str) -> Array:
    """Return a caller's array in the layout that the wire has; its type stays what it is."""
    element = element_type_of(array.dtype)
    if element is None:
        raise InvalidArgument.at(shown(name), "has a NumPy type that contracts do not support", Reason.DTYPE)
    return np.asarray(array, element.dtype)


def _cannot(name: str, text: str, reason: Reason = Reason.VALUE) -> Inexpressible:
    path = shown(name)
    return Inexpressible(f"{path}: {text}", reason=reason, violations=(Violation(path, text),))


# -- what comes back ------------------------------------------------------------------------------------------------------


def as_fields(tensors: Mapping[str, Array], signature: Signature) -> dict[str, Array]:
    """Return outputs by the names that records have for them, one row for each record."""
    fields = {kind.name: name for name, kind in signature.outputs.items()}
    return {fields.get(name, name): a if signature.is_batched else a[np.newaxis] for name, a in tensors.items()}


def with_texts(tensors: dict[str, Array], types: Mapping[str, TensorType]) -> dict[str, Array]:
    """Return outputs with text in place of its bytes, where the server says that it is text."""
    found = dict(tensors)
    kinds = {kind.name: kind for kind in types.values()}
    for name, array in tensors.items():
        kind = kinds.get(name)
        if array.dtype.kind == "O" and kind is not None and kind.is_text:
            texts = np.empty(array.size, object)
            texts[:] = [v.decode() if isinstance(v, bytes) else v for v in array.ravel()]
            found[name] = texts.reshape(array.shape)
    return found


def arrays_of(rows: Sequence[Record], types: Mapping[str, TensorType]) -> dict[str, Array]:
    """Return rows of outputs as arrays: of the model's types as far as they are known, else as NumPy reads them."""
    found: dict[str, Array] = {}
    for name in rows[0] if rows else ():
        values = [row[name] for row in rows]
        kind = types.get(name)
        try:
            found[name] = np.asarray(values) if kind is None else _typed(values, kind)
        except (InvalidArgument, ValueError):
            # A missing value in what has no place for it, or rows of different sizes.
            found[name] = np.empty(len(values), object)
            found[name][:] = values
        if found[name].dtype.kind == "U":
            found[name] = found[name].astype(object)
    return found


def frame_of(columns: Mapping[str, Array], index: Any) -> pd.DataFrame:
    """Return outputs as a data frame; an output of several values a row is a column of arrays.

    Args:
        columns: the outputs by name.
        index: index of the frame that was asked with, or None.
    """
    import pandas as pd

    flat = {name: array if array.ndim == 1 else list(array) for name, array in columns.items()}
    rows = len(next(iter(columns.values()))) if columns else 0
    return pd.DataFrame(flat, index=index if index is not None and len(index) == rows else None)


def _is_frame(value: Any) -> bool:
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(value, pandas.DataFrame)


def json_value(value: Any) -> Json:
    """Return what stands in JSON for a value that JSON has no form of: base64 for bytes, null for pandas' missing values.

    Raises:
        TypeError: there is nothing that would.
    """
    if isinstance(value, bytes | bytearray | memoryview):
        return binascii.b2a_base64(value, newline=False).decode()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if type(value).__name__ in _GAPS:
        return None
    raise TypeError
