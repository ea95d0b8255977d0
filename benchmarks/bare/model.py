"""The model of the bare handler, with the same session options as Limen's ONNX backend."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from benchmarks.fraud import INPUT, TENSOR

Floats = NDArray[np.float32]
Score = Callable[[Floats], Floats]


def open_model(file: Path) -> Score:
    """Return the function from a matrix of features to the probability of each row."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    run: Any = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"]).run

    def score(features: Floats) -> Floats:
        probabilities: Floats = run([TENSOR], {INPUT: features})[0][:, 1]
        return probabilities

    return score
