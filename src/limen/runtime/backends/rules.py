"""Decision tables: JDM files, evaluated row by row by the ZEN engine.

A decision is data: tables, expressions and switches; nodes that run code or load files are refused (`jdm_file`). It has no types of
its own, so the contract gives them: an input or output is bound by the dotted name that the decision uses (`customer.age`). Lists and
objects are fields of type `json`; `$result` is the whole result. A value that is missing is left out of what the decision is asked.
What a decision leaves out is missing in the answer, and an error unless that output is nullable. Called through
`limen.runtime.backends`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np

from limen.contracts.errors import InvalidOutput, InvalidPackage, ModelFailed, Refused
from limen.contracts.inference import Parameter
from limen.contracts.strict.rules import listed
from limen.contracts.tensors import BY_NAME, Array, ElementType, Kind, TensorSpec, is_whole
from limen.contracts.validation import json_values
from limen.packaging.formats.sniff import ensure_format
from limen.packaging.manifest.values import Manifest
from limen.runtime.backends.artifact import OneAnswer, artifact_file, failed, loading, require
from limen.runtime.backends.files.jdm import Decision, read_decision
from limen.runtime.backends.files.jdm_graph import EVERYTHING, WHOLE, Given
from limen.runtime.backends.files.jdm_schema import Said
from limen.runtime.backends.files.zen_expressions import ANY, EXAMPLES, TRUTH
from limen.runtime.binding.binding import wanted_tensors
from limen.runtime.predictor import Signature

_decoder: Final = json.JSONDecoder()
_FITTING: Final[Mapping[Kind, tuple[type, ...]]] = {
    Kind.BOOL: (bool,),
    Kind.INT: (int,),
    Kind.FLOAT: (int, float),
    Kind.TEXT: (str,),
}


class RulesBackend:
    """Loads `.json` files in JDM."""

    name: ClassVar[str] = "rules"
    formats: ClassVar[tuple[str, ...]] = ("jdm",)

    def prepare(self) -> None:
        """Import the engine."""
        require("zen", "limen[rules]")

    def load(self, path: Path, manifest: Manifest) -> RulesModel:
        """Load the decision of the package folder `path`."""
        found = read_decision(artifact_file(path, manifest, self.formats).read_bytes())
        return RulesModel(_compiled(found), found.entries, _signature(found, manifest), wanted_tensors(manifest))

    def describe(self, artifact: Path, sample: Mapping[str, Array] | None = None) -> Signature:
        """Return what tables and expressions name, with the types their cells speak of."""
        ensure_format(artifact, self.formats)
        found = read_decision(artifact.read_bytes())
        _compiled(found)
        about = found.about
        inputs = (_input(name, said) for name, said in about.inputs.items())
        return Signature(tuple(inputs), tuple(_output(name, given) for name, given in about.outputs.items()))


class RulesModel(OneAnswer):
    """One decision. One call at a time."""

    def __init__(self, decision: Any, entries: frozenset[str], signature: Signature, wanted: Sequence[str]) -> None:
        self.signature = signature
        self._evaluate = decision.evaluate
        self._entries = entries
        self._inputs = [t.name for t in signature.inputs]
        self._json = {t.name for t in signature.inputs if t.type == "json"}
        self._paths = [name.split(".") for name in self._inputs]
        types = {t.name: BY_NAME[t.type] for t in signature.outputs}
        self._outputs = [(name, name.split("."), types[name]) for name in wanted if name in types]
        self._has_names = any(name != WHOLE for name, _, _ in self._outputs)

    def predict(self, inputs: dict[str, Array], parameters: Mapping[str, Parameter]) -> dict[str, Array]:
        """Evaluate the decision once for each row."""
        try:
            rows = zip(*(_values(inputs[name], is_json=name in self._json) for name in self._inputs), strict=True)
            results = [self._evaluate(_nested(self._paths, row))["result"] for row in rows]
        except Exception as exc:
            if _failing_node(exc) in self._entries:
                raise Refused("The inputs do not fit the schema that the decision itself holds.") from None
            raise failed("zen", exc) from exc
        if self._has_names and not all(isinstance(result, dict) for result in results):
            text = (
                f"The decision gives a list and not one result; declare an output of type json and bind it to {WHOLE}."
            )
            raise ModelFailed(text)
        return {
            name: _array([result if name == WHOLE else _get(result, path) for result in results], element, name)
            for name, path, element in self._outputs
        }


def _nested(paths: Sequence[Sequence[str]], row: Sequence[Any]) -> dict[str, Any]:
    """Return one row's values as the decision sees them: `customer.age` is `age` in `customer`, and what is missing is not there."""
    context: dict[str, Any] = {}
    for path, value in zip(paths, row, strict=True):
        if value is None:
            continue
        if path == [EVERYTHING]:
            context |= value if isinstance(value, dict) else {}
            continue
        place = context
        for part in path[:-1]:
            place = place.setdefault(part, {})
        place[path[-1]] = value
    return context


def _failing_node(exc: Exception) -> str:
    """Return the id of the node that the engine says failed; its text may hold values and goes to the log only."""
    try:
        return str(_decoder.raw_decode(str(exc))[0]["nodeId"])
    except (ValueError, LookupError, TypeError):
        return ""


def _compiled(found: Decision) -> Any:
    zen = require("zen", "limen[rules]")
    with loading("zen"):
        decision = zen.ZenEngine().create_decision(found.text)
        decision.validate()
    return decision


def _input(name: str, said: Said) -> TensorSpec:
    can_miss = said.type != TRUTH and not said.is_required
    examples = (EXAMPLES[said.use],) if said.use else ()
    return TensorSpec(name, said.type, (-1,), categories=said.choices, nullable=can_miss, examples=examples)


def _output(name: str, given: Given) -> TensorSpec:
    # A truth value that may be missing needs a type that can say so.
    kind = ANY if given.type == TRUTH and not given.is_certain else given.type
    return TensorSpec(name, kind, (-1,), nullable=kind != TRUTH)


def _specs(types: Mapping[str, str]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(name, type_name, (-1,)) for name, type_name in types.items())


def _signature(found: Decision, manifest: Manifest) -> Signature:
    """Return the names that the contract is bound to, in its types.

    Raises:
        InvalidPackage: a field has a shape or holds bytes, or the decision reads what the contract does not have.
    """
    contract, bind = manifest.contract, manifest.bind
    for field in (*contract.inputs, *contract.outputs):
        if not field.is_scalar or field.element.kind is Kind.BINARY:
            raise InvalidPackage(
                f"artifact: a decision takes and gives single values; {field.name} has a shape or holds bytes. "
                "Take the type json for a list"
            )
    renamed = {field: tensor for tensor, field in bind.inputs.items() if isinstance(field, str)}
    inputs = {renamed.get(f.name, f.name): f.type for f in contract.inputs}
    sources = {f: bind.outputs[f.name].tensor if f.name in bind.outputs else f.name for f in contract.outputs}
    outputs = {tensor: field.type for field, tensor in sources.items()}
    about = found.about
    if about.is_complete:
        # Names that no node gives are left to the binding, which says which ones there are.
        known = {name: outputs.get(name, given.type) for name, given in about.outputs.items()}
        outputs = {name: kind for name, kind in outputs.items() if _is_part(name, about.outputs)} | known
    missing = [name for name in about.inputs if not _is_part(name, inputs) and EVERYTHING not in (name, *inputs)]
    if missing:
        raise InvalidPackage(
            f"inputs: the decision also reads {listed(missing)}; add an input for each, nullable if callers may leave it out, "
            "and bind one whose name has dots (bind.inputs)"
        )
    return Signature(_specs(inputs), _specs(outputs))


def _is_part(name: str, others: Iterable[str]) -> bool:
    """Return whether a dotted name is one of the others, a member of one, or has one as a member."""
    return any(f"{a}.".startswith(f"{b}.") or f"{b}.".startswith(f"{a}.") for a in [name] for b in others)


def _values(array: Array, *, is_json: bool) -> list[Any]:
    """Return a column as JSON values: what is missing is None, and a whole number is one whatever its type."""
    values = array.tolist()
    if is_json:
        return [None if value is None else json_values.from_text(value) for value in values]
    if array.dtype.kind != "f":
        return list(values)
    return [None if value != value else int(value) if is_whole(value) else value for value in values]  # noqa: PLR0124 - NaN


def _get(result: Any, path: list[str]) -> Any:
    for part in path:
        result = result.get(part) if isinstance(result, dict) else None
    return result


def _array(values: list[Any], element: ElementType, name: str) -> Array:
    """Return one output's values as an array.

    Raises:
        InvalidOutput: a value is missing or of another kind than the contract's.
    """
    if element.name == "json":
        texts = np.empty(len(values), object)
        texts[:] = [None if value is None else json_values.to_text(value) for value in values]
        return texts
    fitting = _FITTING[element.kind]
    for i, value in enumerate(values):
        if value is None and element.kind in (Kind.FLOAT, Kind.TEXT):
            continue
        if isinstance(value, float) and element.kind is Kind.INT and value.is_integer():
            values[i] = int(value)
        elif not isinstance(value, fitting) or (isinstance(value, bool) and element.kind is not Kind.BOOL):
            raise InvalidOutput(f"the decision gives no {element.name} for {name}")
    if element.kind is Kind.FLOAT:
        return np.array([np.nan if value is None else value for value in values], element.dtype)
    try:
        return np.array(values, element.dtype)
    except OverflowError as exc:
        raise InvalidOutput(f"the decision gives a number for {name} that is no {element.name}") from exc
