"""Converts an unpickled booster, or a scikit-learn wrapper of one, to the booster's native file. Converting process only.

The file says what the class would have known: its categories, the best round of early stopping, the number that is a missing one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

from limen.authoring.conversion.messages import Candidate, Converted, rows_of
from limen.authoring.conversion.samples import ask, rows_to_ask
from limen.contracts.tensors import Array
from limen.runtime.backends.categories import Category, plain_name
from limen.runtime.backends.files.lightgbm import checked
from limen.runtime.backends.files.xgboost import facts_of
from limen.runtime.backends.lightgbm import table_of as lightgbm_table
from limen.runtime.backends.xgboost import table_of as xgboost_table

KINDS = ("xgboost.sklearn.", "xgboost.core.Booster", "lightgbm.sklearn.", "lightgbm.basic.Booster")
"""What the names of such classes start with."""


class _Booster(NamedTuple):
    """A booster's own file, and how the original is asked."""

    format: str
    data: bytes
    names: tuple[str, ...]
    width: int
    categories: Mapping[str, Sequence[Category]]
    missing: float
    methods: Mapping[str, Callable[[Any], Any]]


def convert_booster(model: Any, library: str, sample: Mapping[str, Array]) -> Converted:
    """Return a booster as its own file, with the original's answers to the sample and to made-up rows."""
    found = _xgboost(model, library) if library.startswith("xgboost.") else _lightgbm(model, library, sample)
    sample = _spelt(sample, found.names)
    asked = rows_to_ask(sample, found.names, found.width, found.categories, gaps=(math.nan, found.missing))
    if found.categories:
        asked = asked.with_categories(found.categories)
    asked, answers = ask(asked, found.methods)
    return Converted(
        library=library,
        candidates=(Candidate(found.format, found.data),),
        rows=rows_of(asked.rows),
        sample_rows=asked.given,
        answers=rows_of(answers),
        **_classes(model, answers),
    )


def _spelt(sample: Mapping[str, Array], names: Sequence[str]) -> Mapping[str, Array]:
    """Return a sample by the booster's names: LightGBM makes `sepal length` sepal_length."""
    own = {plain_name(name): name for name in names}
    return {own.get(plain_name(name), name): array for name, array in sample.items()} if own else sample


def _xgboost(model: Any, library: str) -> _Booster:
    is_bare = library == "xgboost.core.Booster"
    booster = model if is_bare else model.get_booster()
    missing = math.nan if is_bare or model.missing is None else float(model.missing)
    if not is_bare:
        booster.set_attr(
            scikit_learn=json.dumps(
                {
                    "_estimator_type": "classifier" if hasattr(model, "predict_proba") else "regressor",
                    "missing": missing,
                }
            )
        )
    data = bytes(booster.save_raw("ubj"))
    names = tuple(booster.feature_names or ())
    table = xgboost_table(facts_of(data), names, {})
    matrix = import_module("xgboost").DMatrix
    return _Booster(
        "xgboost-ubj",
        data,
        names,
        int(booster.num_features()),
        {} if table is None else table.categories,
        missing,
        {"prediction": lambda rows: booster.predict(matrix(rows, enable_categorical=True))}
        if is_bare
        else _methods(model, gives_classes=model.get_params().get("objective") == "multi:softmax"),
    )


def _lightgbm(model: Any, library: str, sample: Mapping[str, Array]) -> _Booster:
    is_bare = library == "lightgbm.basic.Booster"
    booster = model if is_bare else model.booster_
    data = booster.model_to_string().encode()
    names = tuple(booster.feature_name())
    sample = _spelt(sample, names)
    types = {name: "string" if array.dtype == object else array.dtype.name for name, array in sample.items()}
    table = lightgbm_table(checked(data), types)
    width = int(booster.num_feature())
    return _Booster(
        "lightgbm",
        data,
        () if names == tuple(f"Column_{i}" for i in range(width)) else names,
        width,
        {} if table is None else table.categories,
        math.nan,
        {"prediction": booster.predict} if is_bare else _methods(model, gives_classes=False),
    )


def _methods(model: Any, *, gives_classes: bool) -> dict[str, Callable[[Any], Any]]:
    if gives_classes or not hasattr(model, "predict_proba"):
        return {"prediction": model.predict}
    return {"probabilities": model.predict_proba, "label": model.predict}


def _classes(model: Any, answers: Mapping[str, Array]) -> dict[str, Any]:
    """Return what is known of a classifier's classes."""
    if "probabilities" not in answers:
        return {}
    classes = np.asarray(model.classes_).tolist()
    return {
        "classes": tuple(map(str, classes)),
        "classifier": classes == list(range(len(classes))),
        "has_named_classes": all(isinstance(value, str) for value in classes),
    }
