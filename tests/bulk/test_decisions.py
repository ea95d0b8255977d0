"""Decisions (JDM): each as `limen init` packages it, without an edit, compared with what the graph itself says it must answer.

Graphs of our own say one construct each. A folder of further ones, each with its own `tests` of inputs and outputs, is named by
`LIMEN_DECISIONS`; the public ones of the ZEN engine are in `test-data/graphs` of its repository.
"""

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zen

from limen.authoring.scaffolding import create_package
from limen.contracts.validation.records import RecordCodec
from limen.contracts.validation.tensors import ContractCheck
from limen.packaging.archive.package import open_package
from limen.packaging.manifest.values import Manifest
from limen.runtime.execution import load, run
from tests.bulk.decision_graphs import GRAPHS
from tests.bulk.verdicts import Table

FOLDER = os.environ.get("LIMEN_DECISIONS", "")
CLOCK_S = 10.0
"""Answers that hold the time of day may differ by so much."""
Json = Any


def test_decisions_of_every_construct_are_right_or_refused_by_name(tmp_path: Path):
    table = Table("decisions of our own")
    for name, graph in GRAPHS.items():
        with table.judge(name):
            judge(graph, tmp_path / name)
    table.conclude(right=len(GRAPHS) - 2)


@pytest.mark.skipif(not FOLDER, reason="LIMEN_DECISIONS names no folder of graphs with tests")
def test_decisions_with_tests_of_their_own_are_right_or_refused_by_name(tmp_path: Path):
    table = Table("decisions with tests")
    files = sorted(Path(FOLDER).glob("*.json"))
    for file in files:
        with table.judge(file.stem):
            judge(json.loads(file.read_bytes()), tmp_path / file.stem)
    table.conclude(right=math.floor(len(files) * 0.93))


def judge(graph: dict[str, Json], folder: Path) -> None:
    """Package a graph, ask it everything its tests ask, and compare."""
    source = folder.with_suffix(".json")
    source.write_text(json.dumps(graph))
    create_package("decision", source, folder, None)
    package = open_package(folder, folder.parent / "home")
    manifest = package.manifest
    check, records = ContractCheck(manifest.contract), RecordCodec(manifest.contract)
    model, binding = load(package.root, manifest)
    engine = zen.ZenEngine().create_decision(source.read_text())
    for test in graph["tests"]:
        inputs = records.decode(json.dumps({"instances": [record(manifest, test["input"])]}).encode()).inputs
        rows = check.check_inputs(inputs)
        answer = records.encode(check.check_outputs(run(model, binding, inputs, {}, rows, 1024), rows))[0]
        expected = test["output"]
        direct = engine.evaluate(test["input"])["result"]
        if not same(direct, expected, 0.0):
            expected = direct  # it depends on the time of day
        compare(manifest, answer, expected, test["input"])


def record(manifest: Manifest, given: Json) -> dict[str, Json]:
    """Return a test's input as a record of the contract."""
    tensors = {field: tensor for tensor, field in manifest.bind.inputs.items()}
    found = {f.name: member(given, tensors.get(f.name, f.name)) for f in manifest.contract.inputs}
    return {name: value for name, value in found.items() if value is not None}


def compare(manifest: Manifest, answer: dict[str, Json], expected: Json, given: Json) -> None:
    """Assert that every output is what was expected, and that nothing expected is missing from the contract."""
    bound = manifest.bind.outputs
    paths = {f.name: bound[f.name].tensor if f.name in bound else f.name for f in manifest.contract.outputs}
    for name, path in paths.items():
        wanted = expected if path == "$result" else member(expected, path)
        assert same(answer[name], wanted, CLOCK_S), f"{name}: {answer[name]!r}, expected {wanted!r}"
    if "$result" not in paths.values():
        for path, value in leaves(expected):
            is_known = any(f"{path}.".startswith(f"{known}.") for known in paths.values())
            # What was only passed on is no output.
            assert is_known or same(member(given, path), value, 0.0), f"no output holds {path}"


def member(value: Json, path: str) -> Json:
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def leaves(value: Json, path: str = "") -> Iterator[tuple[str, Json]]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from leaves(item, f"{path}.{key}" if path else key)
    elif value is not None and value != {}:
        yield path, value


def same(got: Json, wanted: Json, clock_s: float) -> bool:
    """Return whether two JSON values agree; what is missing is null, and seconds since 1970 may go on."""
    if isinstance(got, dict) and isinstance(wanted, dict):
        return all(same(got.get(key), wanted.get(key), clock_s) for key in {*got, *wanted})
    if isinstance(got, list) and isinstance(wanted, list):
        return len(got) == len(wanted) and all(same(a, b, clock_s) for a, b in zip(got, wanted, strict=True))
    if isinstance(got, bool) or isinstance(wanted, bool):
        return got is wanted
    if isinstance(got, (int, float)) and isinstance(wanted, (int, float)):
        return math.isclose(got, wanted, rel_tol=1e-9) or (wanted > 1e9 and abs(got - wanted) <= clock_s)
    return bool(got == wanted)
