"""Decision tables: JDM files, evaluated row by row by the ZEN engine.

A decision is data: tables, expressions and switches; nodes that run code or load files are refused (`jdm_file`). It has no types of
its own, so the contract gives them: an input or output is bound by the dotted name that the decision uses (`customer.age`), and only
one value a row each. A missing value is `null` to the decision. What a decision leaves out is missing in the answer, and an error
unless that output is nullable text or a float. Called through `limen.runtime.backends`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np

from limen.contracts.errors import InvalidOutput, InvalidPackage, ModelFailed
from limen.contracts.inference import Parameter
from limen.contracts.tensors import BY_NAME, Array, ElementType, Kind, TensorSpec
from limen.packaging.manifest import Manifest
from limen.packaging.sniff import ensure_format
from limen.runtime.backends.artifact import OneAnswer, artifact_file, failed, loading, require
from limen.runtime.backends.jdm_file import Decision, read_decision
from limen.runtime.binding import wanted_tensors
from limen.runtime.predictor import Signature

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

    def load(self, path: Path, manifest: Manifest) -> RulesModel:
        """Load the decision of the package folder `path`."""
        found = read_decision(artifact_file(path, manifest, self.formats).read_bytes())
        return RulesModel(_compiled(found), _signature(found, manifest), wanted_tensors(manifest))

    def describe(self, artifact: Path, sample: Mapping[str, Array] | None = None) -> Signature:
        """Return what tables and expressions name, with the types their cells speak of."""
        ensure_format(artifact, self.formats)
        found = read_decision(artifact.read_bytes())
        _compiled(found)
        return Signature(_specs(found.inputs), _specs(found.outputs))


class RulesModel(OneAnswer):
    """One decision. One call at a time."""

    def __init__(self, decision: Any, signature: Signature, wanted: Sequence[str]) -> None:
        self.signature = signature
        self._evaluate = decision.evaluate
        self._inputs = [t.name for t in signature.inputs]
        self._paths = [name.split(".") for name in self._inputs]
        types = {t.name: BY_NAME[t.type] for t in signature.outputs}
        self._outputs = [(name, name.split("."), types[name]) for name in wanted if name in types]

    def predict(self, inputs: dict[str, Array], parameters: Mapping[str, Parameter]) -> dict[str, Array]:
        """Evaluate the decision once for each row."""
        try:
            rows = zip(*(_values(inputs[name]) for name in self._inputs), strict=True)
            results = [self._evaluate(_nested(self._paths, row))["result"] for row in rows]
        except Exception as exc:
            raise failed("zen", exc) from exc
        if not all(isinstance(result, dict) for result in results):
            raise ModelFailed("The decision must give one result for each row, not a list of them.")
        return {
            name: _array([_get(result, path) for result in results], element, name)
            for name, path, element in self._outputs
        }


def _nested(paths: Sequence[Sequence[str]], row: Sequence[Any]) -> dict[str, Any]:
    """Return one row's values as the decision sees them: `customer.age` is `age` in `customer`."""
    context: dict[str, Any] = {}
    for path, value in zip(paths, row, strict=True):
        place = context
        for part in path[:-1]:
            place = place.setdefault(part, {})
        place[path[-1]] = value
    return context


def _compiled(found: Decision) -> Any:
    zen = require("zen", "limen[rules]")
    with loading("zen"):
        decision = zen.ZenEngine().create_decision(found.text)
        decision.validate()
    return decision


def _specs(types: Mapping[str, str]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(name, type_name, (-1,)) for name, type_name in types.items())


def _signature(found: Decision, manifest: Manifest) -> Signature:
    """Return the names that the contract is bound to, in its types.

    Raises:
        InvalidPackage: a field has a shape or holds bytes.
    """
    contract, bind = manifest.contract, manifest.bind
    for field in (*contract.inputs, *contract.outputs):
        if not field.is_scalar or field.element.kind is Kind.BINARY:
            raise InvalidPackage(
                f"artifact: a decision takes and gives single values; {field.name} has a shape or holds bytes"
            )
    renamed = {field: tensor for tensor, field in bind.inputs.items() if isinstance(field, str)}
    inputs = {renamed.get(f.name, f.name): f.type for f in contract.inputs}
    sources = {f: bind.outputs[f.name].tensor if f.name in bind.outputs else f.name for f in contract.outputs}
    outputs = {tensor: field.type for field, tensor in sources.items()}
    if found.is_complete:
        # Names that no node gives are left to the binding, which says which ones there are.
        outputs = {name: outputs.get(name, type_name) for name, type_name in found.outputs.items()}
    return Signature(_specs(inputs), _specs(outputs))


def _values(array: Array) -> list[Any]:
    """Return a column as JSON values: what is missing is None."""
    values = array.tolist()
    return [None if value != value else value for value in values] if array.dtype.kind == "f" else values  # noqa: PLR0124 - NaN


def _get(result: Any, path: list[str]) -> Any:
    for part in path:
        result = result.get(part) if isinstance(result, dict) else None
    return result


def _array(values: list[Any], element: ElementType, name: str) -> Array:
    """Return one output's values as an array.

    Raises:
        InvalidOutput: a value is missing or of another kind than the contract's.
    """
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
