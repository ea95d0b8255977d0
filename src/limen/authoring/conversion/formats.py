"""Converts an unpickled model to formats without code, with its own answers. Runs in the converting process only."""

from __future__ import annotations

from typing import Any

from limen.authoring.conversion.boosters import KINDS, convert_booster
from limen.authoring.conversion.estimators import convert_estimator
from limen.authoring.conversion.messages import Converted, Task
from limen.contracts.errors import InvalidPackage


def converted(model: Any, task: Task) -> Converted:
    """Return a model in the formats that are asked for, with its answers to the sample and to made-up rows.

    Raises:
        InvalidPackage: it is of no known kind, or cannot answer.
    """
    library = f"{type(model).__module__}.{type(model).__qualname__}"
    sample = {name: values.array() for name, values in task.sample.items()}
    best = getattr(model, "best_estimator_", model)
    if f"{type(best).__module__}.{type(best).__qualname__}".startswith(KINDS):
        return convert_booster(best, f"{type(best).__module__}.{type(best).__qualname__}", sample)
    if hasattr(model, "get_params") and hasattr(model, "fit"):
        return convert_estimator(model, library, sample, task.targets)
    raise InvalidPackage(
        f"the pickle holds a {library}; only estimators of scikit-learn and the boosters of XGBoost and LightGBM are converted"
    )
