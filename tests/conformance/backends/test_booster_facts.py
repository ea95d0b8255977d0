"""What a booster's own file says goes before what could be guessed: categories, the best round, the marker of missing values."""

import json
import re

import lightgbm
import numpy as np
import pandas as pd
import pytest
import xgboost

from limen.authoring.scaffolding import create_package
from limen.contracts.errors import InvalidPackage
from limen.packaging.manifest.decoder import read_manifest
from limen.runtime.backends import backend
from limen.runtime.execution import load, run

RANDOM = np.random.default_rng(4)
COUNT = 300
HOMES = RANDOM.choice(["rent", "own", "with others"], COUNT)
PLANS = RANDOM.choice([10, 30, 20], COUNT)
INCOME = RANDOM.normal(size=COUNT)
TARGET = ((HOMES == "rent") ^ (PLANS == 20) ^ (INCOME > 0)).astype(int)


def frame(**columns) -> pd.DataFrame:
    return pd.DataFrame({"income": INCOME, **columns})


def trained(folder, data, **settings) -> lightgbm.Booster:
    fixed = {"objective": "binary", "verbosity": -1, "num_threads": 1, "min_data_per_group": 1, "cat_smooth": 0}
    model = lightgbm.train(fixed, lightgbm.Dataset(data, TARGET, **settings), 8)
    model.save_model(folder / "model.txt")
    return model


def packaged(folder, file, sample=None):
    """Return the contract and what a package of a file answers to rows of named fields."""
    place = folder / "package"
    create_package("plans", file, place, sample)
    return read_manifest(place), place


def answers(place, data: pd.DataFrame) -> np.ndarray:
    manifest = read_manifest(place)
    model, binding = load(place, manifest)
    inputs = {}
    for field in manifest.contract.inputs:
        values = data[field.name]
        if field.element.size:
            inputs[field.name] = values.to_numpy(field.element.dtype)
        else:
            inputs[field.name] = np.array([v if isinstance(v, str) else None for v in values], object)
    return run(model, binding, inputs, {}, len(data), 1024)["prediction"]


def known(values: pd.Series, trained_on: pd.Series) -> pd.Categorical:
    """Return values as LightGBM takes them: what was not there in training is missing."""
    categories = trained_on.cat.categories
    return pd.Categorical(values.where(values.isin(categories)), categories=categories)


def asked(kinds: dict[str, list]) -> pd.DataFrame:
    """Return rows of every category, of none and of one that was never seen."""
    rows = len(next(iter(kinds.values())))
    return pd.DataFrame({"income": np.resize([-1.0, 1.0, np.nan], rows), **{k: pd.Series(v) for k, v in kinds.items()}})


def test_lightgbm_takes_the_categories_of_a_data_frame_by_their_values(tmp_path):
    homes = np.where(HOMES == "own", "öwn: a, [b]", HOMES)
    data = frame(home=pd.Categorical(homes), plan=pd.Categorical(PLANS))
    model = trained(tmp_path, data)
    manifest, place = packaged(tmp_path, tmp_path / "model.txt")
    fields = {f.name: (f.type, f.enum, f.nullable) for f in manifest.contract.inputs}
    assert fields == {
        "income": ("float64", None, True),
        "home": ("string", ("rent", "with others", "öwn: a, [b]"), True),
        "plan": ("float64", (10, 20, 30), True),
    }
    rows = asked(
        {"home": ["öwn: a, [b]", "rent", "with others", None, "never", "rent"], "plan": [10, 20, 30, 20, np.nan, 99]}
    )
    direct = rows.assign(
        home=known(rows.home, data.home),
        plan=known(rows.plan, data.plan),
    )
    assert len(set(model.predict(direct).round(6))) > 3
    np.testing.assert_allclose(answers(place, rows), model.predict(direct))


def test_lightgbm_categories_of_booleans_and_fractions_are_values_too(tmp_path):
    data = frame(flag=pd.Categorical(PLANS == 20), rate=pd.Categorical(PLANS / 4))
    model = trained(tmp_path, data)
    manifest, place = packaged(tmp_path, tmp_path / "model.txt")
    assert [(f.type, f.enum) for f in manifest.contract.inputs[1:]] == [("bool", None), ("float64", (2.5, 5.0, 7.5))]
    rows = pd.DataFrame({"income": [0.5, -0.5, 0.1], "flag": [True, False, True], "rate": [2.5, 7.5, 5.0]})
    direct = rows.assign(flag=pd.Categorical(rows.flag), rate=pd.Categorical(rows.rate, categories=[2.5, 5.0, 7.5]))
    np.testing.assert_allclose(answers(place, rows), model.predict(direct))


def test_lightgbm_codes_of_an_ordered_column_are_found_though_it_is_none_of_categories_to_the_trees(tmp_path):
    sizes = pd.Categorical(RANDOM.choice(["S", "M", "L"], COUNT), categories=["S", "M", "L"], ordered=True)
    data = frame(home=pd.Categorical(HOMES), size=sizes)
    model = trained(tmp_path, data)
    manifest, place = packaged(tmp_path, tmp_path / "model.txt")
    assert {f.name: f.enum for f in manifest.contract.inputs}["size"] == ("S", "M", "L")
    rows = asked({"home": ["own", "rent", None], "size": ["L", "S", None]})
    direct = rows.assign(
        home=known(rows.home, data.home),
        size=pd.Categorical(rows["size"], categories=["S", "M", "L"], ordered=True),
    )
    np.testing.assert_allclose(answers(place, rows), model.predict(direct))


def ambiguous(folder):
    """Train on an ordered column of text and on a flag, which look the same in the file."""
    data = frame(
        flag=RANDOM.integers(0, 2, COUNT), size=pd.Categorical(HOMES, ordered=True), home=pd.Categorical(HOMES)
    )
    data["size"] = pd.Categorical(np.where(INCOME > 0, "big", "small"), ordered=True)
    return data, trained(folder, data)


def test_lightgbm_categories_that_may_be_of_several_columns_are_refused(tmp_path):
    ambiguous(tmp_path)
    with pytest.raises(InvalidPackage, match="does not say which of its features"):
        packaged(tmp_path, tmp_path / "model.txt")


def test_a_sample_tells_whose_the_categories_are(tmp_path):
    data, model = ambiguous(tmp_path)
    data.to_csv(tmp_path / "sample.csv", index=False)
    manifest, place = packaged(tmp_path, tmp_path / "model.txt", tmp_path / "sample.csv")
    assert {f.name: f.enum for f in manifest.contract.inputs}["size"] == ("big", "small")
    np.testing.assert_allclose(answers(place, data[:9]), model.predict(data[:9]))


@pytest.mark.parametrize("tail", ["[[1,2", '[["a","a"]]', "[[null]]", '{"a": 1}'])
def test_lightgbm_categories_that_are_damaged_are_refused(tmp_path, tail):
    trained(tmp_path, frame(home=pd.Categorical(HOMES)))
    file = tmp_path / "model.txt"
    file.write_text(re.sub(r"pandas_categorical:.*", f"pandas_categorical:{tail}", file.read_text()))
    with pytest.raises(InvalidPackage, match="damaged"):
        backend("lightgbm").describe(file)


def test_a_category_that_lightgbm_does_not_know_is_a_missing_one_where_the_contract_lets_it_through(tmp_path):
    trained(tmp_path, frame(home=pd.Categorical(HOMES)))
    _, place = packaged(tmp_path, tmp_path / "model.txt")
    file = place / "model.yaml"
    file.write_text(re.sub(r", enum: \[.*\]", "", file.read_text()))
    found = answers(place, pd.DataFrame({"income": [0.5, 0.5], "home": ["never", None]}))
    assert found[0] == found[1]


def xgboost_classifier(folder, data, name="model.json"):
    model = xgboost.XGBClassifier(n_estimators=6, max_depth=4, enable_categorical=True, n_jobs=1, max_cat_to_onehot=2)
    model.fit(data, TARGET).save_model(folder / name)
    return model


@pytest.mark.parametrize("name", ["model.json", "model.ubj"])
def test_xgboost_takes_the_categories_of_a_data_frame_by_their_values(tmp_path, name):
    data = frame(home=pd.Categorical(HOMES), plan=pd.Categorical(PLANS))
    model = xgboost_classifier(tmp_path, data, name)
    manifest, place = packaged(tmp_path, tmp_path / name)
    assert {f.name: (f.type, f.enum) for f in manifest.contract.inputs} == {
        "income": ("float32", None),
        "home": ("string", ("own", "rent", "with others")),
        "plan": ("float64", (10, 20, 30)),
    }
    rows = asked({"home": ["own", "rent", "with others", None, "rent", None], "plan": [10, 20, 30, 20, np.nan, np.nan]})
    direct = rows.assign(
        home=known(rows.home, data.home),
        plan=known(rows.plan, data.plan),
    )
    np.testing.assert_allclose(answers(place, rows), model.predict_proba(direct)[:, 1], rtol=1e-5)


def test_xgboost_which_takes_no_unknown_category_needs_a_contract_that_takes_none(tmp_path):
    xgboost_classifier(tmp_path, frame(home=pd.Categorical(HOMES)))
    _, place = packaged(tmp_path, tmp_path / "model.json")
    file = place / "model.yaml"
    file.write_text(file.read_text().replace("enum: [own, ", "enum: [flat, own, "))
    with pytest.raises(InvalidPackage, match=r"inputs\[1\].enum: must list categories of the model only: own, rent"):
        load(place, read_manifest(place))


def test_xgboost_categories_beyond_ascii_which_its_files_cut_are_refused(tmp_path):
    xgboost_classifier(tmp_path, frame(home=pd.Categorical(np.where(INCOME > 0, "Köln", "Århus"))))
    with pytest.raises(InvalidPackage, match="feature 1 hold letters beyond ASCII"):
        backend("xgboost").describe(tmp_path / "model.json")


def changed(stored):
    stored["sorted_idx"][0] = 7


def shortened(stored):
    stored["feature_segments"][-1] = 1


def twice(stored):
    stored["enc"][1] = {"type": 15, "values": [10, 10, 30]}


def outside(stored):
    stored["enc"][1]["offsets"][-1] = 99


@pytest.mark.parametrize("lie", [changed, shortened, twice, outside])
def test_b95_xgboost_categories_that_lie_are_refused(tmp_path, lie):
    xgboost_classifier(tmp_path, frame(home=pd.Categorical(HOMES)))
    file = tmp_path / "model.json"
    model = json.loads(file.read_text())
    lie(model["learner"]["gradient_booster"]["model"]["cats"])
    file.write_text(json.dumps(model))
    with pytest.raises(InvalidPackage, match="damaged"):
        backend("xgboost").describe(file)


@pytest.mark.parametrize("settings", [{}, {"booster": "dart"}, {"num_parallel_tree": 3}], ids=str)
def test_xgboost_answers_with_the_trees_up_to_the_best_round_of_early_stopping(tmp_path, settings):
    data = frame(plan=PLANS * 1.0)
    model = xgboost.XGBClassifier(n_estimators=40, learning_rate=0.9, early_stopping_rounds=3, n_jobs=1, **settings)
    noise = RANDOM.permutation(TARGET)
    model.fit(data[:150], noise[:150], eval_set=[(data[150:], noise[150:])], verbose=False)
    assert model.best_iteration + 1 < model.get_booster().num_boosted_rounds()
    model.save_model(tmp_path / "model.json")
    _, place = packaged(tmp_path, tmp_path / "model.json")
    np.testing.assert_allclose(answers(place, data), model.predict_proba(data)[:, 1], rtol=1e-5)


def test_an_xgboost_booster_answers_with_all_its_trees_as_it_does_by_itself(tmp_path):
    data = xgboost.DMatrix(frame(), RANDOM.permutation(TARGET))
    model = xgboost.train({"eta": 0.9, "nthread": 1}, data, 40, evals=[(data, "same")], verbose_eval=False)
    model.set_attr(best_iteration="3")
    model.save_model(tmp_path / "model.json")
    _, place = packaged(tmp_path, tmp_path / "model.json")
    np.testing.assert_allclose(answers(place, frame()), model.predict(data), rtol=1e-5)


def test_xgboost_takes_the_number_for_missing_that_its_file_says(tmp_path):
    data = frame(plan=np.where(PLANS == 20, -999.0, PLANS))
    model = xgboost.XGBClassifier(n_estimators=6, missing=-999.0, n_jobs=1).fit(data, TARGET)
    booster = model.get_booster()
    booster.set_attr(scikit_learn=json.dumps({"missing": -999.0}))
    booster.save_model(tmp_path / "model.json")
    _, place = packaged(tmp_path, tmp_path / "model.json")
    np.testing.assert_allclose(answers(place, data), model.predict_proba(data)[:, 1], rtol=1e-5)
