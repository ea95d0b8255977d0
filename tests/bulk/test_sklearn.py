"""Every public estimator of scikit-learn, in a pipeline fitted on a data frame of numbers, texts and gaps.

Each goes in by skops, by ONNX and by a pickle, and is asked what the original is asked directly: rows that differ in value and order,
some with missing and some with unseen values where the contract takes them. All is done in this process: those in which Limen converts
pickles and looks at models are tested elsewhere, and two or three for each of these models would take an hour.
"""

import pickle
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pandas as pd
import pytest
import skops.io
import xgboost
from sklearn.base import BaseEstimator, is_classifier, is_regressor
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.utils import all_estimators
from sklearn.utils._test_common.instance_generator import _construct_instances
from skops.io.exceptions import UnsupportedTypeException

from limen.authoring import importing, scaffolding
from limen.authoring.conversion.formats import converted
from limen.authoring.conversion.messages import Task, rows_of
from limen.authoring.importing import ImportOptions, import_model
from limen.authoring.parity import as_table, compare
from limen.authoring.scaffolding import create_package
from limen.contracts.errors import InvalidPackage, LimenError
from limen.contracts.validation.records import RecordCodec
from limen.packaging.manifest.decoder import read_manifest
from limen.runtime.backends import backend
from limen.runtime.execution import load, run
from tests.bulk.verdicts import Table, same

COUNT = 90
TARGETS = {"ClassifierChain", "MultiOutputClassifier"}
RANDOM = {"DummyClassifier"}
"""Those that answer by chance unless their strategy is another than the first."""


def people() -> pd.DataFrame:
    """Return rows of text, whole numbers, numbers and booleans, some of them missing."""
    random = np.random.default_rng(11)
    data = pd.DataFrame(
        {
            "home": random.choice(["own", "rent", "other"], COUNT),
            "age": random.integers(20, 70, COUNT),
            "income": random.gamma(2.0, 3.0, COUNT),
            "debt": random.normal(0, 1, COUNT),
            "vip": random.integers(0, 2, COUNT).astype(bool),
        }
    )
    data.loc[::8, "income"] = np.nan
    return data


def strange(data: pd.DataFrame) -> pd.DataFrame:
    """Return other rows: another order and scale, other gaps, a text that was never seen."""
    rows = data.iloc[::-1].head(24).reset_index(drop=True)
    rows["debt"] = rows["debt"] * 20
    rows["age"] = rows["age"].astype(float)
    rows.loc[::5, "age"] = np.nan
    rows.loc[::4, "home"] = "boat"
    return rows


def prepare() -> ColumnTransformer:
    numbers = make_pipeline(SimpleImputer(), MinMaxScaler((0.1, 1)))
    return ColumnTransformer(
        [
            ("numbers", numbers, ["age", "income", "debt"]),
            ("text", OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["home"]),
            ("rest", "passthrough", ["vip"]),
        ],
        sparse_threshold=0,
    )


def wanted(estimator: BaseEstimator, data: pd.DataFrame) -> np.ndarray:
    name = type(estimator).__name__
    good = ((data.home == "rent") ^ (data.debt > 0)).to_numpy()
    if name.startswith("MultiTask") or name in ("MultiOutputRegressor", "RegressorChain"):
        return np.column_stack([data.debt * 2 + 1, data.age / 10.0])
    if name in TARGETS:
        return np.column_stack([good, data.age > 45]).astype(int)
    if is_regressor(estimator):
        return (data.debt * 2 + data.age / 10.0 + 5).to_numpy()
    return (
        np.where(good, "yes", "no") if is_classifier(estimator) and not name.startswith("Dummy") else good.astype(int)
    )


def public() -> Iterator[tuple[str, BaseEstimator]]:
    """Yield every public estimator as scikit-learn's own tests construct it, after what prepares the columns."""
    for name, kind in all_estimators():
        try:
            instances = list(_construct_instances(kind))
        except BaseException:  # noqa: BLE001 - pytest's Skipped: it has no meaning on its own
            continue
        for i, instance in enumerate(instances):
            yield f"{name}-{i}" if i else name, make_pipeline(prepare(), instance)


def everyday() -> Iterator[tuple[str, BaseEstimator]]:
    """Yield the pipelines that people write."""
    by_type = ColumnTransformer(
        [
            ("numbers", SimpleImputer(strategy="median"), make_column_selector(dtype_include="number")),
            (
                "text",
                OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=3),
                make_column_selector(dtype_include=[object, "string"]),
            ),
        ]
    )
    ordinal = ColumnTransformer(
        [
            (
                "text",
                OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-2),
                ["home"],
            )
        ],
        remainder="passthrough",
    )
    logs = ColumnTransformer([("logs", make_pipeline(SimpleImputer(), FunctionTransformer(np.log1p)), ["income"])])
    closed = ColumnTransformer(
        [("text", OneHotEncoder(), ["home", "vip"]), ("numbers", StandardScaler(), ["age", "debt"])]
    )
    yield "xgboost", make_pipeline(prepare(), xgboost.XGBClassifier(n_estimators=5, n_jobs=1))
    yield "xgboost with gaps", make_pipeline(ordinal, xgboost.XGBRegressor(n_estimators=5, n_jobs=1))
    yield "lightgbm", make_pipeline(prepare(), lightgbm.LGBMClassifier(n_estimators=5, n_jobs=1, verbose=-1))
    yield "lightgbm with gaps", make_pipeline(ordinal, lightgbm.LGBMRegressor(n_estimators=5, n_jobs=1, verbose=-1))
    yield "selectors", make_pipeline(by_type, LogisticRegression())
    yield "histograms", make_pipeline(ordinal, HistGradientBoostingClassifier(max_iter=5))
    yield "logarithms", make_pipeline(logs, LogisticRegression())
    yield "closed", make_pipeline(closed, LogisticRegression())
    yield "several", make_pipeline(prepare(), MultiOutputClassifier(LogisticRegression()))
    yield "calibrated", CalibratedClassifierCV(make_pipeline(prepare(), LogisticRegression()), cv=2)
    yield (
        "search",
        GridSearchCV(make_pipeline(prepare(), LogisticRegression()), {"logisticregression__C": [0.1, 1]}, cv=2),
    )
    yield (
        "random search",
        RandomizedSearchCV(
            make_pipeline(prepare(), LogisticRegression()),
            {"logisticregression__C": [0.1, 1, 2]},
            n_iter=2,
            cv=2,
            scoring="f1_macro",
        ),
    )


def expected(estimator: BaseEstimator, rows: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return what the original answers itself."""
    found: dict[str, Any] = {}
    if hasattr(estimator, "predict"):
        found["value" if is_regressor(estimator) else "label"] = estimator.predict(rows)
    if hasattr(estimator, "predict_proba"):
        raw = estimator.predict_proba(rows)
        found["probabilities"] = np.column_stack([part[:, 1] for part in raw]) if isinstance(raw, list) else raw
    if not found and hasattr(estimator, "transform"):
        raw = estimator.transform(rows)
        found["transformed"] = raw.toarray() if hasattr(raw, "toarray") else np.asarray(raw)
    if not found:
        found["score"] = estimator.score_samples(rows)
    return {k: v.reshape(-1) if v.ndim == 2 and v.shape[1] == 1 and k == "value" else v for k, v in found.items()}


def judge(folder: Path, estimator: BaseEstimator, data: pd.DataFrame) -> None:
    """Ask a package and its original the same rows: those of training, and strange ones as far as the contract takes them."""
    manifest = read_manifest(folder)
    fields = {field.name: field for field in manifest.contract.inputs}
    rows = strange(data)
    for name, field in fields.items():
        if field.enum is not None:
            rows[name] = rows[name].where(rows[name].isin(field.enum), field.enum[0])
        if not field.nullable:
            rows[name] = rows[name].fillna(data[name].dropna().iloc[0])
    model, binding = load(folder, manifest)
    compared = 0
    for asked in (rows, data.dropna().head(20), rows.iloc[[5]]):
        records = [
            {k: None if pd.isna(v) else v for k, v in row.items() if k in fields} for row in asked.to_dict("records")
        ]
        for record in records:
            record.update({k: int(v) for k, v in record.items() if "int" in fields[k].type and v is not None})
        inputs = RecordCodec(manifest.contract).tensors(records)
        try:
            wanted_answers = expected(estimator, asked)
        except Exception:  # noqa: BLE001 - the original does not take these rows: served, it must not either
            with pytest.raises(LimenError):
                run(model, binding, inputs, {}, len(records), manifest.contract.batching.max_rows)
            continue
        try:
            answers = run(model, binding, inputs, {}, len(records), manifest.contract.batching.max_rows)
        except LimenError as exc:
            raise AssertionError(f"served, it fails where the original answers: {exc.__cause__ or exc}") from exc
        given = {k: v for k, v in wanted_answers.items() if k in answers}
        assert given, f"none of {sorted(answers)} is an answer of the original"
        same(
            {k: v.reshape(len(asked), -1) for k, v in answers.items()},
            {k: v.reshape(len(asked), -1) for k, v in given.items()},
        )
        compared += 1
    if not compared:
        raise InvalidPackage("left out: the original itself answers none of these rows")


def by_skops(folder: Path, estimator: BaseEstimator, data: pd.DataFrame) -> None:
    try:
        skops.io.dump(estimator, folder / "model.skops")
    except UnsupportedTypeException as exc:
        raise InvalidPackage(f"skops itself does not write it: {exc}") from exc
    data.to_csv(folder / "sample.csv", index=False)
    create_package("people", folder / "model.skops", folder / "package", folder / "sample.csv")
    judge(folder / "package", estimator, data)


def by_pickle(target: str, folder: Path, estimator: BaseEstimator, data: pd.DataFrame) -> None:
    (folder / "model.pkl").write_bytes(pickle.dumps(estimator))
    data.to_csv(folder / "sample.csv", index=False)
    options = ImportOptions(
        name="people", folder=folder / "package", trust_pickle=True, targets=(target,), sample=folder / "sample.csv"
    )
    import_model(str(folder / "model.pkl"), options)
    judge(folder / "package", estimator, data)


def here(model: bytes, targets: tuple[str, ...], sample: dict[str, np.ndarray]) -> Any:
    """Convert a pickle in this process."""
    return converted(pickle.loads(model), Task(model=b"", targets=tuple(targets), sample=rows_of(sample), memory_mb=0))


WAYS = {
    "skops": by_skops,
    "onnx": lambda *given: by_pickle("onnx", *given),
    "pickle": lambda *given: by_pickle("skops", *given),
}
RIGHT = {"skops": 190, "onnx": 60, "pickle": 185}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("way", WAYS)
def test_every_public_estimator_is_right_or_refused_by_name(tmp_path, monkeypatch, way):
    monkeypatch.setattr(importing, "convert", here)
    monkeypatch.setattr(
        importing, "compared", lambda root, *given: compare(root, as_table(read_manifest(root), *given))
    )
    monkeypatch.setattr(
        scaffolding, "described", lambda artifact, name, sample: backend(name).describe(artifact, sample)
    )
    table = Table(f"scikit-learn by {way}")
    data = people()
    for i, (name, estimator) in enumerate([*everyday(), *public()]):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                target = np.column_stack([data.debt > 0, data.vip]).astype(int) if name == "several" else None
                estimator.fit(
                    data,
                    wanted(getattr(estimator, "steps", [(0, estimator)])[-1][1], data) if target is None else target,
                )
            except Exception:  # noqa: BLE001 - it takes other data than a table: kernels, strings, precomputed distances
                continue
            folder = tmp_path / str(i)
            folder.mkdir()
            with table.judge(name):
                if is_random(estimator):
                    raise InvalidPackage("left out: its answers are drawn by chance")
                WAYS[way](folder, estimator, data)
    table.conclude(right=RIGHT[way])


def is_random(estimator: BaseEstimator) -> bool:
    last = getattr(estimator, "steps", [(0, estimator)])[-1][1]
    return type(last).__name__ in RANDOM and last.strategy in ("stratified", "uniform")
