"""What MLflow writes of each flavour that is imported, compared with what MLflow itself answers with; other flavours are refused by name."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib
import lightgbm
import numpy as np
import pandas as pd
import pytest
import xgboost
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from limen.authoring import importing
from limen.authoring.conversion import Converted
from limen.authoring.conversion.formats import converted
from limen.authoring.conversion.messages import Task, rows_of
from limen.authoring.importing import ImportOptions, import_model
from limen.packaging.manifest.decoder import read_manifest
from tests.bulk.boosters import asked, records, served, table, targets
from tests.bulk.verdicts import Table, same

mlflow = pytest.importorskip("mlflow")
pytestmark = pytest.mark.filterwarnings("ignore")

DATA = table(categories=False).rename(columns={"large": "a large one"})
TEXTS = DATA.assign(home=np.resize(np.array(["own", "rent", "with others"], object), len(DATA)))
LABELS = targets(table(categories=False))


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep MLflow within the test's folder, and convert in this process: what is tried here is not the isolation."""
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "true")
    monkeypatch.chdir(tmp_path)

    def convert(model: bytes, formats: Any, sample: Any, **_: Any) -> Converted:
        task = Task(model=model, targets=tuple(formats), sample=rows_of(sample), memory_mb=0)
        return converted(joblib.load(io.BytesIO(model)), task)

    monkeypatch.setattr(importing, "convert", convert)


def pipeline(last: Any) -> Any:
    columns = make_column_transformer(
        (SimpleImputer(), ["small", "a large one", "count"]), (OneHotEncoder(handle_unknown="ignore"), ["home"])
    )
    return make_pipeline(columns, last)


def models() -> Iterator[tuple[str, Any, pd.DataFrame, str, dict[str, Any]]]:
    """Yield name, fitted model, rows, flavour and how it is saved."""
    kind, value = LABELS["kind"], LABELS["value"]
    flag = LABELS["flag"]
    named = np.array(["cold", "warm", "hot"])[kind]
    quiet: dict[str, Any] = {"n_estimators": 6, "n_jobs": 1}
    for form in ("skops", "cloudpickle"):
        for label in (flag, named):
            model = lightgbm.LGBMClassifier(verbose=-1, **quiet).fit(DATA, label)
            yield f"LGBMClassifier {form} {label.dtype}", model, DATA, "lightgbm", {"serialization_format": form}
        model = lightgbm.LGBMRegressor(verbose=-1, **quiet).fit(DATA, value)
        yield f"LGBMRegressor {form}", model, DATA, "lightgbm", {"serialization_format": form}
        trusted = (
            {"serialization_format": form, "skops_trusted_types": TRUSTED}
            if form == "skops"
            else {"serialization_format": form}
        )
        for last in (LogisticRegression(), RandomForestClassifier(5, random_state=0)):
            fitted = pipeline(last).fit(TEXTS, named)
            yield f"{type(last).__name__} {form}", fitted, TEXTS, "sklearn", trusted
        regressor = HistGradientBoostingRegressor(max_iter=5).fit(DATA, value)
        yield f"HistGradientBoosting {form}", regressor, DATA, "sklearn", trusted
    booster = lightgbm.train({"verbosity": -1, "num_threads": 1}, lightgbm.Dataset(DATA, value), 5)
    yield "lightgbm Booster", booster, DATA, "lightgbm", {}
    for label in (flag, kind):
        yield "XGBClassifier", xgboost.XGBClassifier(**quiet).fit(DATA, label), DATA, "xgboost", {}
    stopped = xgboost.XGBClassifier(n_estimators=40, learning_rate=0.9, early_stopping_rounds=2, n_jobs=1)
    stopped.fit(DATA[:99], flag[:99], eval_set=[(DATA[99:], 1 - flag[99:])], verbose=False)
    for form in ("json", "ubj"):
        yield f"XGBClassifier stopped {form}", stopped, DATA, "xgboost", {"model_format": form}
    yield "XGBRegressor", xgboost.XGBRegressor(**quiet).fit(DATA, value), DATA, "xgboost", {}
    native = xgboost.train({"nthread": 1}, xgboost.DMatrix(DATA, value), 5)
    yield "xgboost Booster", native, DATA, "xgboost", {}
    bare = DATA.fillna(0.0).to_numpy()
    yield "XGBRegressor of an array", xgboost.XGBRegressor(**quiet).fit(bare, value), DATA, "xgboost", {}


TRUSTED = [
    "numpy.dtype",
    "sklearn.compose._column_transformer._RemainderColsList",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.tree._tree.Tree",
]


def direct(model: Any, rows: pd.DataFrame) -> dict[str, np.ndarray]:
    if isinstance(model, xgboost.Booster):
        return {"prediction": model.predict(xgboost.DMatrix(rows))}
    if hasattr(model, "predict_proba"):
        return {"probabilities": model.predict_proba(rows), "label": model.predict(rows)}
    answer = model.predict(rows)
    return {"prediction": answer, "value": answer}


def test_what_mlflow_writes_answers_as_the_model_does(tmp_path):
    seen = Table("MLflow")
    for i, (name, model, data, flavour, how) in enumerate(models()):
        folder = tmp_path / f"model-{i}"
        rows = asked(data) if data is DATA else data.iloc[:24].copy()
        rows.loc[rows.index[5:9], "small"] = np.nan
        order = list(reversed(data.columns)) if "array" not in name else list(data.columns)
        signature = mlflow.models.infer_signature(data[order], np.zeros(1))
        example = data[order].iloc[:4].astype({"small": float})
        getattr(mlflow, flavour).save_model(
            model, folder, signature=signature, pip_requirements=[], input_example=example if i % 2 else None, **how
        )
        with seen.judge(name):
            given = None
            if not i % 2:
                given = tmp_path / f"sample-{i}.csv"
                data[order].iloc[:30].to_csv(given, index=False)
            package = tmp_path / f"package-{i}"
            made = import_model(str(folder), ImportOptions(folder=package, trust_pickle=True, sample=given))
            assert not [note for note in made.notes if note.startswith("the input example:")], made.notes
            spelt = rows.rename(columns={"a large one": "a_large_one"})
            found = served(package, records(spelt))
            wanted = direct(model, rows.to_numpy() if "array" in name else rows)
            same(found, {key: value for key, value in wanted.items() if key in found})
            assert found.keys() & wanted.keys()
            assert read_manifest(package).contract.examples, "there is no example"
    seen.conclude(right=20)


OTHERS = ["pytorch", "tensorflow", "statsmodels", "prophet", "catboost", "spacy", "transformers"]


@pytest.mark.parametrize("flavour", OTHERS)
def test_flavours_that_are_not_imported_are_refused_with_what_to_do(tmp_path, flavour):
    (tmp_path / "MLmodel").write_text(f"flavors:\n  {flavour}: {{data: model}}\n  python_function: {{}}\n")
    seen = Table(flavour)
    with seen.judge(flavour):
        import_model(str(tmp_path), ImportOptions(folder=tmp_path / "package"))
    assert "no flavour that can be imported" in seen.rows[0].text
    assert str(tmp_path) not in seen.rows[0].text


def test_a_python_function_is_code(tmp_path):
    class Twice(mlflow.pyfunc.PythonModel):
        def predict(self, context: Any, model_input: list[float], params: Any = None) -> list[float]:
            return [2 * number for number in model_input]

    mlflow.pyfunc.save_model(tmp_path / "model", python_model=Twice(), pip_requirements=[])
    seen = Table("pyfunc")
    with seen.judge("Twice"):
        import_model(str(tmp_path / "model"), ImportOptions(folder=tmp_path / "package"))
    assert "write a package with `backend: python`" in seen.rows[0].text
