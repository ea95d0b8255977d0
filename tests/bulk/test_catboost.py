"""CatBoost by way of ONNX, which has its numbers only: every objective, with rows that lack values; its own files are refused by name."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from limen.contracts.errors import InvalidPackage
from limen.runtime.execution import load, run
from tests.bulk.boosters import COUNT, asked, packaged, table, targets
from tests.bulk.verdicts import Table, same

catboost = pytest.importorskip("catboost")
from limen.packaging.manifest.decoder import read_manifest  # noqa: E402 - after the question whether CatBoost is there

REGRESSORS = {
    "RMSE": "value",
    "MAE": "value",
    "Quantile:alpha=0.3": "value",
    "LogLinQuantile:alpha=0.3": "positive",
    "Poisson": "positive",
    "MAPE": "positive",
    "Lq:q=3": "value",
    "Huber:delta=1.0": "value",
    "Expectile:alpha=0.3": "value",
    "Tweedie:variance_power=1.5": "positive",
    "LogCosh": "value",
    "MultiRMSE": "both",
    "RMSEWithUncertainty": "value",
}
CLASSIFIERS = {"Logloss": "flag", "CrossEntropy": "flag", "MultiClass": "kind", "MultiClassOneVsAll": "kind"}
FIXED: dict[str, Any] = {"iterations": 8, "depth": 4, "verbose": 0, "thread_count": 1, "allow_writing_files": False}


def ask(folder: Path, rows: np.ndarray) -> dict[str, np.ndarray]:
    manifest = read_manifest(folder)
    model, binding = load(folder, manifest)
    try:
        return run(model, binding, {manifest.contract.inputs[0].name: rows}, {}, len(rows), len(rows))
    finally:
        model.close()


def test_every_objective_of_catboost(tmp_path):
    seen = Table("CatBoost by ONNX")
    data = table(categories=False).astype(np.float32)
    rows = asked(data).to_numpy(np.float32)
    wanted = targets(data)
    names = {0: np.array(["cold", "warm", "hot"]), 1: np.array([0, 1, 2])}
    for objective, target in (REGRESSORS | CLASSIFIERS).items():
        for form in names if objective in CLASSIFIERS else (1,):
            kind = catboost.CatBoostClassifier if objective in CLASSIFIERS else catboost.CatBoostRegressor
            label = names[form][wanted[target]] if objective in CLASSIFIERS else wanted[target]
            if objective == "CrossEntropy" and form == 0:
                continue  # it takes probabilities
            model = kind(loss_function=objective, **FIXED).fit(data.to_numpy(), label)
            folder = tmp_path / f"{objective.partition(':')[0]}-{form}"
            folder.mkdir()
            with seen.judge(f"{objective} {label.dtype}"):
                model.save_model(folder / "model.onnx", format="onnx")
                found = ask(packaged(folder / "model.onnx", folder / "package"), rows)
                if objective == "MultiClassOneVsAll":
                    # CatBoost exports it with a softmax, which gives other probabilities: those of the file are right.
                    session = onnxruntime.InferenceSession(folder / "model.onnx")
                    chances = session.run(["probabilities"], {"features": rows})[0]
                    same(found, {"probabilities": np.array([list(row.values()) for row in chances])})
                elif objective in CLASSIFIERS:
                    same(found, {"probabilities": model.predict_proba(rows), "label": model.predict(rows).reshape(-1)})
                else:
                    same(found, {"predictions": model.predict(rows, prediction_type="RawFormulaVal")})
    seen.conclude(right=18)


@pytest.mark.parametrize("form", ["cbm", "json"])
def test_its_own_files_are_refused_with_what_to_do(tmp_path, form):
    data = table(categories=False).assign(home=np.resize(["own", "rent"], COUNT))
    model = catboost.CatBoostClassifier(cat_features=["home"], **FIXED)
    model.fit(data, targets(table(categories=False))["flag"]).save_model(tmp_path / f"model.{form}", format=form)
    with pytest.raises(InvalidPackage, match="is a CatBoost model"):
        packaged(tmp_path / f"model.{form}", tmp_path / "package")
