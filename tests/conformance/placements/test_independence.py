"""Models whose rows influence each other, under load in every placement: each caller gets the answer its own rows have alone."""

import asyncio
from textwrap import dedent

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper, save

from limen.contracts.inference import Deadline, InferenceRequest, InferenceResponse
from limen.packaging.archive.package import open_package
from limen.runtime.placement.inline import InlinePlacement
from limen.runtime.placement.process.own import OwnReplicas
from limen.runtime.versions.manager import VersionManager

PLACEMENTS = {"inline": InlinePlacement, "process": OwnReplicas}
CALLERS = 60


@pytest.fixture(params=PLACEMENTS)
async def manager(request):
    manager = VersionManager(PLACEMENTS[request.param](trust_code=True))
    yield manager
    await manager.close()


async def answers(
    manager: VersionManager, folder, requests: list[dict[str, np.ndarray]]
) -> list[dict[str, np.ndarray]]:
    """Serve a package as it is, without a check before, and ask everything at once."""
    manager.set_aspired("m", {"1": open_package(folder, folder.parent / "cache")})
    await manager.settle()
    with manager.acquire("m") as handle:
        made = [InferenceRequest("m", inputs, "1", rows=len(next(iter(inputs.values())))) for inputs in requests]
        found = await asyncio.gather(*(handle.predictor.predict(r, Deadline.after(60)) for r in made))
        assert not handle.predictor.merges
    assert all(isinstance(outcome, InferenceResponse) for outcome in found)
    return [outcome.outputs for outcome in found if isinstance(outcome, InferenceResponse)]


def write_dynamic(folder, outputs: str) -> None:
    """Write a linear classifier that is quantised with the scale of the whole run."""
    weights = np.array([[3, -2, 1], [-1, 4, 2], [2, 1, -3], [1, -1, 2]], np.int8)
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "scale", "zero"], name="quantise"),
        helper.make_node("MatMulInteger", ["q", "w", "zero"], ["whole"]),
        helper.make_node("Cast", ["whole"], ["large"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["large", "scale"], ["y"]),
        helper.make_node("ArgMax", ["y"], ["label"], axis=1, keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3]),
            helper.make_tensor_value_info("label", TensorProto.INT64, ["N"]),
        ],
        [numpy_helper.from_array(weights, "w")],
    )
    folder.mkdir()
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), folder / "model.onnx")
    manifest = f"""\
    name: m
    backend: onnx
    artifact: model.onnx
    inputs: [{{name: x, type: float32, shape: [4]}}]
    outputs: [{outputs}]
    """
    (folder / "model.yaml").write_text(dedent(manifest))


@pytest.mark.parametrize(
    ("outputs", "name"), [("{name: y, type: float32, shape: [3]}", "y"), ("{name: label, type: int64}", "label")]
)
async def test_a_dynamically_quantised_graph_answers_each_caller_as_if_alone(tmp_path, manager, outputs, name):
    """Of the label alone a test with rows might see nothing: the graph itself says what it does."""
    write_dynamic(tmp_path / "m", outputs)
    mine = {"x": np.array([[0.3, -0.2, 0.1, 0.25]], np.float32)}
    loud = {"x": np.array([[900.0, 500.0, -700.0, 800.0]], np.float32)}
    found = await answers(manager, tmp_path / "m", [mine, loud] * (CALLERS // 2))
    alone = found[0][name].tolist()
    assert {tuple(np.ravel(o[name])) for o in found[::2]} == {tuple(np.ravel(alone))}


FORECASTER = """
import numpy as np

class Forecaster:
    def predict(self, inputs):
        steps = int(inputs["horizon"].max())
        return {"forecast": np.repeat(inputs["history"][:, -1:], steps, axis=1)}
"""


async def test_a_class_that_looks_at_the_whole_run_answers_each_caller_as_if_alone(tmp_path, manager):
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "model.py").write_text(FORECASTER)
    manifest = """\
    name: m
    backend: python
    artifact: model.py:Forecaster
    inputs:
      - {name: history, type: float64, shape: [-1]}
      - {name: horizon, type: int32, minimum: 1, maximum: 36}
    outputs: [{name: forecast, type: float64, shape: [-1]}]
    """
    (folder / "model.yaml").write_text(dedent(manifest))
    horizons = [1 + i % 12 for i in range(CALLERS)]
    requests = [{"history": np.ones((1, 3)), "horizon": np.array([h], np.int32)} for h in horizons]
    found = await answers(manager, folder, requests)
    assert [o["forecast"].shape[1] for o in found] == horizons
