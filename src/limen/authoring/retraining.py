"""`limen init --like`: the package of a retrained model keeps the contract that callers already use.

What the new model's own file says of its tensors stays; names, order, limits, units and everything else for callers come from the old
contract. Where the two do not go together, the model wins, and the findings say what callers will notice.
Called by `authoring.scaffolding`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import yaml

from limen.contracts.compatibility.compare import compare
from limen.contracts.contract import Contract, Field, Json
from limen.contracts.tensors import BY_NAME, Kind
from limen.packaging.manifest.decoder import read_manifest
from limen.packaging.manifest.fields import record_problems
from limen.packaging.manifest.values import MANIFEST_NAME
from limen.packaging.manifest.yaml_text import flow, word

_TEXTS: Final = ("title", "description", "owner", "licence", "task")
_PARTS: Final = ("tags", "slo", "tolerance", "batching")
_NEW: Final = "  # new: callers do not send it yet"
Values = dict[str, Json]
"""One field as it is written down."""


class Known(msgspec.Struct, frozen=True):
    """A contract that callers know."""

    name: str
    """What people call it: `credit@champion`, or a package."""
    contract: Contract


def adopt(folder: Path, known: Known) -> tuple[str, ...]:
    """Write the contract that callers know into a new package folder, and return what they will notice of the new model.

    Args:
        folder: a package that `limen init` has just written.
        known: the contract.

    Raises:
        InvalidPackage: the contract cannot be said of this model.
    """
    old = known.contract
    path = folder / MANIFEST_NAME
    raw: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    inputs, input_names, added = _merged(raw["inputs"], old.inputs)
    outputs, output_names, _ = _merged(raw["outputs"], old.outputs, is_output=True)
    lines = [
        f"# The contract of {known.name}, for a retrained model.",
        f"name: {word(raw['name'])}",
        *([f"major: {old.major}"] if old.major > 1 else []),
        *(f"{key}: {flow(text)}" for key in _TEXTS if (text := getattr(old, key))),
        f"backend: {raw['backend']}",
        f"artifact: {word(raw['artifact'])}",
        "",
        "inputs:",
        *(f"  - {flow(field)}{_NEW if field['name'] in added else ''}" for field in inputs),
        "outputs:",
        *(f"  - {flow(field)}" for field in outputs),
    ]
    if bound := _bind(raw.get("bind", {}), input_names, output_names):
        lines += ["", f"bind: {flow(bound)}"]
    plain = msgspec.to_builtins(old)
    # How many rows travel together is the model's, where it says so.
    parts = {key: raw["batching"] if key == "batching" and key in raw else plain.get(key) for key in _PARTS}
    lines += ["", *(f"{key}: {flow(value)}" for key, value in parts.items() if value)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    contract = read_manifest(folder).contract
    if examples := _examples(old, raw, contract, input_names):
        lines += ["", "examples:", *(f"  - {flow(example)}" for example in examples)]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    found = compare(old, contract)
    # Golden answers are the model's own: that they are others is what training is for.
    return tuple(f"{finding.path}: {finding.reason}" for finding in found.findings if finding.path != "examples")


def _merged(
    new: Sequence[Values], old: Sequence[Field], *, is_output: bool = False
) -> tuple[list[Values], dict[str, str], set[str]]:
    """Return the fields in the order that callers know, the old name of each new field, and the names of those that are new."""
    left = {_spelling(str(field["name"])): field for field in new}
    unknown = [spelled for spelled in left if spelled not in {_spelling(field.name) for field in old}]
    gone = [field for field in old if _spelling(field.name) not in left]
    if is_output and len(unknown) == len(gone) == 1 and _is_alike(left[unknown[0]], gone[0]):
        # An owner gives an answer a better name than `prediction`.
        left = {_spelling(gone[0].name) if spelled in unknown else spelled: field for spelled, field in left.items()}
    merged, names = [], {}
    for field in old:
        own = left.pop(_spelling(field.name), None)
        if own is not None:
            merged.append(_taken_over(own, field))
            names[str(own["name"])] = field.name
    numbers = [field.number for field in old if field.number is not None]
    added = [field | ({"number": max(numbers) + i} if numbers else {}) for i, field in enumerate(left.values(), 1)]
    return [*merged, *added], names, {str(field["name"]) for field in added}


def _is_alike(own: Values, field: Field) -> bool:
    """Return whether two outputs hold the same kind of values in the same shape."""
    return BY_NAME[str(own["type"])].kind is field.element.kind and own.get("shape", []) == list(field.shape)


def _taken_over(own: Values, field: Field) -> Values:
    """Return a field with what callers know of it, as far as the model takes that."""
    known: Values = msgspec.to_builtins(field)
    taken: Values = {"name": field.name, **{key: own[key] for key in ("wire", "shape") if key in own}}
    kind, other = BY_NAME[str(own["type"])].kind, field.element.kind
    fits = kind is other or (kind is Kind.FLOAT and other is Kind.INT)
    taken["type"] = field.type if fits else own["type"]
    if fits:
        taken = known | taken
    else:
        taken = {key: known[key] for key in ("title", "description", "unit", "number") if key in known} | taken
    if "shape" not in own:
        taken.pop("shape", None)
    choices = own.get("enum")
    if isinstance(choices, list):
        taken["enum"] = [value for value in choices if not field.enum or value in field.enum] or choices
    return taken


def _bind(bound: Mapping[str, Any], inputs: Mapping[str, str], outputs: Mapping[str, str]) -> dict[str, Json]:
    """Return how fields map to tensors, by the names that callers know."""
    named: dict[str, Json] = {}
    for tensor, fields in bound.get("inputs", {}).items():
        if isinstance(fields, list):
            named[tensor] = [inputs.get(name, name) for name in fields]
        elif isinstance(fields, dict):
            named[tensor] = fields | {"field": inputs.get(fields["field"], fields["field"])}
        else:
            named[tensor] = inputs.get(fields, fields)
    named |= {name: old for name, old in inputs.items() if name != old and not _is_bound(name, bound.get("inputs", {}))}
    given = {outputs.get(name, name): source for name, source in bound.get("outputs", {}).items()}
    given |= {old: name for name, old in outputs.items() if name != old and old not in given}
    return {side: found for side, found in (("inputs", named), ("outputs", given)) if found}


def _is_bound(field: str, bound: Mapping[str, Any]) -> bool:
    """Return whether a field is fed to a tensor of another name."""
    sources = [source["field"] if isinstance(source, dict) else source for source in bound.values()]
    return any(field in source if isinstance(source, list) else field == source for source in sources)


def _examples(old: Contract, raw: Mapping[str, Any], contract: Contract, names: Mapping[str, str]) -> list[Json]:
    """Return the examples of the old contract without its model's answers; those of the sample where none fits any more."""
    fields = contract.inputs
    needed = {field.name for field in fields if field.is_required}
    kept: list[Json] = []
    for example in old.examples:
        inputs = {field.name: example.inputs[field.name] for field in fields if field.name in example.inputs}
        if needed <= inputs.keys() and not list(record_problems(list(fields), inputs)):
            kept.append(({"name": example.name} if example.name else {}) | {"inputs": inputs})
    own: list[Json] = [
        example | {"inputs": {names.get(name, name): value for name, value in example["inputs"].items()}}
        for example in raw.get("examples", ())
    ]
    return kept or own


def _spelling(name: str) -> str:
    return name.replace("_", "").casefold()
