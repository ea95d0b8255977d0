"""The contract compiled for tensors: the check of every request and every answer.

Not here: reading JSON rows (`contracts.validation.records`) or bytes (`contracts.oip.wire`). The good path costs one comparison of dtype and
shape and one reduction a field; the exact search for what is wrong runs only when that fails.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from limen.contracts.contract import Contract, Field
from limen.contracts.errors import MAX_VIOLATIONS, InvalidArgument, InvalidOutput, Reason, Violation
from limen.contracts.names import shown
from limen.contracts.strict.patterns import Pattern, compile_pattern
from limen.contracts.tensors import BY_NAME, Array, Kind
from limen.contracts.validation import json_values
from limen.contracts.validation.finite import PlainFloats, all_finite, bound_of, is_plain


class TensorCheck:
    """One field of a contract, compiled for whole tensors."""

    __slots__ = (
        "_allowed",
        "_blank",
        "_choice_set",
        "_choices",
        "_fixed",
        "_high",
        "_is_batched",
        "_is_wide",
        "_low",
        "_pattern",
        "_tail",
        "dtype",
        "element",
        "field",
        "is_float",
        "is_plain_float",
    )

    def __init__(self, field: Field, *, is_input: bool = False, is_batched: bool = True) -> None:
        """Prepare everything about the field that does not depend on a request.

        Args:
            field: the field.
            is_input: whether callers send it, so that empty text may mean that it is missing.
            is_batched: whether callers see the batch axis, so that error texts have it.
        """
        self.field = field
        self._is_batched = is_batched
        self._blank = "" if is_input and field.is_blank_missing else None
        self.element = field.element
        self.dtype = field.element.dtype
        self._tail = field.shape
        self._fixed = all(d >= 0 for d in field.shape)
        self._low = bound_of(field, field.minimum)
        self._high = bound_of(field, field.maximum)
        self._allowed = None if field.enum is None else frozenset(field.enum)
        # In the field's own precision, like the bounds.
        self._choices = np.array(field.enum, self.dtype) if field.enum is not None and field.element.size else None
        self._choice_set = frozenset(() if self._choices is None else self._choices.tolist())
        self._pattern = compile_pattern(field.pattern) if field.pattern is not None else None
        self.is_float = field.element.kind is Kind.FLOAT
        self._is_wide = self.is_float and self.dtype.itemsize >= 4
        self.is_plain_float = is_plain(field) and self._low is None and self._high is None

    def check_form(self, array: Array, path: str) -> Array:
        """Return the tensor with the declared dtype and shape, or raise `InvalidArgument`.

        BYTES elements become `str` for a string field and `bytes` for a bytes field.
        """
        if array.dtype is not self.dtype and array.dtype != self.dtype:
            raise InvalidArgument.at(path, f"must have datatype {self.field.datatype}", Reason.DTYPE)
        shape = array.shape
        if not shape or (shape[1:] != self._tail and (self._fixed or not self._fits(shape))):
            start = 0 if self._is_batched else 1
            dims = ", ".join(str(d) for d in self.field.batched_shape[start:])
            got = ", ".join(str(d) for d in shape[start:])
            raise InvalidArgument.at(path, f"must have shape [{dims}], got [{got}]", Reason.SHAPE_MISMATCH)
        return array if self.element.size else self._texts(array, path)

    def check_values(self, array: Array, path: str) -> None:
        """Raise `InvalidArgument` for a value the field does not allow; the text names the element, not its value."""
        if self.is_plain_float:
            if all_finite(array):
                return
            raise self._violation(array, ~np.isfinite(array), path, "must be a finite number", Reason.NOT_FINITE)
        if self.is_float:
            self._check_finite(array, path)
        if self._low is not None or self._high is not None:
            self._check_range(array, path)
        if not self.element.size:
            self._check_texts(array, path)
        elif self._choices is not None and not self._choice_set.issuperset(array.ravel().tolist()):
            bad = ~np.isin(array, self._choices)
            if self.is_float and self.field.nullable:
                bad &= ~np.isnan(array)  # NaN stands for "missing"
            if bad.any():
                raise self._violation(array, bad, path, "must be one of the allowed values", Reason.VALUE)

    def _fits(self, shape: tuple[int, ...]) -> bool:
        return len(shape) == len(self._tail) + 1 and all(
            want in (-1, got) for want, got in zip(self._tail, shape[1:], strict=True)
        )

    def _texts(self, array: Array, path: str) -> Array:
        wanted = str if self.element.kind is Kind.TEXT else bytes
        blank = self._blank
        if all((type(v) is wanted and v != blank) or (v is None and self.field.nullable) for v in array.flat):
            return array
        out = np.empty(array.size, object)
        for i, value in enumerate(array.flat):
            if value is None and not self.field.nullable:
                raise InvalidArgument.at(f"{path}[{i}]", "must not be null", Reason.VALUE)
            try:
                text = _as_text(value, wanted)
                out[i] = None if text == blank else text
            except ValueError:
                raise InvalidArgument.at(f"{path}[{i}]", "must be text in UTF-8", Reason.VALUE) from None
        return out.reshape(array.shape)

    def _check_finite(self, array: Array, path: str) -> None:
        """Raise `InvalidArgument` when a float field that must be finite is not."""
        if not self.field.finite:
            return
        if self._is_wide and all_finite(array):
            return
        # NaN stands for "missing" in a nullable field.
        bad = np.isinf(array) if self.field.nullable else ~np.isfinite(array)
        if bad.any():
            raise self._violation(array, bad, path, "must be a finite number", Reason.NOT_FINITE)

    def _check_range(self, array: Array, path: str) -> None:
        if array.size == 1:
            value = array.item()
            low_ok = self._low is None or not value < self._low
            high_ok = self._high is None or not value > self._high
            if low_ok and high_ok:
                return
        # NaN compares false with everything, so a missing value of a nullable field passes.
        if self._low is not None and (bad := array < self._low).any():
            raise self._violation(array, bad, path, f"must be ≥ {self.field.minimum}", Reason.VALUE)
        if self._high is not None and (bad := array > self._high).any():
            raise self._violation(array, bad, path, f"must be ≤ {self.field.maximum}", Reason.VALUE)

    def _check_texts(self, array: Array, path: str) -> None:
        field = self.field
        if field.is_json:
            for i, value in enumerate(array.flat):
                if value is not None and (text := json_values.problem(field, value)):
                    raise InvalidArgument.at(self._element(array, i, path), text, Reason.VALUE)
            return
        if self._allowed is None and self._pattern is None and field.min_length is None and field.max_length is None:
            return
        values = [value for value in array.ravel().tolist() if value is not None]
        if self._are_allowed(values):
            return
        for i, value in enumerate(array.flat):
            if value is not None and (text := text_problem(field, value, self._allowed, self._pattern)):
                raise InvalidArgument.at(self._element(array, i, path), text, Reason.VALUE)

    def _are_allowed(self, values: list[Any]) -> bool:
        """Return whether all values keep the limits, without saying which does not."""
        field = self.field
        if self._allowed is not None and not self._allowed.issuperset(values):
            return False
        if field.min_length is not None and values and min(map(len, values)) < field.min_length:
            return False
        if field.max_length is not None and values and max(map(len, values)) > field.max_length:
            return False
        return self._pattern is None or self._pattern.match_all(values)

    def _violation(self, array: Array, bad: Array, path: str, text: str, reason: Reason) -> InvalidArgument:
        return InvalidArgument.at(self._element(array, int(np.flatnonzero(bad)[0]), path), text, reason)

    def _element(self, array: Array, flat_index: int, path: str) -> str:
        index = np.unravel_index(flat_index, array.shape)
        return path + "".join(f"[{i}]" for i in index[0 if self._is_batched else 1 :])


class ContractCheck:
    """A whole contract, compiled: checks the inputs of a request and the outputs of an answer."""

    __slots__ = (
        "_free_checks",
        "_free_plain",
        "_input_checks",
        "_inputs",
        "_max_rows",
        "_output_checks",
        "_plain_inputs",
        "_plain_outputs",
        "contract",
        "outputs",
    )

    def __init__(self, contract: Contract) -> None:
        """Compile the contract once; the result is immutable and shared by all requests."""
        self.contract = contract
        is_batched = contract.batching.is_batched
        self._inputs = {f.name: TensorCheck(f, is_input=True, is_batched=is_batched) for f in contract.inputs}
        self._input_checks = tuple(self._inputs.items())
        self.outputs = {f.name: f for f in contract.outputs}
        self._output_checks = tuple((f.name, TensorCheck(f, is_batched=is_batched)) for f in contract.outputs)
        self._max_rows = contract.batching.max_request_rows
        self._plain_inputs = PlainFloats(contract.inputs) if all(map(is_plain, contract.inputs)) else None
        self._plain_outputs = PlainFloats(contract.outputs) if all(map(is_plain, contract.outputs)) else None
        self._free_checks, self._free_plain = self._output_checks, self._plain_outputs
        free = tuple(map(_without_limits, contract.outputs))
        if free != contract.outputs:
            self._free_checks = tuple((f.name, TensorCheck(f, is_batched=is_batched)) for f in free)
            self._free_plain = PlainFloats(free) if all(map(is_plain, free)) else None

    def check_inputs(self, inputs: dict[str, Array], *, is_finite: bool = False) -> int:
        """Check every input tensor, converting BYTES in place, and return the number of rows.

        Args:
            inputs: the tensors by name.
            is_finite: every number is known to be finite.

        Raises:
            InvalidArgument: INPUT_SET, DTYPE, SHAPE_MISMATCH, BATCH_LIMIT, NOT_FINITE or VALUE.
        """
        if self._plain_inputs is not None:
            rows = self._plain_inputs.rows(inputs, is_finite)
            if 0 < rows <= self._max_rows:
                return rows
        if inputs.keys() != self._inputs.keys():
            self._fill_or_refuse(inputs)
        rows = -1
        for name, check in self._input_checks:
            array = inputs[name]
            formed = check.check_form(array, name)
            if formed is not array:
                inputs[name] = formed
            if rows < 0:
                rows = formed.shape[0]
            elif formed.shape[0] != rows:
                text = f"must have as many rows as the other inputs ({rows}), got {formed.shape[0]}"
                raise InvalidArgument.at(name, text, Reason.SHAPE_MISMATCH)
        if not 0 < rows <= self._max_rows:
            text = f"a request must have 1 to {self._max_rows} rows, got {rows}"
            raise InvalidArgument(text, reason=Reason.BATCH_LIMIT)
        for name, check in self._input_checks:
            if not (is_finite and check.is_plain_float):
                check.check_values(inputs[name], name)
        return rows

    def check_outputs(self, outputs: Mapping[str, Array], rows: int, *, checks_limits: bool = True) -> dict[str, Array]:
        """Return the outputs in contract order after checking what the contract says about them.

        Args:
            outputs: the model's answer, one tensor per contract output.
            rows: how many rows were asked for.
            checks_limits: also check ranges, allowed values, lengths and patterns. Names, types, shapes and finite are always checked.

        Raises:
            InvalidOutput: the first thing that breaks the contract, by name and without the value.
        """
        plain = self._plain_outputs if checks_limits else self._free_plain
        if plain is not None and plain.rows(outputs, False) == rows > 0:
            return {name: outputs[name] for name, _ in self._output_checks}
        answer: dict[str, Array] = {}
        for name, check in self._output_checks if checks_limits else self._free_checks:
            array = outputs.get(name)
            if array is None:
                raise no_output(name, outputs)
            try:
                formed = check.check_form(array, name)
                if formed.shape[0] != rows:
                    raise InvalidOutput(f"the model gave {formed.shape[0]} rows of {name} for {rows}")
                check.check_values(formed, name)
            except InvalidArgument as exc:
                raise InvalidOutput(f"the model's output {exc.message}", violations=exc.violations) from exc
            answer[name] = formed
        return answer

    def _fill_or_refuse(self, inputs: dict[str, Array]) -> None:
        """Refuse unknown inputs and fill optional ones with their default, or with "missing" when nullable."""
        found: list[Violation] = [
            Violation(shown(name), "is not an input of this model") for name in inputs if name not in self._inputs
        ]
        rows = next((a.shape[0] for a in inputs.values() if a.ndim), 0)
        for name, check in self._inputs.items():
            if name in inputs:
                continue
            if check.field.is_required:
                found.append(Violation(name, "is a required input"))
            else:
                inputs[name] = filled(check.field, rows)
        if found:
            raise InvalidArgument.of(found[:MAX_VIOLATIONS], Reason.INPUT_SET)


def _without_limits(field: Field) -> Field:
    """Return a field that allows every value of its type; what JSON in it must look like stays."""
    free = {"minimum": None, "maximum": None, "enum": None, "pattern": None, "min_length": None, "max_length": None}
    return field if field.is_json else msgspec.structs.replace(field, **free)


def no_output(name: str, outputs: Mapping[str, Array]) -> InvalidOutput:
    """Return the error for an output that is missing, with the names of those that there are."""
    given = ", ".join(map(shown, list(outputs)[:MAX_VIOLATIONS])) or "nothing"
    return InvalidOutput(f"the model gave no output {name}; it gave {given}")


def filled(field: Field, rows: int) -> Array:
    """Return `rows` rows of an optional field's default, or of "missing" (NaN or None) when it is nullable."""
    element = BY_NAME[field.type]
    if field.has_default:
        row = np.array(default_value(field), dtype=element.dtype)
        return np.repeat(row[np.newaxis], rows, axis=0)
    missing: Any = math.nan if element.kind is Kind.FLOAT else None
    return np.full((rows, *(max(d, 0) for d in field.shape)), missing, element.dtype)


def default_value(field: Field) -> Any:
    """Return what stands in for a field that is left out, None without a default, as a tensor has it: bytes and JSON text."""
    value = field.default if field.has_default else None
    if field.is_json:
        return json_values.texts(value, len(field.shape))
    return _unpacked(value) if BY_NAME[field.type].kind is Kind.BINARY else value


def _unpacked(value: Any) -> Any:
    if isinstance(value, list):
        return [_unpacked(item) for item in value]
    return base64.b64decode(value) if isinstance(value, str) else value


def text_problem(field: Field, value: Any, allowed: frozenset[Any] | None, pattern: Pattern | None) -> str | None:
    """Return what is wrong with one string or bytes value, or None."""
    if allowed is not None and value not in allowed:
        return "must be one of " + ", ".join(str(v) for v in field.enum or ())
    if field.min_length is not None and len(value) < field.min_length:
        return f"must have at least {field.min_length} characters"
    if field.max_length is not None and len(value) > field.max_length:
        return f"must have at most {field.max_length} characters"
    if pattern is not None and isinstance(value, str) and not pattern.matches(value):
        too_long = len(value) * 4 > pattern.longest and len(value.encode(errors="surrogatepass")) > pattern.longest
        return f"must match {field.pattern}" + (f" within {pattern.longest} bytes" if too_long else "")
    return None


def _as_text(value: Any, wanted: type) -> Any:
    if value is None or isinstance(value, wanted):
        return value
    if wanted is str:
        if isinstance(value, bytes):
            return value.decode()
        raise ValueError
    return value.encode() if isinstance(value, str) else bytes(value)
