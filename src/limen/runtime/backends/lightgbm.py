"""LightGBM boosters from their native text files, on one thread.

Inputs: `X` [-1, features] float64, or one tensor a feature when the file keeps the categories of a data frame: text (or numbers, or
booleans) for those, float64 for the others. NaN is a missing value; LightGBM takes a category that it was not trained on for a missing
one. Features that were categories by number only are their codes. Outputs: `prediction` [-1], or [-1, k] for several classes: what
the objective gives (probabilities, values); a classifier has `probabilities` [-1, k] too. The file is checked by `lightgbm_file`
before LightGBM sees it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Final

import numpy as np

from limen.contracts.tensors import BY_NAME, Array, Kind, TensorSpec, element_type_of
from limen.packaging.formats.sniff import ensure_format
from limen.packaging.manifest.values import Manifest
from limen.runtime.backends.artifact import artifact_file, loading, require
from limen.runtime.backends.boosters import BoosterModel
from limen.runtime.backends.categories import Table
from limen.runtime.backends.files.lightgbm import TextModel, read_model
from limen.runtime.backends.files.lightgbm_categories import assign
from limen.runtime.binding.binding import field_types, wanted_tensors
from limen.runtime.predictor import Signature

_BINARY: Final = ("binary", "cross_entropy")
"""Objectives that give the probability of the second class."""


class LightgbmBackend:
    """Loads text files written by `Booster.save_model`."""

    name: ClassVar[str] = "lightgbm"
    formats: ClassVar[tuple[str, ...]] = ("lightgbm",)

    def prepare(self) -> None:
        """Import LightGBM."""
        require("lightgbm", "limen[lightgbm]")

    def load(self, path: Path, manifest: Manifest) -> BoosterModel:
        """Load the booster of the package folder `path`."""
        return _open(artifact_file(path, manifest, self.formats), field_types(manifest), wanted_tensors(manifest))

    def describe(self, artifact: Path, sample: Mapping[str, Array] | None = None) -> Signature:
        """Read the booster's features and answer; a sample shows which columns are text."""
        ensure_format(artifact, self.formats)
        found = {name: element_type_of(array.dtype) for name, array in (sample or {}).items()}
        return _open(artifact, {name: element.name for name, element in found.items() if element}, ()).signature


def table_of(model: TextModel, types: Mapping[str, str]) -> Table | None:
    """Return what makes the matrix of single features; None for a model that keeps no categories.

    Args:
        model: the file.
        types: what is known of the features from elsewhere, by name.

    Raises:
        InvalidPackage: the categories are of no use.
    """
    if not model.categories:
        return None
    is_text = {name: BY_NAME[type_name].kind is Kind.TEXT for name, type_name in types.items()}
    categories = assign(model.features, model.categories, is_text)
    return Table([feature.name for feature in model.features], categories, "float64", types)


def _open(file: Path, types: Mapping[str, str], wanted: Sequence[str]) -> BoosterModel:
    lightgbm = require("lightgbm", "limen[lightgbm]")
    found = read_model(file)
    table = table_of(found, types)
    with loading("lightgbm"):
        booster = lightgbm.Booster(model_str=found.trees)
        width, names = int(booster.num_feature()), tuple(booster.feature_name())
        # Column_0, Column_1, …: names LightGBM made up.
        columns = () if names == tuple(f"Column_{i}" for i in range(width)) else names
        return BoosterModel(
            "lightgbm",
            lambda rows: np.asarray(booster.predict(rows, num_threads=1)),
            TensorSpec("X", "float64", (-1, width), columns, nullable=True),
            table,
            is_binary=found.objective in _BINARY,
            wanted=wanted,
        )
