"""Checks that a converted model answers like the original, through its own backend and contract.

Called by `authoring.importing`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from limen.contracts.contract import Field, Json
from limen.contracts.errors import InvalidPackage
from limen.contracts.tensors import Array, Kind
from limen.contracts.validation.comparison import differences
from limen.contracts.validation.records import as_rows
from limen.contracts.validation.tensors import ContractCheck
from limen.packaging.importers.draft import WHOLE
from limen.packaging.manifest.values import Manifest
from limen.runtime.execution import load, run

ALONE: Final = 16
"""About how many rows are asked by themselves as well."""
CLASS: str = "label"
"""The original's answer that an output with `argmax` or `threshold` stands for."""


class Table(msgspec.Struct, frozen=True):
    """Rows of input and the original's answers, by the fields of a contract."""

    manifest: Manifest
    inputs: dict[str, Array]
    outputs: dict[str, Array]
    rows: int


class Parity(msgspec.Struct, frozen=True):
    """How answers compare."""

    rows: int
    largest_difference: float
    """Between two numbers."""
    problems: tuple[str, ...]
    """One line for each difference beyond the contract's tolerance."""


def as_table(manifest: Manifest, rows: Mapping[str, Array], answers: Mapping[str, Array]) -> Table:
    """Return rows and answers of an original by the fields of the package's contract.

    Args:
        manifest: the package's.
        rows: columns by name in the order of the artifact's, or one array under `WHOLE`.
        answers: by the name of the artifact's tensor.

    Raises:
        InvalidPackage: the contract takes other fields, or none of the answers is among its outputs.
    """
    inputs = _inputs(manifest, rows)
    fields = {f.name: f for f in manifest.contract.inputs}
    if inputs.keys() != fields.keys():
        raise InvalidPackage("the converted model takes different inputs from the original")
    count = len(next(iter(inputs.values())))
    outputs = {}
    for field in manifest.contract.outputs:
        source = manifest.bind.outputs.get(field.name)
        tensor = field.name if source is None else source.tensor
        is_class = source is not None and (source.argmax or source.threshold is not None)
        if (answer := answers.get(CLASS if is_class else tensor)) is not None:
            outputs[field.name] = answer.reshape(count) if field.is_scalar and answer.size == count else answer
    if not outputs:
        raise InvalidPackage("the converted model gives different outputs from the original")
    return Table(manifest, {name: _typed(fields[name], array) for name, array in inputs.items()}, outputs, count)


def _inputs(manifest: Manifest, rows: Mapping[str, Array]) -> dict[str, Array]:
    whole = rows.get(WHOLE)
    columns = list(rows.values()) if whole is None else []
    bound = manifest.bind.inputs
    fields = manifest.contract.inputs
    for names in (names for names in bound.values() if isinstance(names, tuple)):
        values = list(whole.T) if whole is not None else columns
        return dict(zip(names, values, strict=False)) if len(names) == len(values) else {}
    if len(fields) == 1 and (whole is not None or not fields[0].is_scalar):
        return {fields[0].name: whole if whole is not None else np.column_stack(columns)}
    return {str(bound.get(name, name)): array for name, array in rows.items()}


def _typed(field: Field, array: Array) -> Array:
    return array if field.element.kind in (Kind.TEXT, Kind.BINARY) else array.astype(field.element.dtype)


def compare(root: Path, table: Table) -> Parity:
    """Load a package folder, ask it all rows of a table and compare its answers with the original's.

    The rows are asked together, in another order, and some of them alone: whoever else is in a run, the answer is the original's.

    Raises:
        InvalidPackage: it cannot be loaded. Other `LimenError`s: it cannot answer.
    """
    contract = table.manifest.contract
    check = ContractCheck(contract)
    model, binding = load(root, table.manifest)
    wanted = as_rows(table.outputs)
    problems: list[str] = []
    largest = 0.0
    try:
        for places, how in _ways(table.rows):
            inputs = {name: array[places] for name, array in table.inputs.items()}
            check.check_inputs(inputs)
            answers = run(model, binding, inputs, {}, len(places), contract.batching.max_rows)
            found = check.check_outputs(answers, len(places))
            largest = max(largest, *(_distance(table.outputs[n][places], found[n]) for n in table.outputs))
            for place, got in zip(places, as_rows(found), strict=True):
                problems += differences(wanted[place], got, contract.tolerance, f"row {place + 1}{how}")[:1]
            if problems:
                break
    finally:
        model.close()
    return Parity(table.rows, largest, tuple(problems))


def _ways(rows: int) -> Iterator[tuple[list[int], str]]:
    """Yield the places of rows that are asked in one run, and how a problem calls that."""
    straight = list(range(rows))
    yield straight, ""
    yield straight[::-1], " in another order"
    for place in straight[:: max(1, rows // ALONE)]:
        yield [place], " alone"


def _distance(want: Array, got: Array) -> float:
    if object in (want.dtype, got.dtype) or want.shape != got.shape or not want.size:
        return 0.0
    return float(np.nanmax(np.abs(want.astype(np.float64) - got.astype(np.float64))))


def example_rows(table: Table, count: int) -> list[dict[str, Json]]:
    """Return the first rows with the original's answers as golden examples."""
    inputs = as_rows({name: array[:count] for name, array in table.inputs.items()})
    outputs = as_rows({name: array[:count] for name, array in table.outputs.items()})
    return [
        {"name": f"answered by the original, row {i + 1}", "inputs": given, "outputs": answer}
        for i, (given, answer) in enumerate(zip(inputs, outputs, strict=True))
    ]
