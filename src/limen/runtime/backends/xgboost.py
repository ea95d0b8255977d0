"""XGBoost boosters from their native JSON or UBJ files, on one thread.

Inputs: `X` [-1, features] float32, or one tensor a feature when the file keeps the categories of a data frame: text or numbers for
those, float32 for the others. NaN is a missing value, and so is the number that the model was trained to take for one. XGBoost does not
accept categories it was not trained on, so the contract has to list them. Outputs: `prediction` [-1], or [-1, k] for several classes or
targets: what the objective gives (probabilities, values), with the trees up to the best round where XGBoost's scikit-learn classes
wrote the file after early stopping; a classifier has `probabilities` [-1, k] too. The file is checked by `xgboost_file` before XGBoost sees it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from limen.contracts.contract import Field
from limen.contracts.errors import Violation
from limen.contracts.strict.rules import listed
from limen.contracts.tensors import Array, TensorSpec
from limen.packaging.formats.sniff import ensure_format
from limen.packaging.manifest.values import Manifest
from limen.packaging.paths import invalid
from limen.runtime.backends.artifact import artifact_file, loading, require
from limen.runtime.backends.boosters import BoosterModel
from limen.runtime.backends.categories import Table
from limen.runtime.backends.files.xgboost import Facts, read_facts
from limen.runtime.binding.binding import field_types, fields_by_tensor, wanted_tensors
from limen.runtime.predictor import Signature


class XgboostBackend:
    """Loads `.json` and `.ubj` files written by `Booster.save_model`."""

    name: ClassVar[str] = "xgboost"
    formats: ClassVar[tuple[str, ...]] = ("xgboost-json", "xgboost-ubj")

    def prepare(self) -> None:
        """Import XGBoost."""
        require("xgboost", "limen[xgboost]")

    def load(self, path: Path, manifest: Manifest) -> BoosterModel:
        """Load the booster of the package folder `path`."""
        file = artifact_file(path, manifest, self.formats)
        model = _open(file, field_types(manifest), wanted_tensors(manifest))
        _check_enums(manifest, model.signature)
        return model

    def describe(self, artifact: Path, sample: Mapping[str, Array] | None = None) -> Signature:
        """Read the booster's features and answer."""
        ensure_format(artifact, self.formats)
        return _open(artifact, {}, ()).signature


def _check_enums(manifest: Manifest, signature: Signature) -> None:
    """Refuse a contract that would let values through that XGBoost has no category for.

    Raises:
        InvalidPackage: naming the fields.
    """
    fields = fields_by_tensor(manifest)
    places = {field.name: f"inputs[{i}].enum" for i, field in enumerate(manifest.contract.inputs)}
    mistakes = [
        Violation(places[field.name], f"must list categories of the model only: {listed(spec.categories)}")
        for spec in signature.inputs
        if spec.categories and (field := fields.get(spec.name)) is not None and not _is_within(field, spec.categories)
    ]
    if mistakes:
        raise invalid("XGBoost does not accept categories it was not trained on", mistakes)


def _is_within(field: Field, categories: tuple[Any, ...]) -> bool:
    return field.enum is not None and set(field.enum) <= set(categories)


def table_of(facts: Facts, names: Sequence[str], declared: Mapping[str, str]) -> Table | None:
    """Return what makes the matrix of single features; None for a model that keeps no categories.

    Args:
        facts: the file's.
        names: the features'; empty when the file has none.
        declared: the types the contract gives to features.

    Raises:
        InvalidPackage: the categories are of no use.
    """
    if not any(facts.categories):
        return None
    features = tuple(names) or tuple(f"f{i}" for i in range(len(facts.categories)))
    known = {name: values for name, values in zip(features, facts.categories, strict=True) if values}
    return Table(features, known, "float32", declared)


def write_as_stopped(source: Path, target: Path) -> None:
    """Write a model so that its file says that it answers with the trees up to its best round.

    Raises:
        InvalidPackage: the file cannot be loaded.
    """
    xgboost = require("xgboost", "limen[xgboost]")
    read_facts(source)
    with loading("xgboost"), xgboost.config_context(verbosity=0):
        booster = xgboost.Booster(model_file=str(source))
        booster.set_attr(scikit_learn="{}")
        booster.save_model(target)


def _open(file: Path, declared: Mapping[str, str], wanted: Sequence[str]) -> BoosterModel:
    xgboost = require("xgboost", "limen[xgboost]")
    facts = read_facts(file)
    with loading("xgboost"), xgboost.config_context(verbosity=0):
        booster = xgboost.Booster(model_file=str(file))
        booster.set_param({"nthread": 1})
        names = tuple(booster.feature_names or ())
        return BoosterModel(
            "xgboost",
            _asking(booster, facts),
            TensorSpec("X", "float32", (-1, int(booster.num_features())), names, nullable=True),
            table_of(facts, names, declared),
            is_binary=facts.objective.startswith("binary:"),
            wanted=wanted,
        )


def _asking(booster: Any, facts: Facts) -> Callable[[Array], Array]:
    """Return what asks a booster; trees may be asked from several threads at once."""
    matrix = require("xgboost", "limen[xgboost]").DMatrix
    rounds = (0, 0 if facts.best_round is None else facts.best_round + 1)

    def ask(rows: Array) -> Array:
        answer: Array = booster.inplace_predict(
            rows, iteration_range=rounds, missing=facts.missing, validate_features=False
        )
        return answer

    def ask_linear(rows: Array) -> Array:
        answer: Array = booster.predict(matrix(rows, missing=facts.missing, nthread=1), validate_features=False)
        return answer

    return ask_linear if facts.is_linear else ask
