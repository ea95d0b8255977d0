"""LightGBM boosters from their own text files, on one thread.

Inputs: `X` [-1, features] float64, NaN is a missing value; categorical features are their codes. Outputs: `prediction` [-1], or
[-1, k] for several classes: what the objective gives (probabilities, values). The file is checked by `lightgbm_file` before
LightGBM sees it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from limen.contracts.inference import Parameter
from limen.contracts.tensors import Array, TensorSpec
from limen.packaging.manifest import Manifest
from limen.packaging.sniff import ensure_format
from limen.runtime.backends.artifact import OneAnswer, artifact_file, failed, loading, require
from limen.runtime.backends.lightgbm_file import read_model
from limen.runtime.predictor import Signature


class LightgbmBackend:
    """Loads text files written by `Booster.save_model`."""

    name: ClassVar[str] = "lightgbm"
    formats: ClassVar[tuple[str, ...]] = ("lightgbm",)

    def load(self, path: Path, manifest: Manifest) -> LightgbmModel:
        """Load the booster of the package folder `path`."""
        return _open(artifact_file(path, manifest, self.formats))

    def describe(self, artifact: Path, sample: Mapping[str, Array] | None = None) -> Signature:
        """Read the booster's features and answer."""
        ensure_format(artifact, self.formats)
        return _open(artifact).signature


class LightgbmModel(OneAnswer):
    """One booster."""

    def __init__(self, booster: Any) -> None:
        self._predict = booster.predict
        self._width = width = int(booster.num_feature())
        answer = self._run(np.zeros((1, width)))
        names = tuple(booster.feature_name())
        # Column_0, Column_1, …: names LightGBM made up.
        columns = () if names == tuple(f"Column_{i}" for i in range(width)) else names
        self.signature = Signature(
            (TensorSpec("X", "float64", (-1, width), columns),),
            (TensorSpec("prediction", "float64", (-1, *answer.shape[1:])),),
        )

    def predict(self, inputs: dict[str, Array], parameters: Mapping[str, Parameter]) -> dict[str, Array]:
        """Predict on the rows of `X`."""
        try:
            rows = inputs["X"]
            # LightGBM checks the width as well, and prints what it finds to the process's own output.
            if rows.ndim != 2 or rows.shape[1] != self._width:
                raise ValueError("X has another width than the model")
            return {"prediction": self._run(rows)}
        except Exception as exc:
            raise failed("lightgbm", exc) from exc

    def _run(self, rows: Array) -> Array:
        return np.asarray(self._predict(rows, num_threads=1))


def _open(file: Path) -> LightgbmModel:
    lightgbm = require("lightgbm", "limen[lightgbm]")
    text = read_model(file)
    with loading("lightgbm"):
        return LightgbmModel(lightgbm.Booster(model_str=text))
