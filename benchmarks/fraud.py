"""The model all servers run: 30 numbers of a transaction to the probability of fraud, 100 boosted trees as ONNX.

Trained once on synthetic data and kept under `.limen/bench`; the folder is the package that Limen serves. Called by `__main__`.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

NAME = "fraud"
INPUT = "features"
OUTPUT = "probability"
TENSOR = "probabilities"
"""The graph's own output: one column a class."""
FEATURES = 30
MAX_ROWS = 256
_EDITION = "fraud-1"
"""Names the folder; to be changed with anything in this module that changes the model."""

_MANIFEST = f"""\
name: {NAME}
description: Probability that a transaction is fraudulent; the model of the benchmarks.
backend: onnx
artifact: model.onnx
inputs:
  - {{name: {INPUT}, type: float32, shape: [{FEATURES}]}}
outputs:
  - {{name: {OUTPUT}, type: float32, minimum: 0, maximum: 1}}
bind:
  outputs:
    {OUTPUT}: {{tensor: {TENSOR}, column: 1}}
"""


class Fraud(msgspec.Struct, frozen=True):
    """The package on disk, and rows with the right answers."""

    package: Path
    rows: list[list[float]]
    """256 rows; the values have four decimals, so that JSON bodies have a realistic size."""
    probabilities: list[float]
    """What the graph itself gives for them."""

    @property
    def model(self) -> Path:
        return self.package / "model.onnx"

    @property
    def unbatched(self) -> Path:
        """The same package with one row in a run, so that nothing leaves together."""
        folder = self.package.parent / "unbatched"
        if not folder.exists():
            shutil.copytree(self.package, folder)
            manifest = folder / "model.yaml"
            manifest.write_text(manifest.read_text() + "batching: {max_rows: 1}\n")
        return folder

    def matrix(self, rows: int) -> NDArray[np.float32]:
        """Return the first rows as one tensor."""
        return np.array(self.rows[:rows], np.float32)


def prepare(home: Path) -> Fraud:
    """Return the model, training it when `home` does not have it yet (a few seconds)."""
    folder = home / _EDITION
    if not folder.exists():
        staging = home / f".{_EDITION}"
        shutil.rmtree(staging, ignore_errors=True)
        (staging / NAME).mkdir(parents=True)
        _make(staging)
        staging.rename(folder)
    rows = json.loads((folder / "rows.json").read_bytes())
    return Fraud(folder / NAME, rows["rows"], rows["probabilities"])


def _make(folder: Path) -> None:
    import onnxruntime
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType
    from sklearn.datasets import make_classification
    from sklearn.ensemble import GradientBoostingClassifier

    table, label = make_classification(
        n_samples=6_000, n_features=FEATURES, n_informative=12, n_redundant=6, weights=[0.9], random_state=11
    )
    table = table.astype(np.float32)
    # Not the histogram kind, whose export does not work with protobuf 7.
    trees = GradientBoostingClassifier(
        n_estimators=100, max_depth=None, max_leaf_nodes=31, subsample=0.5, max_features=8, random_state=11
    )
    trees.fit(table[:-MAX_ROWS], label[:-MAX_ROWS])
    types = [(INPUT, FloatTensorType([None, FEATURES]))]
    graph = to_onnx(trees, initial_types=types, options={"zipmap": False}, target_opset=17).SerializeToString()
    rows = np.round(table[-MAX_ROWS:], 4)
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    given = session.run([TENSOR], {INPUT: rows})[0][:, 1]
    # A wrong export would make every later comparison meaningless.
    np.testing.assert_allclose(given, trees.predict_proba(rows)[:, 1], atol=1e-5)
    (folder / NAME / "model.onnx").write_bytes(graph)
    (folder / NAME / "model.yaml").write_text(_MANIFEST)
    answers = {"rows": [[round(float(v), 4) for v in row] for row in rows], "probabilities": given.tolist()}
    (folder / "rows.json").write_text(json.dumps(answers))
