"""Every operator of ONNX as a model: packaged, loaded and asked as callers do, and compared with ONNX Runtime asked directly.

The models are those with which the `onnx` package tests backends. Most have fixed shapes; where all inputs have equally many rows, the
first axis is set free, so that the rows of the test's own data become rows of different callers. Each row is asked alone, all of them in one
request, and all at once by as many callers. An answer must be what ONNX Runtime gives to the caller's own rows, or an error.
"""

from __future__ import annotations

import asyncio
import json
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from limen.authoring.scaffolding import create_package
from limen.contracts.contract import Field
from limen.contracts.errors import InvalidPackage, LimenError
from limen.contracts.inference import NO_DEADLINE, InferenceRequest, InferenceResponse
from limen.packaging.archive.package import open_package
from limen.packaging.manifest.values import Manifest
from limen.runtime.placement.inline import InlinePlacement
from limen.runtime.versions.lifecycle import State
from limen.runtime.versions.manager import VersionManager
from tests.bulk.verdicts import Table, same

ROWS = 8
"""Rows of a model that are asked."""
Arrays = dict[str, np.ndarray]


class Case:
    """One model with inputs, and ONNX Runtime beside it."""

    def __init__(self, model: onnx.ModelProto, inputs: Arrays, rows: int, path: Path) -> None:
        self.path = path
        onnx.save(model, path)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.names = [o.name for o in self.session.get_outputs()]
        self.inputs = inputs
        self.rows = rows
        """0 when the inputs have no rows in common."""

    def direct(self, inputs: Arrays) -> Mapping[str, Any] | None:
        """Return what ONNX Runtime answers; None when it fails."""
        try:
            return dict(zip(self.names, self.session.run(self.names, inputs), strict=True))
        except Exception:  # noqa: BLE001 - whatever it raises, it has no answer
            return None

    def part(self, start: int, stop: int) -> Arrays:
        """Return some rows of the inputs."""
        return {name: array[start:stop] for name, array in self.inputs.items()}


def common_rows(inputs: Arrays) -> int:
    """Return how many rows the inputs have in common; 0 when they have none."""
    sizes = {array.shape[:1] for array in inputs.values()}
    (rows,) = sizes.pop() or (0,) if len(sizes) == 1 else (0,)
    return rows


def with_free_rows(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with a free first axis."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    for value in (*made.graph.input, *made.graph.output):
        dimensions = value.type.tensor_type.shape.dim
        if len(dimensions):
            dimensions[0].dim_param = "N"
    return made


def with_gaps(inputs: Arrays) -> Arrays:
    """Return more rows: those with numbers missing, and those a hundred times as large."""
    more = {}
    for name, array in inputs.items():
        rows = [array]
        if array.dtype.kind == "f":
            gaps = array.copy()
            gaps.reshape(len(array), -1)[:, :1] = np.nan
            with np.errstate(all="ignore"):
                rows += [gaps, (array * 100).astype(array.dtype)]
        else:
            rows += [array, array]
        more[name] = np.concatenate(rows)[: 3 * ROWS]
    return more


def more_values(inputs: Arrays) -> Iterator[Arrays]:
    """Yield the inputs with a number missing, and a hundred times as large."""
    floats = {name: array for name, array in inputs.items() if array.dtype.kind == "f" and array.size}
    if floats:
        gaps = {name: array.copy() for name, array in floats.items()}
        for array in gaps.values():
            array.flat[0] = np.nan
        yield inputs | gaps
        with np.errstate(all="ignore"):
            yield inputs | {name: np.asarray(array * 100, array.dtype) for name, array in floats.items()}


def field_of(manifest: Manifest, tensor: str) -> Field:
    """Return the input field that feeds a tensor."""
    bound = manifest.bind.inputs.get(tensor, tensor)
    assert isinstance(bound, str)
    found = manifest.contract.input(bound)
    assert found is not None, tensor
    return found


def fed(manifest: Manifest, inputs: Arrays) -> Arrays:
    """Return the graph's inputs as the contract takes them; those of a model without a batch axis are a row of their own."""
    if not manifest.contract.batching.is_batched:
        return {field_of(manifest, tensor).name: array[np.newaxis] for tensor, array in inputs.items()}
    found = {}
    for tensor, array in inputs.items():
        field = field_of(manifest, tensor)
        found[field.name] = array.reshape(-1) if field.is_scalar and array.size == len(array) else array
    return found


def wanted(manifest: Manifest, direct: Mapping[str, Any], rows: int) -> Arrays | None:
    """Return the direct answer by the contract's fields; None when it has not one row for each that was asked."""
    found = {}
    for field in manifest.contract.outputs:
        source = manifest.bind.outputs.get(field.name)
        array = direct[field.name if source is None else source.tensor]
        if not isinstance(array, np.ndarray):
            return None
        if not manifest.contract.batching.is_batched:
            found[field.name] = array[np.newaxis]
            continue
        if array.ndim == 0 and rows == 1:
            array = array.reshape(1)
        if array.ndim == 0 or len(array) != rows:
            return None
        found[field.name] = array.reshape(rows) if field.is_scalar and array.size == rows else array
    return found


def as_a_user_would(folder: Path, case: Case) -> None:
    """Complete the guessed manifest: numbers may be infinite or missing, and the data's first row is an example."""
    file = folder / "model.yaml"
    lines = []
    for line in file.read_text().splitlines():
        is_float = line.startswith("  - {name") and "type: float" in line
        lines.append(line.replace("{name", "{finite: false, name", 1) if is_float else line)
    file.write_text("\n".join(lines) + "\n")
    if not case.rows:
        return
    manifest = open_package(folder, folder.parent / "home").manifest
    first = {name: array[0] for name, array in fed(manifest, case.part(0, 1)).items()}
    if any(array.dtype.kind not in "biufO" or not _is_plain(array) for array in map(np.asarray, first.values())):
        return
    example = {"inputs": {name: np.asarray(array).tolist() for name, array in first.items()}}
    file.write_text(file.read_text() + f"\nexamples: {json.dumps([example])}\n")


def _is_plain(array: np.ndarray) -> bool:
    return array.dtype == object or bool(np.isfinite(array.astype(np.float64)).all())


async def served_rightly(case: Case, folder: Path) -> None:
    """Take a case through Limen; raise `LimenError` when it is refused and `AssertionError` when an answer is wrong."""
    create_package("m", case.path, folder, None)
    as_a_user_would(folder, case)
    package = open_package(folder, folder.parent / "home")
    manifest = package.manifest
    manager = VersionManager(InlinePlacement())
    manager.set_aspired("m", {"1": package})
    await manager.settle()
    (status,) = manager.statuses("m")
    if status.state is not State.READY:
        raise InvalidPackage(status.reason)
    try:
        with manager.acquire("m") as handle:
            await _compare(case, manifest, handle)
    finally:
        await manager.close()


def expected(case: Case, manifest: Manifest, inputs: Arrays, rows: int) -> Arrays | None:
    """Return what ONNX Runtime answers to rows, asked one by one where the contract says so; None when it has no such answer."""
    if rows > 1 and manifest.contract.batching.max_rows == 1:
        ones = [{name: array[i : i + 1] for name, array in inputs.items()} for i in range(rows)]
        found = [expected(case, manifest, one, 1) for one in ones]
        known = [one for one in found if one is not None]
        return {name: np.concatenate([k[name] for k in known]) for name in known[0]} if len(known) == rows else None
    direct = case.direct(inputs)
    return None if direct is None else wanted(manifest, direct, rows)


async def _compare(case: Case, manifest: Manifest, handle: Any) -> None:
    async def ask(inputs: Arrays, rows: int) -> Arrays | LimenError:
        request = InferenceRequest("m", fed(manifest, inputs), "1", rows=rows)
        try:
            handle.check.check_inputs(request.inputs)
            outcome = await handle.predictor.predict(request, NO_DEADLINE)
            assert isinstance(outcome, (InferenceResponse, LimenError))
            if isinstance(outcome, LimenError):
                return outcome
            return handle.check.check_outputs(outcome.outputs, rows)
        except LimenError as exc:
            return exc

    def judged(answer: Arrays | LimenError, inputs: Arrays, rows: int) -> bool:
        want = expected(case, manifest, inputs, rows)
        if isinstance(answer, LimenError):
            return False
        assert want is not None, "answered what ONNX Runtime has no answer of one row each for"
        same(answer, want, relative=1e-3, absolute=1e-4)
        return True

    if manifest.contract.batching.is_batched:
        parts = [case.part(i, i + 1) for i in range(min(case.rows, 3 * ROWS))]
        whole = await ask(case.inputs, case.rows)
        is_whole = judged(whole, case.inputs, case.rows)
    else:
        parts, whole, is_whole = [case.inputs, *more_values(case.inputs)], None, False
    alone = [judged(await ask(part, 1), part, 1) for part in parts]
    together = await asyncio.gather(*(ask(part, 1) for part in parts))
    for was_answered, answer, part in zip(alone, together, parts, strict=True):
        assert judged(answer, part, 1) == was_answered, "answered alone and not together, or the other way round"
    if not any(alone) and not is_whole:
        raise whole if isinstance(whole, LimenError) else InvalidPackage("the model answered none of the rows asked")


def node_cases() -> Iterator[tuple[str, onnx.ModelProto, Arrays]]:
    """Yield the operator tests of the `onnx` package: a name, a model and its inputs."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = collect_testcases(None)
    for case in found:
        if case.model is None or not case.data_sets or "_expanded" in case.name:
            continue
        values = case.data_sets[0][0]
        names = [value.name for value in case.model.graph.input]
        if len(names) != len(values) or not names or not all(isinstance(v, np.ndarray) for v in values):
            yield case.name, case.model, {}
            continue
        yield case.name, case.model, dict(zip(names, values, strict=True))


def is_steady(case: Case) -> bool:
    """Return whether the model answers twice alike."""
    first, second = case.direct(case.inputs), case.direct(case.inputs)
    if first is None or second is None:
        return True
    try:
        for name, array in first.items():
            if isinstance(array, np.ndarray):
                np.testing.assert_array_equal(array, second[name])
    except AssertionError:
        return False
    return True


def layer_cases() -> Iterator[tuple[str, onnx.ModelProto, Arrays]]:
    """Yield the layers and small graphs that the `onnx` package keeps as files."""
    root = Path(onnx.__file__).parent / "backend" / "test" / "data"
    for file in sorted(root.glob("*/*/model.onnx")):
        tensors = sorted((file.parent / "test_data_set_0").glob("input_*.pb"), key=lambda f: int(f.stem.split("_")[1]))
        model = onnx.load(file)
        weights = {tensor.name for tensor in model.graph.initializer}
        names = [value.name for value in model.graph.input if value.name not in weights]
        try:
            values = [numpy_helper.to_array(onnx.load_tensor(str(tensor))) for tensor in tensors]
        except Exception:  # noqa: BLE001 - a sequence or a map, kept as another message
            values = []
        yield file.parent.name, model, dict(zip(names, values, strict=True)) if len(names) == len(values) else {}


def judge(table: Table, name: str, model: onnx.ModelProto, inputs: Arrays, folder: Path) -> None:
    """Put one case into the table, with free rows where it has rows."""
    folder.mkdir()
    rows = common_rows(inputs)
    more = with_gaps(inputs) if rows else inputs
    try:
        case = Case(with_free_rows(model) if rows else model, more, common_rows(more), folder / "given.onnx")
    except Exception:  # noqa: BLE001 - ONNX Runtime itself cannot load it
        return
    if inputs and not is_steady(case):
        return  # it answers at random
    with table.judge(name):
        asyncio.run(served_rightly(case, folder / "m"))


@pytest.mark.filterwarnings("ignore")
def test_operators_of_onnx_answer_as_onnx_runtime_does(tmp_path: Path) -> None:
    table = Table("ONNX operators")
    for number, (name, model, inputs) in enumerate(node_cases()):
        judge(table, name, model, inputs, tmp_path / str(number))
    assert len(table.rows) >= 1200
    table.conclude(right=850)


@pytest.mark.filterwarnings("ignore")
def test_layers_of_onnx_answer_as_onnx_runtime_does(tmp_path: Path) -> None:
    table = Table("ONNX layers")
    for number, (name, model, inputs) in enumerate(layer_cases()):
        judge(table, name, model, inputs, tmp_path / str(number))
    assert len(table.rows) >= 90
    table.conclude(right=80)
