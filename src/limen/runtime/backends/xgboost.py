"""XGBoost boosters from their own JSON or UBJ files, on one thread.

Inputs: `X` [-1, features] float32, NaN is a missing value; outputs: `prediction` [-1], or [-1, k] for several classes or targets:
what the objective gives (probabilities, values). The file is checked by `xgboost_file` before XGBoost sees it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from limen.contracts.errors import InvalidPackage
from limen.contracts.inference import Parameter
from limen.contracts.tensors import Array, TensorSpec
from limen.packaging.manifest import Manifest
from limen.packaging.sniff import ensure_format
from limen.runtime.backends.artifact import OneAnswer, artifact_file, failed, loading, require
from limen.runtime.backends.xgboost_file import check_file
from limen.runtime.predictor import Signature


class XgboostBackend:
    """Loads `.json` and `.ubj` files written by `Booster.save_model`."""

    name: ClassVar[str] = "xgboost"
    formats: ClassVar[tuple[str, ...]] = ("xgboost-json", "xgboost-ubj")

    def load(self, path: Path, manifest: Manifest) -> XgboostModel:
        """Load the booster of the package folder `path`."""
        return _open(artifact_file(path, manifest, self.formats))

    def describe(self, artifact: Path, sample: Mapping[str, Array] | None = None) -> Signature:
        """Read the booster's features and answer."""
        ensure_format(artifact, self.formats)
        return _open(artifact).signature


class XgboostModel(OneAnswer):
    """One booster. `inplace_predict` may be called from several threads at once."""

    def __init__(self, booster: Any) -> None:
        self._predict = booster.inplace_predict
        width = int(booster.num_features())
        answer = self._run(np.zeros((1, width), np.float32))
        columns = tuple(booster.feature_names or ())
        self.signature = Signature(
            (TensorSpec("X", "float32", (-1, width), columns),),
            (TensorSpec("prediction", "float32", (-1, *answer.shape[1:])),),
        )
        self._width = width

    def predict(self, inputs: dict[str, Array], parameters: Mapping[str, Parameter]) -> dict[str, Array]:
        """Predict on the rows of `X`."""
        try:
            rows = inputs["X"]
            # XGBoost checks the width only together with names and types, which costs more than the prediction.
            if rows.ndim != 2 or rows.shape[1] != self._width:
                raise ValueError("X has another width than the model")
            return {"prediction": self._run(rows)}
        except Exception as exc:
            raise failed("xgboost", exc) from exc

    def _run(self, rows: Array) -> Array:
        answer: Array = self._predict(rows, missing=math.nan, validate_features=False)
        return answer


def write_best_part(source: Path, target: Path) -> None:
    """Write a model's trees up to the best round of early stopping: what XGBoost's scikit-learn classes answer with.

    Raises:
        InvalidPackage: the file cannot be loaded, or knows of no best round.
    """
    xgboost = require("xgboost", "limen[xgboost]")
    check_file(source)
    with loading("xgboost"), xgboost.config_context(verbosity=0):
        best_part(xgboost.Booster(model_file=str(source))).save_model(target)


def best_part(booster: Any) -> Any:
    """Return a booster's trees up to the best round of early stopping; all of them when there was none."""
    best = booster.attr("best_iteration")
    return booster if best is None else booster[: int(best) + 1]


def _open(file: Path) -> XgboostModel:
    xgboost = require("xgboost", "limen[xgboost]")
    check_file(file)
    with loading("xgboost"), xgboost.config_context(verbosity=0):
        booster = xgboost.Booster(model_file=str(file))
        if "gblinear" in booster.save_config():
            raise InvalidPackage("artifact: linear boosters (gblinear) are not served: export the model to ONNX")
        booster.set_param({"nthread": 1})
        return XgboostModel(booster)
