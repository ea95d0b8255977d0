"""Every objective and booster of XGBoost, with and without categories, in both of its formats."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xgboost

from limen.contracts.errors import InvalidArgument
from tests.bulk.boosters import asked, packaged, records, served, table, targets
from tests.bulk.verdicts import Table, same

OBJECTIVES = {
    "binary:logistic": "flag",
    "binary:logitraw": "flag",
    "binary:hinge": "flag",
    "reg:squarederror": "value",
    "reg:squaredlogerror": "positive",
    "reg:logistic": "share",
    "reg:pseudohubererror": "value",
    "reg:absoluteerror": "value",
    "reg:gamma": "positive",
    "reg:tweedie": "positive",
    "reg:quantileerror": "value",
    "reg:expectileerror": "value",
    "count:poisson": "positive",
    "survival:cox": "positive",
    "survival:aft": "positive",
    "multi:softmax": "kind",
    "multi:softprob": "kind",
    "rank:ndcg": "kind",
    "rank:map": "flag",
    "rank:pairwise": "kind",
}
"""The objectives, and what they are trained on."""
MORE: dict[str, dict[str, Any]] = {
    "multi:softprob": {"num_class": 3},
    "multi:softmax": {"num_class": 3},
    "reg:quantileerror": {"quantile_alpha": [0.1, 0.5, 0.9]},
    "reg:expectileerror": {"expectile_alpha": 0.3},
}
VARIANTS: dict[str, dict[str, Any]] = {
    "gbtree": {},
    "forest": {"num_parallel_tree": 3, "subsample": 0.7},
    "dart": {"booster": "dart", "rate_drop": 0.3},
    "linear": {"booster": "gblinear"},
    "base_score": {"base_score": 0.3},
    "exact": {"tree_method": "exact"},
    "deep": {"max_depth": 0, "max_leaves": 40, "grow_policy": "lossguide"},
    "sets": {"max_cat_to_onehot": 1},
}


def train(objective: str, target: str, data: pd.DataFrame, **settings: Any) -> xgboost.Booster:
    wanted = targets(data)[target]
    matrix = xgboost.DMatrix(data, enable_categorical=True, nthread=1)
    if objective == "survival:aft":
        matrix.set_float_info("label_lower_bound", wanted)
        matrix.set_float_info("label_upper_bound", np.where(wanted > 2, np.inf, wanted))
    else:
        matrix.set_label(wanted)
    if objective.startswith("rank:"):
        matrix.set_group([20] * (len(data) // 20))
    given = {"objective": objective, "nthread": 1, "verbosity": 0, "max_depth": 4, "seed": 3}
    return xgboost.train(given | MORE.get(objective, {}) | settings, matrix, 8)


def judge(seen: Table, name: str, model: xgboost.Booster, data: pd.DataFrame, folder: Path, suffix: str) -> None:
    rows = asked(data)
    with seen.judge(name):
        file = folder / f"model{suffix}"
        model.save_model(file)
        found = served(packaged(file, folder / "package"), records(rows))
        same(found, {"prediction": model.predict(xgboost.DMatrix(rows, enable_categorical=True))})


@pytest.fixture
def place(tmp_path: Path):
    """Return a function that gives a new folder for each model."""
    numbers = itertools.count()

    def new() -> Path:
        folder = tmp_path / str(next(numbers))
        folder.mkdir()
        return folder

    return new


def test_every_objective_of_xgboost(place):
    seen = Table("XGBoost objectives")
    for (objective, target), categories in itertools.product(OBJECTIVES.items(), (False, True)):
        data = table(categories=categories)
        try:
            model = train(objective, target, data)
        except (xgboost.core.XGBoostError, ValueError) as exc:
            if objective != "reg:expectileerror":  # newer than the oldest version that is supported
                seen.wrong(objective, str(exc))
            continue
        for suffix in (".json", ".ubj"):
            judge(seen, f"{objective} categories={categories} {suffix}", model, data, place(), suffix)
    seen.conclude(right=76)


def test_every_booster_of_xgboost(place):
    seen = Table("XGBoost boosters")
    for (variant, settings), objective, categories in itertools.product(
        VARIANTS.items(), ("binary:logistic", "multi:softprob", "reg:squarederror"), (False, True)
    ):
        if categories and variant in ("linear", "exact"):
            continue  # XGBoost itself has no categories there
        data = table(categories=categories)
        model = train(objective, OBJECTIVES[objective], data, **settings)
        judge(seen, f"{variant} {objective} categories={categories}", model, data, place(), ".json")
    for strategy in ("one_output_per_tree", "multi_output_tree"):
        data = table(categories=False)
        model = train("reg:squarederror", "both", data, multi_strategy=strategy, tree_method="hist")
        judge(seen, strategy, model, data, place(), ".ubj")
    seen.conclude(right=43)


KINDS = ("XGBClassifier", "XGBRegressor", "XGBRanker", "XGBRFClassifier", "XGBRFRegressor")


def test_files_of_xgboosts_scikit_learn_classes(place):
    """They answer with the trees up to the best round, and with the probability of each class where there are several."""
    seen = Table("XGBoost classes")
    for kind, stops, target in itertools.product(KINDS, (False, True), ("flag", "kind")):
        if stops and "RF" in kind:
            continue  # a forest has one round
        data = table(categories=True)
        label = targets(data)[target]
        more: dict[str, Any] = {"early_stopping_rounds": 2} if stops else {}
        if kind == "XGBRanker":
            fit: dict[str, Any] = {"group": [20] * 6}
            evaluation: dict[str, Any] = {"eval_group": [[20] * 6]}
        else:
            fit, evaluation = {}, {}
        model = getattr(xgboost, kind)(n_estimators=30, learning_rate=0.9, n_jobs=1, enable_categorical=True, **more)
        if stops:
            fit |= {"eval_set": [(data[120:], 1 - label[120:] % 2)], "verbose": False, **evaluation}
        model.fit(data[:120], label[:120] % 2 if stops else label[:120], **fit)
        rows, folder = asked(data), place()
        with seen.judge(f"{kind} stops={stops} {target}"):
            model.save_model(folder / "model.json")
            found = served(packaged(folder / "model.json", folder / "package"), records(rows))
            direct = model.predict_proba(rows) if hasattr(model, "predict_proba") else model.predict(rows)
            same(found, {"prediction": direct[:, 1] if direct.ndim == 2 and direct.shape[1] == 2 else direct})
    seen.conclude(right=16)


def test_a_category_that_xgboost_has_never_seen_is_refused_by_name(place):
    data, folder = table(categories=True), place()
    train("binary:logistic", "flag", data).save_model(folder / "model.json")
    package = packaged(folder / "model.json", folder / "package")
    row = records(data[:1])[0]
    for name, value in (("home", "never"), ("plan", 99)):
        with pytest.raises(InvalidArgument, match=rf"instances\[0\].{name}: must be one of"):
            served(package, [{**row, name: value}])
