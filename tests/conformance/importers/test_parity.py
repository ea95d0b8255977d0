"""A converted model is held against its original with all rows together, in another order, and row by row."""

import numpy as np
import onnxruntime

from limen.authoring.parity import Table, compare
from limen.packaging.archive.package import open_package
from tests.conformance.placements.test_independence import write_dynamic
from tests.services.packages import write_iris


def test_a_conversion_that_answers_as_the_original_only_in_one_run_differs(tmp_path):
    """Its scale is that of the run: asked as once, it agrees, and a caller alone would get another answer."""
    write_dynamic(tmp_path / "m", "{name: y, type: float32, shape: [3]}")
    rows = np.array([[0.3, -0.2, 0.1, 0.25], [900.0, 500.0, -700.0, 800.0]], np.float32)
    together = onnxruntime.InferenceSession(tmp_path / "m" / "model.onnx").run(["y"], {"x": rows})[0]
    manifest = open_package(tmp_path / "m", tmp_path / "home").manifest
    found = compare(tmp_path / "m", Table(manifest, {"x": rows}, {"y": together}, 2))
    assert found.largest_difference > 0.1
    assert [line.partition(".")[0] for line in found.problems] == ["row 1 alone"]


def test_a_conversion_whose_rows_leave_each_other_alone_agrees_in_every_order(tmp_path):
    folder = write_iris(tmp_path / "iris")
    rows = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
    direct = onnxruntime.InferenceSession(folder / "model.onnx").run(None, {"x": rows})[0]
    manifest = open_package(folder, tmp_path / "home").manifest
    assert compare(folder, Table(manifest, {"x": rows}, {"y": direct}, 40)).problems == ()
