"""XGBoost and LightGBM: kinds of models, missing values, and files whose trees lie."""

import json
import re

import lightgbm
import numpy as np
import pytest
import xgboost

from limen.contracts.contract import Contract, Field
from limen.contracts.errors import InvalidPackage
from limen.contracts.tensors import TensorSpec
from limen.packaging.manifest.values import Manifest
from limen.runtime.backends import backend
from limen.runtime.backends.files.ubjson import decode
from tests.conformance.backends.conftest import X, Y

CATEGORIES = np.column_stack([X[:, 0], np.arange(150) % 12])
GAPS = X.copy()
GAPS[::3, 2] = np.nan


def load(folder, kind, name):
    contract = Contract(
        name="m", inputs=(Field(name="X", type="float32"),), outputs=(Field(name="prediction", type="float32"),)
    )
    return backend(kind).load(folder, Manifest(contract=contract, backend=kind, artifact=name))


def train_xgboost(folder, name="model.json", data=X, target=Y, types=None, **settings):
    matrix = xgboost.DMatrix(data, target, feature_types=types, enable_categorical=types is not None)
    model = xgboost.train({"max_depth": 3, "nthread": 1, "verbosity": 0} | settings, matrix, 3)
    model.save_model(folder / name)
    return model


def train_lightgbm(folder, data=X, target=Y, categorical="auto", **settings):
    fixed = {"num_leaves": 4, "num_threads": 1, "verbosity": -1, "min_data_per_group": 1, "min_data_in_leaf": 5}
    model = lightgbm.train(fixed | settings, lightgbm.Dataset(data, target, categorical_feature=categorical), 3)
    model.save_model(folder / "model.txt")
    return model


def brief(settings: dict) -> str:
    """Return settings as the name of a test, without the data."""
    return "-".join(f"{k}={v}" if isinstance(v, (str, int, float)) else k for k, v in settings.items())


@pytest.mark.parametrize("name", ["model.json", "model.ubj"])
@pytest.mark.parametrize(
    "settings",
    [
        {"objective": "reg:squarederror"},
        {"objective": "binary:logistic", "target": Y > 1},
        {"objective": "multi:softmax", "num_class": 3},
        {"objective": "reg:squarederror", "data": GAPS},
        {"objective": "reg:squarederror", "booster": "dart"},
        {"objective": "reg:squarederror", "data": CATEGORIES, "types": ["q", "c"]},
        {"objective": "reg:squarederror", "num_parallel_tree": 2},
        {"objective": "reg:squarederror", "gamma": 5.0},
        {"objective": "reg:squarederror", "target": X[:, :2]},
        {"objective": "rank:pairwise"},
        {"objective": "reg:squarederror", "booster": "gblinear"},
        {"objective": "binary:logistic", "booster": "gblinear", "target": Y > 1, "data": GAPS},
    ],
    ids=brief,
)
def test_xgboost_models_of_many_kinds_give_their_own_numbers(tmp_path, name, settings):
    model = train_xgboost(tmp_path, name, **settings)
    data = settings.get("data", X).astype(np.float32)
    answer = load(tmp_path, "xgboost", name).predict({"X": data}, {})["prediction"]
    types = settings.get("types")
    direct = model.predict(xgboost.DMatrix(data, feature_types=types, enable_categorical=types is not None))
    np.testing.assert_allclose(answer, direct, rtol=1e-5)


@pytest.mark.parametrize(
    "settings",
    [
        {"objective": "regression"},
        {"objective": "binary", "target": Y > 1},
        {"objective": "regression", "data": GAPS},
        {"objective": "regression", "boosting": "dart"},
        {"objective": "regression", "boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5},
        {"objective": "regression", "data": CATEGORIES, "categorical": [1]},
        {"objective": "regression", "target": np.ones(150)},
        {"objective": "quantile"},
    ],
    ids=brief,
)
def test_lightgbm_models_of_many_kinds_give_their_own_numbers(tmp_path, settings):
    model = train_lightgbm(tmp_path, **settings)
    data = settings.get("data", X)
    answer = load(tmp_path, "lightgbm", "model.txt").predict({"X": data}, {})["prediction"]
    np.testing.assert_allclose(answer, model.predict(data, num_threads=1))


def test_a_model_of_one_number_a_row_says_so(tmp_path):
    train_xgboost(tmp_path)
    train_lightgbm(tmp_path)
    assert load(tmp_path, "xgboost", "model.json").signature.outputs == (TensorSpec("prediction", "float32", (-1,)),)
    assert load(tmp_path, "lightgbm", "model.txt").signature.outputs == (TensorSpec("prediction", "float64", (-1,)),)


def test_names_that_lightgbm_made_up_are_no_names(tmp_path):
    train_lightgbm(tmp_path)
    assert load(tmp_path, "lightgbm", "model.txt").signature.inputs == (
        TensorSpec("X", "float64", (-1, 4), nullable=True),
    )


def test_xgboost_models_that_cannot_be_served_are_refused_with_a_way_out(tmp_path):
    train_xgboost(tmp_path, multi_strategy="multi_output_tree", target=X[:, :2])
    with pytest.raises(InvalidPackage, match="several targets"):
        load(tmp_path, "xgboost", "model.json")


def test_lightgbm_models_that_cannot_be_served_are_refused_with_a_way_out(tmp_path):
    train_lightgbm(tmp_path, objective="regression", linear_tree=True)
    with pytest.raises(InvalidPackage, match="linear trees"):
        load(tmp_path, "lightgbm", "model.txt")


def first(key, number):
    """Return how to change the first number of one list of a tree."""

    def change(tree):
        tree[key][0] = number

    return change


LIES = {
    "a child that is not there": first("left_children", 999),
    "a child that is the root": first("left_children", 0),
    "a child with two parents": first("right_children", 1),
    "a child before the first": first("right_children", -5),
    "a feature that is not there": first("split_indices", 4),
    "a parent that is not there": first("parents", 12345),
    "a number too few": lambda tree: tree["split_conditions"].pop(),
    "a list too few": lambda tree: tree.pop("default_left"),
    "too many nodes": lambda tree: tree["tree_param"].update(num_nodes="100000000"),
    "too many features": lambda tree: tree["tree_param"].update(num_feature="9"),
    "text for numbers": lambda tree: tree.update(left_children="abc"),
    "a huge category": lambda tree: tree.update(
        categories=[1 << 30], categories_nodes=[0], categories_segments=[0], categories_sizes=[1]
    ),
}


@pytest.mark.parametrize("change", LIES.values(), ids=LIES)
def test_b95_xgboost_trees_that_lie_are_refused(tmp_path, change):
    train_xgboost(tmp_path, objective="reg:squarederror")
    file = tmp_path / "model.json"
    model = json.loads(file.read_text())
    change(model["learner"]["gradient_booster"]["model"]["trees"][0])
    file.write_text(json.dumps(model))
    with pytest.raises(InvalidPackage, match="damaged"):
        load(tmp_path, "xgboost", "model.json")


@pytest.mark.parametrize(
    "change",
    [
        (r"left_child=\S+", "left_child=999"),
        (r"left_child=\S+", "left_child=0"),
        (r"right_child=(.*?)-\d+\n", r"right_child=\1-999\n"),
        (r"split_feature=\d+", "split_feature=9"),
        (r"split_feature=\d+", "split_feature=x"),
        (r"threshold=\S+", "threshold=1e"),
        (r"leaf_value=\S+ ", "leaf_value="),
        (r"num_leaves=\d+", "num_leaves=100000000"),
        (r"decision_type=\d+", "decision_type=3"),
        (r"max_feature_idx=3", "max_feature_idx=300"),
        (r"num_class=1", "num_class=7"),
        (r"tree_sizes=\d+", "tree_sizes=1"),
        (r"Tree=0", "Tree=1"),
    ],
    ids=str,
)
def test_b95_lightgbm_trees_that_lie_are_refused(tmp_path, change):
    train_lightgbm(tmp_path, objective="regression")
    file = tmp_path / "model.txt"
    text = file.read_text()
    changed = re.sub(*change, text, count=1)
    # The sizes of the trees are put right, so that what is refused is the lie itself.
    size = len(text) - len(changed)
    if change[0] not in (r"tree_sizes=\d+", r"max_feature_idx=3"):
        changed = re.sub(r"tree_sizes=(\d+)", lambda m: f"tree_sizes={int(m[1]) - size}", changed)
    file.write_text(changed)
    with pytest.raises(InvalidPackage, match="damaged"):
        load(tmp_path, "lightgbm", "model.txt")


def test_ubjson_is_read_as_json_is(tmp_path):
    model = train_xgboost(tmp_path)
    model.save_model(tmp_path / "model.ubj")

    def plain(value):
        if isinstance(value, dict):
            return {key: plain(inner) for key, inner in value.items()}
        if isinstance(value, (list, np.ndarray)):
            return [plain(inner) for inner in value]
        return round(float(value), 3) if isinstance(value, (float, np.floating)) else value

    as_json = json.loads((tmp_path / "model.json").read_text())
    assert plain(decode((tmp_path / "model.ubj").read_bytes())) == plain(as_json)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{",
        b"{}x",
        b"{L" + bytes(7) + b"\x01a",
        b"{L" + b"\xff" * 8 + b"a",
        b"{i\x01aZ}",
        b"{L" + bytes(7) + b"\x01a?}",
        b"{L" + bytes(7) + b"\x01aZL" + bytes(7) + b"\x01aZ}",
        b"{L" + bytes(7) + b"\x01a[$S#L" + bytes(8) + b"}",
        b"{L" + bytes(7) + b"\x01a[$d#L\x00\x00\x00\x00\x00\x00\x00\x09}",
        b"{L" + bytes(7) + b"\x01a" + b"[" * 100 + b"}",
    ],
)
def test_ubjson_that_is_damaged_is_refused(data):
    with pytest.raises(ValueError, match=r"."):
        decode(data)
