"""Originals of every kind that is converted, and what they answer."""

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import GradientBoostingRegressor, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from limen.contracts.tensors import Array
from limen.contracts.validation.records import RecordCodec
from limen.packaging.manifest.decoder import read_manifest
from limen.runtime.execution import load, run

COUNT = 200
NUMBERS = ("amount", "rate", "term")


def table() -> pd.DataFrame:
    random = np.random.default_rng(5)
    columns = {name: random.normal(10 * (i + 1), 3, COUNT) for i, name in enumerate(NUMBERS)}
    return pd.DataFrame(columns | {"home": random.choice(["rent", "own", "other"], COUNT)})


def target(data: pd.DataFrame) -> np.ndarray:
    return (data.amount + data.rate - data.term / 3 > 19).to_numpy().astype(int)


@dataclass(frozen=True)
class Original:
    """A fitted model, the rows it takes, and its answers by the names of the package's outputs."""

    model: Any
    rows: pd.DataFrame | np.ndarray
    expected: dict[str, np.ndarray]
    format: str

    @property
    def pickled(self) -> bytes:
        return pickle.dumps(self.model)

    @property
    def records(self) -> list[dict[str, Any]]:
        if isinstance(self.rows, np.ndarray):
            return [{"X": row} for row in self.rows.tolist()]
        return self.rows.to_dict("records")


def make_linear() -> Original:
    data = table()
    rows = data[list(NUMBERS)].to_numpy()
    model = LogisticRegression().fit(rows, np.where(target(data), "yes", "no"))
    return Original(model, rows, {"label": model.predict(rows), "probabilities": model.predict_proba(rows)}, "onnx")


def make_pipeline() -> Original:
    data = table()
    steps = [("home", OneHotEncoder(handle_unknown="ignore"), ["home"]), ("rest", StandardScaler(), list(NUMBERS))]
    model = Pipeline([("columns", ColumnTransformer(steps)), ("regression", LogisticRegression())]).fit(
        data, target(data)
    )
    return Original(model, data, {"label": model.predict(data), "probabilities": model.predict_proba(data)}, "onnx")


def make_forest() -> Original:
    rows = table()[list(NUMBERS)]
    model = RandomForestClassifier(20, max_depth=5, random_state=0).fit(rows, target(table()))
    return Original(model, rows, {"label": model.predict(rows), "probabilities": model.predict_proba(rows)}, "onnx")


def make_regressor() -> Original:
    data = table()[list(NUMBERS)]
    model = GradientBoostingRegressor(n_estimators=20, random_state=0).fit(data, data.amount * data.rate)
    return Original(model, data, {"value": model.predict(data)}, "onnx")


def make_xgboost() -> Original:
    import xgboost

    data = table()
    rows = data[list(NUMBERS)]
    model = xgboost.XGBClassifier(n_estimators=8, n_jobs=1).fit(rows, target(data))
    expected = {"label": model.predict(rows), "probabilities": model.predict_proba(rows)}
    return Original(model, rows, expected, "xgboost-ubj")


def make_lightgbm() -> Original:
    import lightgbm

    data = table()
    rows = data[list(NUMBERS)]
    kinds = target(data) + (data.rate > 20).to_numpy().astype(int)
    model = lightgbm.LGBMClassifier(n_estimators=8, n_jobs=1, verbosity=-1).fit(rows, kinds)
    return Original(
        model, rows, {"label": model.predict(rows), "probabilities": np.asarray(model.predict_proba(rows))}, "lightgbm"
    )


MAKERS = (make_linear, make_pipeline, make_forest, make_regressor, make_xgboost, make_lightgbm)


@pytest.fixture(scope="session")
def originals() -> Callable[[Callable[[], Original]], Original]:
    """Train each model once."""
    made: dict[str, Original] = {}

    def get(maker: Callable[[], Original]) -> Original:
        if maker.__name__ not in made:
            made[maker.__name__] = maker()
        return made[maker.__name__]

    return get


@pytest.fixture(params=MAKERS, ids=lambda maker: maker.__name__.removeprefix("make_"))
def original(request, originals) -> Original:
    return originals(request.param)


def answers(folder: Path, records: list[dict[str, Any]]) -> dict[str, Array]:
    """Load a package and ask it as a replica does."""
    manifest = read_manifest(folder)
    model, binding = load(folder, manifest)
    try:
        inputs = RecordCodec(manifest.contract).tensors(records)
        return run(model, binding, inputs, {}, len(records), manifest.contract.batching.max_rows)
    finally:
        model.close()
