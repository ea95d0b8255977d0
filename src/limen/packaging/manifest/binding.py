"""The `bind` part of `model.yaml`: its keys, and its checks against the inputs and outputs.

Not here: applying a binding to tensors, which is the runtime's business, and comparing it with the artifact's own tensors,
which only a loaded model knows. Called by `packaging.manifest.decoder`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

from limen.contracts.contract import Field
from limen.contracts.strict.rules import INVALID, ByKind, Flag, Key, Keys, ListOf, MapOf, Number, Report, Text, at
from limen.contracts.tensors import Kind
from limen.packaging.manifest.fields import DIMENSION, FIELD_NAME_TEXT, FIELD_NAMES, Fields, field_reference

TENSOR_NAME: Final = Text(form=r"[^\x00-\x1f\x7f]{1,500}", rule="the name of a tensor")
OUTPUT_BINDING: Final = Keys(
    (
        Key("tensor", TENSOR_NAME, "the artifact's output tensor", required=True),
        Key("column", Number(whole=True, low=0), "take this column of the tensor's last axis"),
        Key("argmax", Flag(), "take the position of the largest value of the last axis"),
        Key("reshape", Flag(), "arrange the values in the field's shape, row by row"),
        Key("threshold", Number(), "give 1 where the value is above this and 0 elsewhere"),
    )
)
INPUT_BINDING: Final = Keys(
    (
        Key("field", FIELD_NAME_TEXT, "the input field", required=True),
        Key(
            "shape",
            ListOf(item=DIMENSION, max_items=31),
            "arrange the values in this shape, row by row; without the batch axis, with at most one -1",
            required=True,
        ),
    )
)
BIND: Final = Keys(
    (
        Key(
            "inputs",
            MapOf(
                key=TENSOR_NAME,
                item=ByKind(
                    "the name of one field, a list of names, or a mapping",
                    text=FIELD_NAMES.text,
                    items=FIELD_NAMES.items,
                    mapping=INPUT_BINDING,
                ),
            ),
            "artifact tensor to the scalar fields packed as its columns, or to the one field it is renamed or reshaped from",
        ),
        Key(
            "outputs",
            MapOf(
                key=FIELD_NAME_TEXT,
                item=ByKind("the name of a tensor or a mapping", text=TENSOR_NAME, mapping=OUTPUT_BINDING),
            ),
            "output field to the tensor it comes from",
        ),
    )
)
_FAMILY: Final = {
    **dict.fromkeys([Kind.BOOL, Kind.INT, Kind.FLOAT], "numbers"),
    Kind.TEXT: "string",
    Kind.BINARY: "bytes",
}
"""Kinds whose fields may be columns of one tensor; a bool is the number 0 or 1 there."""


def reshape_problem(given: Sequence[int], wanted: Sequence[int]) -> str | None:
    """Return why values in one shape cannot always be laid out in another, or None when they can; -1 is variable."""
    if max(sum(d < 0 for d in given), sum(d < 0 for d in wanted)) > 1:
        return "only one size may be variable"
    known = [math.prod(d for d in shape if d > 0) for shape in (given, wanted)]
    if (-1 in given) != (-1 in wanted) or (-1 in given and known[0] % known[1]):
        return "a variable number of values needs a variable size that takes it"
    return None if -1 in given or known[0] == known[1] else f"holds {known[1]} values and not {known[0]}"


def check_bind(bind: Any, inputs: Fields, outputs: Fields, report: Report) -> None:
    """Report what does not fit between `bind` and the fields."""
    if inputs:
        _check_inputs(bind.get("inputs", {}), inputs, report)
    if outputs:
        _check_outputs(bind.get("outputs", {}), outputs, report)


def _check_inputs(bindings: dict[str, Any], inputs: Fields, report: Report) -> None:
    find = field_reference(inputs, "input")
    bound: dict[str, str] = {}
    for tensor, binding in bindings.items():
        where, names = at("bind.inputs", tensor), binding
        if isinstance(binding, dict):
            _check_reshaped(binding, where, inputs, report)
            names = binding.get("field", INVALID)
        packed = names if isinstance(names, list) else [names]
        families: dict[str, str] = {}
        for i, name in enumerate(packed):
            place = where if names is name else at(where, i)
            if name is INVALID:
                continue
            field = find(name, place, report)
            if name in bound:
                report.add(place, f"the field {name} is already bound, to {bound[name]}")
            bound.setdefault(name, tensor)
            if field is not None and isinstance(names, list):
                _check_packed(field, place, families, report)
    for name in inputs:
        if name in bindings and name not in bound:
            text = f"the unbound field {name} would go to this tensor as well; bind it to the tensor it belongs to"
            report.add(at("bind.inputs", name), text)


def _check_reshaped(binding: dict[str, Any], where: str, inputs: Fields, report: Report) -> None:
    """Report a shape that does not hold as many values as the field has."""
    field, shape = inputs.get(binding.get("field", "")), binding.get("shape", [])
    if INVALID in shape or field is None or "shape" not in binding:
        return
    if problem := reshape_problem(field.shape, tuple(shape)):
        report.add(at(where, "shape"), f"{problem}; the field {field.name} has the shape {list(field.shape)}")


def _check_packed(field: Field, place: str, families: dict[str, str], report: Report) -> None:
    if not field.is_scalar:
        report.add(place, f"the field {field.name} has a shape; only scalar fields can be packed")
    families.setdefault(_FAMILY[field.element.kind], field.name)
    if len(families) > 1:
        first, name = next(iter(families.items()))
        text = f"the field {field.name} is {field.type} and {name} is {first}; one tensor takes one kind of fields"
        report.add(place, text)
        del families[_FAMILY[field.element.kind]]


def _check_outputs(bindings: dict[str, Any], outputs: Fields, report: Report) -> None:
    find = field_reference(outputs, "output")
    for name, binding in bindings.items():
        where = at("bind.outputs", name)
        field = find(name, where, report)
        if field is not None and isinstance(binding, dict):
            _check_class(binding, field, where, report)


def _check_class(binding: dict[str, Any], field: Field, where: str, report: Report) -> None:
    """Report what does not fit in an output that gives the number or name of a class."""
    how = next((key for key in ("argmax", "threshold") if binding.get(key) not in (None, False)), None)
    if how is None:
        return
    for other in ("column", "threshold") if how == "argmax" else ():
        if other in binding:
            report.add(where, f"takes either {other} or argmax, not both")
    names = field.enum or field.labels
    if field.element.kind is Kind.TEXT and not names:
        report.add(where, f"{how} gives a number; the string output {field.name} needs an enum or labels to name it")
    elif field.element.kind is Kind.TEXT and how == "threshold" and len(names) != 2:
        report.add(where, f"threshold tells two classes apart; {field.name} names {len(names)}")
    elif field.element.kind not in (Kind.TEXT, Kind.INT):
        report.add(where, f"{how} gives a whole number or a name; the output {field.name} is {field.type}")


def plain_bind(bind: Any) -> Any:
    """Return `bind` with every output in its long form."""
    outputs = {k: {"tensor": v} if isinstance(v, str) else v for k, v in bind.get("outputs", {}).items()}
    return {**bind, "outputs": outputs}
