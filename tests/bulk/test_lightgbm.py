"""Every objective and kind of boosting of LightGBM, with and without categories."""

import itertools
import re
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pandas as pd
import pytest

from limen.contracts.errors import InvalidArgument
from tests.bulk.boosters import HOMES, PLANS, asked, packaged, records, served, table, targets
from tests.bulk.verdicts import Table, same

OBJECTIVES = {
    "regression": "value",
    "regression_l1": "value",
    "huber": "value",
    "fair": "value",
    "poisson": "positive",
    "quantile": "value",
    "mape": "positive",
    "gamma": "positive",
    "tweedie": "positive",
    "binary": "flag",
    "cross_entropy": "share",
    "cross_entropy_lambda": "share",
    "multiclass": "kind",
    "multiclassova": "kind",
    "lambdarank": "kind",
    "rank_xendcg": "kind",
}
"""The objectives, and what they are trained on."""
VARIANTS: dict[str, dict[str, Any]] = {
    "gbdt": {},
    "dart": {"boosting": "dart", "drop_rate": 0.5},
    "forest": {"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.6},
    "goss": {"data_sample_strategy": "goss"},
    "root": {"reg_sqrt": True},
    "no missing": {"use_missing": False},
    "zero is missing": {"zero_as_missing": True},
    "extra": {"extra_trees": True},
    "linear": {"linear_tree": True},
    "sets": {"max_cat_to_onehot": 1},
    "sigmoid": {"sigmoid": 2.5},
}


def train(objective: str, target: str, data: pd.DataFrame, **settings: Any) -> lightgbm.Booster:
    fixed = {"objective": objective, "verbosity": -1, "num_threads": 1, "min_data_in_leaf": 5, "num_leaves": 12}
    fixed |= {"min_data_per_group": 1, "cat_smooth": 0.0, "seed": 3, "deterministic": True}
    if objective.startswith("multi"):
        fixed["num_class"] = 3
    group = [20] * (len(data) // 20) if objective.startswith(("lambda", "rank")) else None
    return lightgbm.train(fixed | settings, lightgbm.Dataset(data, targets(data)[target], group=group), 8)


def known(rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows as LightGBM takes them: what was not there in training is missing."""
    kinds = {"home": HOMES, "plan": PLANS}
    return rows.assign(
        **{
            name: pd.Categorical(rows[name].where(rows[name].isin(values)), categories=values)
            for name, values in kinds.items()
            if name in rows
        }
    )


def judge(seen: Table, name: str, model: lightgbm.Booster, rows: pd.DataFrame, folder: Path, *, opens: bool = False):
    with seen.judge(name):
        model.save_model(folder / "model.txt")
        package = packaged(folder / "model.txt", folder / "package")
        if opens:
            file = package / "model.yaml"
            file.write_text(re.sub(r", enum: \[[^\]]*\]", "", file.read_text()))
        same(served(package, records(rows)), {"prediction": model.predict(known(rows))})


@pytest.fixture
def place(tmp_path: Path):
    """Return a function that gives a new folder for each model."""
    numbers = itertools.count()

    def new() -> Path:
        folder = tmp_path / str(next(numbers))
        folder.mkdir()
        return folder

    return new


def test_every_objective_of_lightgbm(place):
    seen = Table("LightGBM objectives")
    for (objective, target), categories in itertools.product(OBJECTIVES.items(), (False, True)):
        data = table(categories=categories)
        model = train(objective, target, data)
        judge(seen, f"{objective} categories={categories}", model, asked(data), place())
        if categories:
            rows = asked(data).astype({"home": object, "plan": object})
            rows.loc[rows.index[::3], ["home", "plan"]] = ["never", 99]
            judge(seen, f"{objective} never seen", model, rows, place(), opens=True)
    seen.conclude(right=48)


def test_every_kind_of_boosting_of_lightgbm(place):
    seen = Table("LightGBM boosting")
    for (variant, settings), objective, categories in itertools.product(
        VARIANTS.items(), ("binary", "multiclass", "regression"), (False, True)
    ):
        data = table(categories=categories)
        model = train(objective, OBJECTIVES[objective], data, **settings)
        judge(seen, f"{variant} {objective} categories={categories}", model, asked(data), place())
    seen.conclude(right=60)


def test_a_booster_of_an_objective_of_its_own_gives_raw_values(place):
    seen = Table("LightGBM with an own objective")
    data = table(categories=True)
    label = targets(data)["value"]

    def squares(predicted: np.ndarray, trained: lightgbm.Dataset) -> tuple[np.ndarray, np.ndarray]:
        return predicted - trained.get_label(), np.ones_like(predicted)

    settings = {"objective": squares, "verbosity": -1, "num_threads": 1}
    judge(seen, "squares", lightgbm.train(settings, lightgbm.Dataset(data, label), 8), asked(data), place())
    seen.conclude(right=1)


ORDERS = (("home", "plan"), ("plan", "home"), ("plan",), ("home",))


def test_categories_of_columns_wherever_they_stand_ordered_or_not(place):
    seen = Table("LightGBM columns")
    for names, is_ordered in itertools.product(ORDERS, (False, True)):
        data = table(categories=True)
        data["plan"] = data["plan"].cat.set_categories(PLANS, ordered=is_ordered)
        data = data[["small", names[0], "large", *names[1:], "count"]]
        model = lightgbm.train(
            {"objective": "binary", "verbosity": -1, "num_threads": 1, "min_data_per_group": 1},
            lightgbm.Dataset(data, (data["small"] > 0).astype(int) ^ (data[names[0]].cat.codes == 1).astype(int)),
            8,
        )
        rows = asked(data)
        with seen.judge(f"{names} ordered={is_ordered}"):
            folder = place()
            model.save_model(folder / "model.txt")
            found = served(packaged(folder / "model.txt", folder / "package"), records(rows))
            same(found, {"prediction": model.predict(rows)})
    seen.conclude(right=8)


def test_a_category_that_lightgbm_has_never_seen_is_refused_by_name_while_the_contract_lists_them(place):
    data, folder = table(categories=True), place()
    train("binary", "flag", data).save_model(folder / "model.txt")
    package = packaged(folder / "model.txt", folder / "package")
    row = records(data[:1])[0]
    for name, value in (("home", "never"), ("plan", 99)):
        with pytest.raises(InvalidArgument, match=rf"instances\[0\].{name}: must be one of"):
            served(package, [{**row, name: value}])
