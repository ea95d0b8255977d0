"""The first text of a `model.yaml`, generated from the artifact's declarations and a sample of data.

Pure: text out, nothing read or written; the text always passes `packaging.manifest.decoder`. Limits are never invented: what a sample
shows stands in comments, for the owner to decide. Called by `limen init` and `limen import`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final, Protocol

import msgspec
import numpy as np

from limen.contracts.contract import Json
from limen.contracts.names import FIELD_NAME, WIRE_NAME
from limen.contracts.tensors import BY_NAME, Array, Kind, TensorSpec, element_type_of
from limen.packaging.manifest.observation import example_value, has_gap, observed, rows_to_show
from limen.packaging.manifest.yaml_text import flow, word

MAX_COLUMNS: Final = 200
"""A wider tensor stays one field even if its columns have names."""
MAX_EXAMPLES: Final = 3
_ANY: Final = "any JSON value, including lists and objects; use a narrower type if possible"
_HEAD: Final = """\
# The contract that callers see: the model's inputs, its outputs and its owner's promises.
# Complete it (units, limits, descriptions), then run `limen check` on this folder.
# `limen schema` prints the JSON Schema of this file for editors.
"""
_TAKES: Final = "the model's inputs: complete this list"
_GIVES: Final = "the model's outputs: complete this list"
_NARROW: Final = "whole numbers only in the sample, as the model was trained; float64 takes fractions"
_WIDE: Final = "whole numbers only in the sample; int64 refuses fractions"
_UNABLE: Final = "the model gives no answer when it is missing"
_NAMED: Final = ("onnx", "torch", "transformers")
"""Backends whose tensors callers of other servers know by name."""
_EXACT: Final = 1 << 53
"""Whole numbers up to here are exact in float64."""
_TAIL: Final = """\

# title: a short name for people
# description: what the model does, for whom, and what it must not be used for
# owner: who is responsible for it
# slo: {p95_ms: 20, deadline_ms: 100}
"""


class Tensors(Protocol):
    """An artifact's own tensors (`runtime.predictor.Signature`), the batch as their first axis."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What the artifact takes; empty when it does not say."""
        ...

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What the artifact gives; empty when it does not say."""
        ...


class Hints(msgspec.Struct, frozen=True, kw_only=True):
    """What is known about a model besides its file, from the tool that kept it."""

    origin: tuple[str, ...] = ()
    """Lines of comment about where it comes from."""
    optional: frozenset[str] = frozenset()
    """Input columns that may be missing."""
    labels: Mapping[str, tuple[str, ...]] = {}
    """Names of the classes along the last axis of an output tensor."""
    classes: Mapping[str, str] = {}
    """Further outputs that give the class: the output's name and the tensor of probabilities it is read from."""
    has_named_classes: bool = False
    """The class is given by its name instead of its number."""
    max_rows: int | None = None
    """Rows the model takes in one run."""
    max_wait_ms: float | None = None
    """How long rows may wait to be batched."""
    is_batched: bool | None = None
    """Whether tensors have the batch as their first axis; None leaves it to their shapes."""
    input_rows: Mapping[str, tuple[int, ...]] = {}
    """Shapes of one row, as callers of the source know them, of tensors whose own may be others."""
    output_rows: Mapping[str, tuple[int, ...]] = {}
    """Likewise."""
    is_small: bool = False
    """The sample is a handful of rows: it shows types, and says nothing about ranges."""
    categories: Mapping[str, tuple[bool | int | float | str, ...]] = {}
    """Columns that the source of the sample, or the original model, declares all values of."""
    reasons: Mapping[str, str] = {}
    """Why columns of the sample have the types they have, where their values do not show it."""
    unable: frozenset[str] = frozenset()
    """Fields that the model was seen not to answer without, whatever the sample shows."""
    are_types_guessed: bool = False
    """The types of the inputs are those of the sample: the artifact declares none."""
    examples_file: str = ""
    """The file that holds the examples, instead of one in the text."""


class Scaffold(msgspec.Struct, frozen=True):
    """A manifest that was written, and what people are to be told of it."""

    text: str
    renamed: Mapping[str, str]
    """Fields by the name that the artifact or the sample has for them, where that is another."""
    guesses: Mapping[str, str]
    """Inputs whose type is a guess, and why it is this one."""


class _Line(msgspec.Struct):
    """One field as it is written down."""

    name: str
    type: str
    shape: tuple[int, ...] = ()
    wire: str = ""
    extra: dict[str, Json] = {}
    comments: list[str] = []
    examples: list[Json] = []
    """Its values in the rows of the sample that become examples."""

    def text(self) -> str:
        wire = {"wire": self.wire} if self.wire else {}
        parts: dict[str, Json] = {"name": self.name, **wire, "type": self.type}
        if self.shape:
            parts["shape"] = list(self.shape)
        comment = f"  # {'; '.join(self.comments)}" if self.comments else ""
        return f"  - {flow(parts | self.extra)}{comment}"


def scaffold(
    name: str,
    backend: str,
    artifact_name: str,
    signature: Tensors,
    sample: Mapping[str, Array] | None = None,
    hints: Hints | None = None,
) -> Scaffold:
    """Return a commented `model.yaml` that can be served as it is.

    Args:
        name: the model's name, already valid.
        backend: what loads the artifact.
        artifact_name: the artifact's path in the package; with the class for `python`.
        signature: the artifact's tensors.
        sample: columns of example data by name, all of one length.
        hints: what else is known.
    """
    hints = hints or Hints()
    writer = _Writer(signature, {k: v for k, v in (sample or {}).items() if len(v)}, hints)
    writer.names_are_known = backend in _NAMED
    writer.write_inputs()
    writer.write_outputs()
    text = [
        _HEAD,
        *(f"# {line}" for line in hints.origin),
        f"name: {word(name)}",
        f"backend: {backend}",
        f"artifact: {word(artifact_name)}",
        "",
    ]
    text += ["inputs:", *(line.text() for line in writer.inputs)]
    text += ["outputs:", *(line.text() for line in writer.outputs), *writer.bind_text()]
    text += _batching_text(signature, hints, is_batched=writer.is_batched)
    text += ["", f"examples: {hints.examples_file}"] if hints.examples_file else writer.example_text()
    return Scaffold("\n".join(text) + "\n" + _TAIL, writer.renamed, writer.guesses)


def _is_batched(signature: Tensors) -> bool:
    """Return whether tensors may have the batch as their first axis: it is free, or one row."""
    fixed = any(not tensor.shape for tensor in signature.inputs)
    return not fixed and all(t.shape[0] in (-1, 1) for t in (*signature.inputs, *signature.outputs) if t.shape)


def _batching_text(signature: Tensors, hints: Hints, *, is_batched: bool) -> list[str]:
    if not is_batched:
        return ["", "# The artifact's tensors have no batch axis: each request is one run.", "batching: none"]
    if any(t.shape and t.shape[0] == 1 for t in (*signature.inputs, *signature.outputs)):
        return ["", "# The artifact takes one row at a time.", "batching: {max_rows: 1}"]
    said = {"max_rows": hints.max_rows, "max_wait_ms": hints.max_wait_ms}
    batching = {key: value for key, value in said.items() if value is not None}
    return ["", f"batching: {flow(batching)}"] if batching else []


class _Writer:
    """Collects the fields, and how they are bound."""

    def __init__(self, signature: Tensors, sample: Mapping[str, Array], hints: Hints) -> None:
        self.signature = signature
        self.hints = hints
        self.sample = sample
        self.inputs: list[_Line] = []
        self.outputs: list[_Line] = []
        self.bound_inputs: dict[str, Json] = {}
        self.bound_outputs: dict[str, Json] = {}
        self.names_are_known = False
        """Whether the artifact's names for its tensors are what callers of other servers use."""
        self.is_batched = _is_batched(signature) if hints.is_batched is None else hints.is_batched
        self.renamed: dict[str, str] = {}
        self.guesses: dict[str, str] = {}
        self.rows = rows_to_show(list(sample.values()), MAX_EXAMPLES)

    def write_inputs(self) -> None:
        tensors = self.signature.inputs
        for tensor in tensors:
            columns = self._columns_of(tensor)
            if columns:
                fields = [self._add_input(tensor, column, ()) for column in columns]
                self.bound_inputs[tensor.name] = [field.name for field in fields]
                continue
            shape, known = self._row(tensor, self.hints.input_rows)
            field = self._add_input(tensor, tensor.name, known)
            self._name_on_wire(field, tensor.name)
            if known != shape and tensor.name in self.hints.input_rows:
                self.bound_inputs[tensor.name] = {"field": field.name, "shape": list(shape)}
            elif field.name != tensor.name:
                self.bound_inputs[tensor.name] = field.name
        if not tensors:
            for column, values in self.sample.items():
                spec = TensorSpec(column, _wide_type(values), (-1, *values.shape[1:]))
                self._add_input(spec, column, spec.shape[1:])
        if not self.inputs:
            self.inputs.append(_Line("features", "float32", (-1,), comments=[_TAKES]))

    def write_outputs(self) -> None:
        taken: set[str] = set()
        own = {tensor.name for tensor in self.signature.outputs}
        for tensor in self.signature.outputs:
            shape, known = self._row(tensor, self.hints.output_rows)
            line = _Line(_field_name(tensor.name, taken, own), tensor.type, known)
            labels = self.hints.labels.get(tensor.name, tensor.columns)
            if labels and known and known[-1] == len(labels):
                line.extra = {"labels": list(labels)}
            elif tensor.categories and BY_NAME[tensor.type].kind is not Kind.BOOL:
                line.extra = {"enum": list(tensor.categories)}
            if not tensor.shape and self.is_batched:
                line.comments = ["the artifact does not say its shape"]
            if tensor.nullable and BY_NAME[tensor.type].kind in (Kind.FLOAT, Kind.TEXT):
                line.extra = line.extra | {"nullable": True}
            if tensor.type == "json":
                line.comments = [_ANY]
            self.outputs.append(line)
            self._name_on_wire(line, tensor.name)
            if known != shape and tensor.name in self.hints.output_rows:
                self.bound_outputs[line.name] = {"tensor": tensor.name, "reshape": True}
            elif line.name != tensor.name:
                self.bound_outputs[line.name] = tensor.name
            if line.name != tensor.name:
                self.renamed[tensor.name] = line.name
            for name in (n for n, source in self.hints.classes.items() if source == tensor.name):
                self._add_class(_field_name(name, taken), tensor, labels if self.hints.has_named_classes else ())
        if not self.outputs:
            self.outputs.append(_Line("prediction", "float32", comments=[_GIVES]))

    def _row(self, tensor: TensorSpec, rows: Mapping[str, tuple[int, ...]]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the shape of one row of a tensor, and the one that its field has."""
        shape = tensor.shape[1:] if self.is_batched else tensor.shape
        known = rows.get(tensor.name)
        if known is None:
            return shape, () if shape == (1,) and self.is_batched else shape
        is_same = len(known) == len(shape) and all(k in (-1, s) for k, s in zip(known, shape, strict=True))
        return shape, shape if is_same else known

    def _name_on_wire(self, line: _Line, name: str) -> None:
        """Keep the name that callers know where it is not the field's."""
        if self.names_are_known and line.name != name and WIRE_NAME.fullmatch(name):
            line.wire = name

    def _add_class(self, name: str, tensor: TensorSpec, names: tuple[str, ...]) -> None:
        """Add the likeliest class, its name or number: of the largest probability, or 1 where the only one is above one half."""
        self.outputs.append(_Line(name, "string", extra={"enum": list(names)}) if names else _Line(name, "int64"))
        is_one = len(tensor.shape) == 1
        self.bound_outputs[name] = {"tensor": tensor.name} | ({"threshold": 0.5} if is_one else {"argmax": True})

    def bind_text(self) -> list[str]:
        if not (self.bound_inputs or self.bound_outputs):
            return []
        text = ["", "# How the fields map to the artifact's tensors; a list packs fields as columns.", "bind:"]
        for side, bound in (("inputs", self.bound_inputs), ("outputs", self.bound_outputs)):
            if bound:
                text.append(f"  {side}:")
                text += [f"    {word(key)}: {flow(value)}" for key, value in bound.items()]
        return text

    def example_text(self) -> list[str]:
        rows = [
            i
            for i in range(len(self.rows))
            if all(line.examples[i:] and line.examples[i] is not msgspec.UNSET for line in self.inputs)
        ]
        if not rows:
            return []
        text = ["", "# Examples are run before the model is served; those with outputs are tests."]
        text.append("examples:")
        for i in rows:
            text += [f"  - name: row {self.rows[i] + 1} of the sample", "    inputs:"]
            text += [f"      {line.name}: {flow(line.examples[i])}" for line in self.inputs]
        return text

    def _columns_of(self, tensor: TensorSpec) -> tuple[str, ...]:
        if not self.is_batched or len(tensor.shape) != 2 or not 0 < tensor.shape[1] <= MAX_COLUMNS:
            return ()
        if len(tensor.columns) == tensor.shape[1]:
            return tensor.columns
        # A sample without a header for every column says nothing about which is which.
        is_alone = len(self.signature.inputs) == 1
        is_table = all(values.ndim == 1 for values in self.sample.values())
        return tuple(self.sample) if is_alone and is_table and len(self.sample) == tensor.shape[1] else ()

    def _add_input(self, tensor: TensorSpec, column: str, shape: tuple[int, ...]) -> _Line:
        own = {name for t in self.signature.inputs for name in (self._columns_of(t) or (t.name,))}
        line = _Line(_field_name(column, {f.name for f in self.inputs}, own), tensor.type, shape)
        if tensor.type == "json":
            line.comments = [_ANY]
        self.inputs.append(line)
        if line.name != column:
            self.renamed[column] = line.name
        values = self._values_of(tensor, column, shape)
        kind = BY_NAME[tensor.type].kind
        can_miss = tensor.nullable or column in self.hints.optional or (values is not None and has_gap(values))
        if can_miss and kind in (Kind.FLOAT, Kind.TEXT):
            if line.name in self.hints.unable:
                line.comments = [_UNABLE]
            else:
                line.extra = {"nullable": True}
        categories = tensor.categories or self.hints.categories.get(column, ())
        if tensor.examples:
            line.extra = line.extra | {"examples": list(tensor.examples)}
        if categories and kind is not Kind.BOOL:
            line.extra = line.extra | {"enum": list(categories)}
        if values is not None:
            self._observe(line, column, values)
        return line

    def _values_of(self, tensor: TensorSpec, column: str, shape: tuple[int, ...]) -> Array | None:
        """Return what the sample has for a field: its column, or all the columns of a matrix that stays one field."""
        values = self.sample.get(column)
        if values is None and len(shape) == 1 and tensor.columns and all(n in self.sample for n in tensor.columns):
            values = np.column_stack([self.sample[name] for name in tensor.columns])
        if values is None or values.ndim != len(shape) + 1:
            return None
        return values if all(want in (-1, got) for want, got in zip(shape, values.shape[1:], strict=True)) else None

    def _observe(self, line: _Line, column: str, values: Array) -> None:
        """Note what the sample shows of a field."""
        if self.hints.are_types_guessed:
            why = self.hints.reasons.get(column, "")
            if not why and values.dtype.kind in "iu":
                why = _WIDE if BY_NAME[line.type].kind is Kind.FLOAT else _NARROW
            line.comments = [f"guessed: {why}" if why else "guessed", *line.comments]
            self.guesses[line.name] = (
                f"{line.type}{', may be missing' if line.extra.get('nullable') else ''}{f': {why}' if why else ''}"
            )
        if not self.hints.is_small and "enum" not in line.extra and values.ndim == 1 and (seen := observed(values)):
            line.comments = [*line.comments, seen]
        element, is_nullable = BY_NAME[line.type], bool(line.extra.get("nullable"))
        line.examples = [example_value(values[i], element, is_nullable=is_nullable) for i in self.rows]
        if "enum" in line.extra:
            allowed = (None, *line.extra["enum"])
            line.examples = [value if value in allowed else msgspec.UNSET for value in line.examples]


def _wide_type(values: Array) -> str:
    """Return the type for a column of which nobody knows more than the sample shows: the widest that holds its values."""
    if values.dtype.kind in "iu" and np.abs(values).max(initial=0) <= _EXACT:
        return "float64"
    element = element_type_of(values.dtype)
    return element.name if element is not None else "string"


def _field_name(name: str, taken: Iterable[str], own: Iterable[str] = ()) -> str:
    """Return a field name for a tensor's or column's name, different from those taken in every spelling.

    A name that a field can have is kept, and no other name is turned into it: `own` are all names there are.
    """
    spellings = {_spelling(t) for t in taken}
    if FIELD_NAME.fullmatch(name):
        plain = name[:56] if _spelling(name) in spellings else name
    else:
        plain = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_")[:56]
        if not plain[:1].isalpha():
            plain = f"field_{plain}".rstrip("_")
        spellings |= {_spelling(other) for other in own if FIELD_NAME.fullmatch(other)}
    found, number = plain, 2
    while _spelling(found) in spellings:
        found, number = f"{plain}_{number}", number + 1
    if isinstance(taken, set):
        taken.add(found)
    return found


def _spelling(name: str) -> str:
    return name.replace("_", "").casefold()
