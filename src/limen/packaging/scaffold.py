"""The first text of a `model.yaml`, made from what an artifact says about itself and from a sample of data.

Pure: text out, nothing read or written; the text always passes `packaging.decoder`. Limits are never invented: what a sample
shows stands in comments, for the owner to decide. Called by `limen init` and `limen import`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, Protocol

import msgspec
import numpy as np

from limen.contracts.contract import Json
from limen.contracts.tensors import BY_NAME, Array, Kind, TensorSpec, element_type_of

MAX_COLUMNS: Final = 200
"""A wider tensor stays one field even if its columns have names."""
MAX_CATEGORIES: Final = 20
_PLAIN: Final = re.compile(r"(?!(?:true|false|null|yes|no|on|off|y|n)$)[A-Za-z][A-Za-z0-9_./-]*", re.IGNORECASE)
_HEAD: Final = """\
# What this model takes, what it gives and what its owner promises: the contract that callers see.
# Complete it (units, limits, descriptions), then run `limen check` on this folder.
# `limen schema` prints the JSON Schema of this file for editors.
"""
_TAIL: Final = """\

# title: a short name for people
# description: what the model does, for whom, and what it must not be used for
# owner: who answers for it
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
    """How long rows may wait for company."""
    is_small: bool = False
    """The sample is a handful of rows: it shows types, and says nothing about categories and ranges."""
    examples_file: str = ""
    """The file that holds the examples, instead of one in the text."""


class Unseen(msgspec.Struct, frozen=True):
    """What a sample does not show of a model's inputs."""

    names: tuple[str, ...]
    """Columns it lacks, and tensors that columns cannot give."""
    seen: int
    """Columns of the model that it has."""


def unseen_columns(signature: Tensors, sample: Mapping[str, Array]) -> Unseen:
    """Return which of a model's columns a sample lacks; nothing when the model does not say what it takes."""
    wanted: list[str] = []
    for tensor in signature.inputs:
        shape = tensor.shape[1:]
        is_alone = len(signature.inputs) == 1 and len(shape) == 1
        if tensor.columns:
            wanted += tensor.columns
        elif is_alone and shape[0] == len(sample):
            # Without names of its own it takes the sample's.
            wanted += sample
        elif shape in ((), (1,)):
            wanted.append(tensor.name)
        else:
            size = f"{shape[0]} columns without names" if is_alone and shape[0] > 0 else f"an array of {list(shape)}"
            wanted.append(f"{tensor.name} ({size})")
    names = tuple(name for name in wanted if name not in sample)
    return Unseen(names, len(wanted) - len(names))


class _Line(msgspec.Struct):
    """One field as it is written down."""

    name: str
    type: str
    shape: tuple[int, ...] = ()
    extra: dict[str, Json] = {}
    comment: str = ""
    example: Json = msgspec.UNSET

    def text(self) -> str:
        parts: dict[str, Json] = {"name": self.name, "type": self.type}
        if self.shape:
            parts["shape"] = list(self.shape)
        comment = f"  # {self.comment}" if self.comment else ""
        return f"  - {_flow(parts | self.extra)}{comment}"


def scaffold(
    name: str,
    backend: str,
    artifact_name: str,
    signature: Tensors,
    sample: Mapping[str, Array] | None = None,
    hints: Hints | None = None,
) -> str:
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
    writer.write_inputs()
    writer.write_outputs()
    text = [
        _HEAD,
        *(f"# {line}" for line in hints.origin),
        f"name: {_word(name)}",
        f"backend: {backend}",
        f"artifact: {_word(artifact_name)}",
        "",
    ]
    text += ["inputs:", *(line.text() for line in writer.inputs)]
    text += ["outputs:", *(line.text() for line in writer.outputs), *writer.bind_text()]
    text += _batching_text(signature, hints)
    text += ["", f"examples: {hints.examples_file}"] if hints.examples_file else writer.example_text()
    return "\n".join(text) + "\n" + _TAIL


def _batching_text(signature: Tensors, hints: Hints) -> list[str]:
    if any(t.shape and t.shape[0] == 1 for t in (*signature.inputs, *signature.outputs)):
        return ["", "# The artifact takes one row at a time.", "batching: {max_rows: 1}"]
    said = {"max_rows": hints.max_rows, "max_wait_ms": hints.max_wait_ms}
    batching = {key: value for key, value in said.items() if value is not None}
    return ["", f"batching: {_flow(batching)}"] if batching else []


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

    def write_inputs(self) -> None:
        tensors = self.signature.inputs
        for tensor in tensors:
            columns = self._columns_of(tensor)
            if columns:
                fields = [self._add_input(tensor, column, ()) for column in columns]
                self.bound_inputs[tensor.name] = [field.name for field in fields]
                continue
            shape = tensor.shape[1:]
            field = self._add_input(tensor, tensor.name, () if shape == (1,) else shape)
            if field.name != tensor.name:
                self.bound_inputs[tensor.name] = field.name
        if not tensors:
            for column, values in self.sample.items():
                element = element_type_of(values.dtype)
                self._add_input(TensorSpec(column, element.name if element else "string", (-1,)), column, ())
        if not self.inputs:
            self.inputs.append(_Line("features", "float32", (-1,), comment="what the model takes: complete this list"))

    def write_outputs(self) -> None:
        taken: set[str] = set()
        for tensor in self.signature.outputs:
            shape = tensor.shape[1:]
            line = _Line(_field_name(tensor.name, taken), tensor.type, () if shape == (1,) else shape)
            labels = self.hints.labels.get(tensor.name, tensor.columns)
            if labels and len(tensor.shape) > 1 and shape[-1] == len(labels):
                line.extra = {"labels": list(labels)}
            if not tensor.shape:
                line.comment = "the artifact does not say its shape"
            self.outputs.append(line)
            if line.name != tensor.name:
                self.bound_outputs[line.name] = tensor.name
            for name in (n for n, source in self.hints.classes.items() if source == tensor.name):
                self._add_class(_field_name(name, taken), tensor, labels if self.hints.has_named_classes else ())
        if not self.outputs:
            self.outputs.append(_Line("prediction", "float32", comment="what the model gives: complete this list"))

    def _add_class(self, name: str, tensor: TensorSpec, names: tuple[str, ...]) -> None:
        """Add the likeliest class, its name or number: of the largest probability, or 1 where the only one is above one half."""
        self.outputs.append(_Line(name, "string", extra={"enum": list(names)}) if names else _Line(name, "int64"))
        is_one = len(tensor.shape) == 1
        self.bound_outputs[name] = {"tensor": tensor.name} | ({"threshold": 0.5} if is_one else {"argmax": True})

    def bind_text(self) -> list[str]:
        if not (self.bound_inputs or self.bound_outputs):
            return []
        text = ["", "# How the fields map to the artifact's own tensors; a list packs fields as columns.", "bind:"]
        for side, bound in (("inputs", self.bound_inputs), ("outputs", self.bound_outputs)):
            if bound:
                text.append(f"  {side}:")
                text += [f"    {_word(key)}: {_flow(value)}" for key, value in bound.items()]
        return text

    def example_text(self) -> list[str]:
        if not self.sample or any(line.example is msgspec.UNSET for line in self.inputs):
            return []
        text = [
            "",
            "# Examples are asked before the model is served; with outputs they are tests, also of `limen check`.",
        ]
        text += ["examples:", "  - name: first row of the sample", "    inputs:"]
        return text + [f"      {line.name}: {_flow(line.example)}" for line in self.inputs]

    def _columns_of(self, tensor: TensorSpec) -> tuple[str, ...]:
        if len(tensor.shape) != 2 or not 0 < tensor.shape[1] <= MAX_COLUMNS:
            return ()
        if len(tensor.columns) == tensor.shape[1]:
            return tensor.columns
        # A sample without a header for every column says nothing about which is which.
        is_alone = len(self.signature.inputs) == 1
        return tuple(self.sample) if is_alone and len(self.sample) == tensor.shape[1] else ()

    def _add_input(self, tensor: TensorSpec, column: str, shape: tuple[int, ...]) -> _Line:
        line = _Line(_field_name(column, {f.name for f in self.inputs}), tensor.type, shape)
        can_miss = tensor.nullable or column in self.hints.optional
        if can_miss and BY_NAME[tensor.type].kind in (Kind.FLOAT, Kind.TEXT):
            line.extra = {"nullable": True}
        if tensor.categories and BY_NAME[tensor.type].kind is not Kind.BOOL:
            line.extra = line.extra | {"enum": list(tensor.categories)}
        values = self.sample.get(column)
        if not shape and values is not None and values.ndim == 1:
            _observe(line, values, is_small=self.hints.is_small)
        self.inputs.append(line)
        return line


def _observe(line: _Line, values: Array, *, is_small: bool) -> None:
    """Note what the sample shows of a scalar field."""
    kind = BY_NAME[line.type].kind
    present = [v for v in values.tolist() if not _is_missing(v)]
    if len(present) < len(values) and kind in (Kind.FLOAT, Kind.TEXT):
        line.extra = line.extra | {"nullable": True}
    if not present:
        return
    if not is_small and "enum" not in line.extra:
        _observe_range(line, kind, values, present)
    first = values[0].item() if isinstance(values[0], np.generic) else values[0]
    if _is_missing(first):
        line.example = None if line.extra.get("nullable") else msgspec.UNSET
    elif kind is Kind.TEXT:
        line.example = str(first)
    elif kind is Kind.FLOAT and isinstance(first, (int, float)):
        line.example = float(first)
    elif isinstance(first, (bool, int)) and kind in (Kind.INT, Kind.BOOL):
        line.example = bool(first) if kind is Kind.BOOL else int(first)
    if line.example is not None and line.example not in line.extra.get("enum", [line.example]):
        line.example = msgspec.UNSET


def _observe_range(line: _Line, kind: Kind, values: Array, present: list[Any]) -> None:
    if kind is Kind.TEXT:
        found = sorted({str(v) for v in present})
        if len(found) <= min(MAX_CATEGORIES, len(present) // 2 or 1):
            line.extra = line.extra | {"enum": found}
        else:
            line.comment = f"{len(found)} different values in the sample"
    elif kind in (Kind.INT, Kind.FLOAT) and values.dtype.kind in "iuf":
        line.comment = f"observed {_flow(min(present))} to {_flow(max(present))}"


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value != value)  # noqa: PLR0124 - NaN


def _field_name(name: str, taken: Iterable[str]) -> str:
    """Return a field name for a tensor's or column's name, different from those taken in every spelling."""
    plain = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_")[:56]
    if not plain[:1].isalpha():
        plain = f"field_{plain}".rstrip("_")
    spellings = {_spelling(t) for t in taken}
    found, number = plain, 2
    while _spelling(found) in spellings:
        found, number = f"{plain}_{number}", number + 1
    if isinstance(taken, set):
        taken.add(found)
    return found


def _spelling(name: str) -> str:
    return name.replace("_", "").casefold()


def _flow(value: Json) -> str:
    """Return a value as YAML on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_word(k)}: {_flow(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return _word(value) if isinstance(value, str) else json.dumps(value)


def _word(text: str) -> str:
    """Return text as YAML: plain where that is safe, quoted otherwise."""
    if _PLAIN.fullmatch(text):
        return text
    # JSON strings are YAML strings, but YAML knows no surrogate pairs, so only what cannot be shown is escaped.
    return json.dumps(text, ensure_ascii=not text.isprintable() and max(text) < "\U00010000")
