"""scikit-learn through skops: which estimators are taken, what they answer, and trees that lie."""

import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
    StackingClassifier,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from limen.contracts.contract import Contract, Field
from limen.contracts.errors import InvalidPackage, Reason
from limen.contracts.tensors import TensorSpec
from limen.packaging.manifest.values import Bind, Manifest
from limen.runtime.backends import backend
from limen.runtime.binding.binding import compile_binding
from tests.conformance.backends.conftest import X, Y

ANSWERS = (
    ("label", "int64", ()),
    ("probabilities", "float64", (3,)),
    ("value", "float64", ()),
    ("score", "float64", ()),
    ("transformed", "float64", (2,)),
)


def manifest(outputs, inputs=None, bind=None) -> Manifest:
    fields = tuple(Field(name=n, type=t, shape=s) for n, t, s in ANSWERS if n in outputs)
    contract = Contract(name="m", inputs=inputs or (Field(name="X", type="float64", shape=(4,)),), outputs=fields)
    return Manifest(contract=contract, backend="sklearn", artifact="model.skops", bind=bind or Bind())


def load(folder, estimator, outputs=("label",), **more):
    skops.io.dump(estimator, folder / "model.skops")
    return backend("sklearn").load(folder, manifest(outputs, **more))


@pytest.fixture
def rows():
    """The data as it comes from the network: not to be written to."""
    data = X.copy()
    data.flags.writeable = False
    return data


@pytest.mark.parametrize(
    "estimator",
    [
        LogisticRegression(max_iter=300),
        RandomForestClassifier(3, n_jobs=2, random_state=0),
        ExtraTreesClassifier(3, random_state=0),
        GradientBoostingClassifier(n_estimators=2),
        HistGradientBoostingClassifier(max_iter=2),
        DecisionTreeClassifier(max_leaf_nodes=4),
        BaggingClassifier(DecisionTreeClassifier(max_depth=2), 3, max_features=2, random_state=0),
        AdaBoostClassifier(n_estimators=2),
        StackingClassifier([("a", LogisticRegression(max_iter=300)), ("b", DecisionTreeClassifier(max_depth=2))]),
        make_pipeline(StandardScaler(), MLPClassifier((4,), max_iter=400, tol=0.01, random_state=0)),
        KNeighborsClassifier(algorithm="brute"),
        GaussianProcessClassifier(),
    ],
    ids=lambda e: type(e).__name__,
)
def test_classifiers_give_labels_and_probabilities(tmp_path, rows, estimator):
    estimator.fit(X, Y)
    model = load(tmp_path, estimator, ("label", "probabilities"))
    assert model.signature.outputs[1] == TensorSpec("probabilities", "float64", (-1, 3), ("0", "1", "2"))
    answer = model.predict({"X": rows}, {})
    assert answer["label"].tolist() == estimator.predict(X).tolist()
    np.testing.assert_allclose(answer["probabilities"], estimator.predict_proba(X))


def test_a_classifier_without_probabilities_gives_labels(tmp_path, rows):
    estimator = SVC().fit(X, Y)
    model = load(tmp_path, estimator)
    assert [(t.name, t.shape) for t in model.signature.outputs] == [("label", (-1,)), ("score", (-1, 3))]
    assert model.predict({"X": rows}, {})["label"].tolist() == estimator.predict(X).tolist()


@pytest.mark.parametrize("targets", [1, 2])
def test_regressors_give_values(tmp_path, rows, targets):
    wanted = X[:, :targets] if targets > 1 else X[:, 0]
    estimator = RandomForestRegressor(2, random_state=0).fit(X, wanted)
    model = load(tmp_path, estimator, ("value",))
    assert model.signature.outputs == (TensorSpec("value", "float64", (-1,) if targets == 1 else (-1, 2)),)
    np.testing.assert_allclose(model.predict({"X": rows}, {})["value"], estimator.predict(X))


def test_clusterers_detectors_and_transformers_answer_in_their_ways(tmp_path, rows):
    clusters = KMeans(2, n_init=1, random_state=0).fit(X)
    assert load(tmp_path, clusters).predict({"X": rows}, {})["label"].tolist() == clusters.predict(X).tolist()
    detector = IsolationForest(n_estimators=3, random_state=0).fit(X)
    answer = load(tmp_path, detector, ("label", "score")).predict({"X": rows}, {})
    np.testing.assert_allclose(answer["score"], detector.decision_function(X))
    reduction = PCA(2).fit(X)
    model = load(tmp_path, reduction, ("transformed",))
    assert model.signature.outputs == (TensorSpec("transformed", "float64", (-1, 2)),)
    np.testing.assert_allclose(model.predict({"X": rows}, {})["transformed"], reduction.transform(X))


def table():
    """Return loans: numbers and categories, and whether they went bad."""
    return pd.DataFrame({"Loan amount": [100.0, 900.0, 200.0, 800.0], "grade": ["a", "b", "a", "b"]}), [0, 1, 0, 1]


def fitted_on_a_table():
    data, bad = table()
    columns = ColumnTransformer([("n", StandardScaler(), ["Loan amount"]), ("c", OneHotEncoder(), ["grade"])])
    return make_pipeline(columns, LogisticRegression()).fit(data, bad)


def test_an_estimator_fitted_on_a_table_takes_its_columns(tmp_path):
    estimator = fitted_on_a_table()
    inputs = (Field(name="amount", type="float32"), Field(name="grade", type="string"))
    bind = Bind(inputs={"Loan amount": "amount"})
    model = load(tmp_path, estimator, ("label",), inputs=inputs, bind=bind)
    assert model.signature.inputs == (TensorSpec("Loan amount", "float32", (-1,)), TensorSpec("grade", "string", (-1,)))
    pack = compile_binding(manifest(("label",), inputs, bind), model.signature).pack
    packed = pack({"amount": np.array([150, 850], np.float32), "grade": np.array(["a", "b"], object)})
    assert model.predict(packed, {})["label"].tolist() == [0, 1]


def test_columns_have_the_types_of_an_encoder_or_of_a_sample_and_numbers_are_wide(tmp_path):
    skops.io.dump(fitted_on_a_table(), tmp_path / "model.skops")
    sample = {"Loan amount": np.array([1, 2]), "grade": np.array(["a", "b"], object)}
    signature = backend("sklearn").describe(tmp_path / "model.skops", sample)
    assert [t.type for t in signature.inputs] == ["float64", "string"]
    assert signature.outputs[1].shape == (-1, 2)


def test_an_estimator_of_documents_takes_text(tmp_path):
    texts = ["good film", "bad film", "good day", "bad day"]
    estimator = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(texts, [1, 0, 1, 0])
    model = load(tmp_path, estimator, inputs=(Field(name="text", type="string"),))
    assert model.signature.inputs == (TensorSpec("text", "string", (-1,)),)
    assert model.predict({"text": np.array(["a good one", "so bad"], object)}, {})["label"].tolist() == [1, 0]


def test_work_is_done_on_one_thread(tmp_path):
    """A model must not start a pool for every request."""
    estimator = make_pipeline(StandardScaler(), RandomForestClassifier(2, n_jobs=4)).fit(X, Y)
    skops.io.dump(estimator, tmp_path / "model.skops")
    from limen.runtime.backends.sklearn import read_estimator

    assert read_estimator(tmp_path / "model.skops").steps[1][1].n_jobs == 1


class Custom(LinearRegression):
    """An estimator of somebody's own."""


@pytest.mark.parametrize(
    ("estimator", "named"),
    [
        (Custom().fit(X, Y), "Custom"),
        (make_pipeline(FunctionTransformer(pd.isna), LinearRegression()).fit(X, Y), "pandas"),
    ],
)
def test_b95_types_that_are_not_plain_are_refused_by_name(tmp_path, estimator, named):
    with pytest.raises(InvalidPackage, match=named) as caught:
        load(tmp_path, estimator)
    assert caught.value.reason is Reason.UNSAFE_FORMAT


def forged(estimator, **changes):
    """Return the fitted tree with numbers of its nodes changed."""
    from sklearn.tree._tree import Tree

    tree = estimator.tree_
    state = tree.__getstate__()
    for key, (node, number) in changes.items():
        state["nodes"][key][node] = number
    made = Tree(*tree.__reduce__()[1])
    made.__setstate__(state)
    estimator.tree_ = made
    return estimator


@pytest.mark.parametrize(
    "change",
    [
        {"left_child": (0, 1 << 40)},
        {"left_child": (0, 0)},
        {"right_child": (0, -7)},
        {"right_child": (0, 1)},
        {"feature": (0, 1 << 40)},
        {"feature": (0, -2)},
    ],
    ids=str,
)
def test_b95_a_tree_whose_numbers_lead_nowhere_is_refused(tmp_path, change):
    with pytest.raises(InvalidPackage, match="damaged"):
        load(tmp_path, forged(DecisionTreeClassifier(max_depth=2).fit(X, Y), **change))


def test_b95_a_forest_whose_trees_count_other_features_is_refused(tmp_path):
    forest = RandomForestClassifier(2, random_state=0).fit(X, Y)
    forest.estimators_[0] = DecisionTreeClassifier(max_depth=2).fit(np.tile(X, 3), Y)
    with pytest.raises(InvalidPackage, match="other features than its ensemble"):
        load(tmp_path, forest)


@pytest.mark.parametrize("change", [("left", 0, 0), ("right", 0, 1 << 30), ("feature_idx", 0, 1 << 40)], ids=str)
def test_b95_a_histogram_tree_whose_numbers_lead_nowhere_is_refused(tmp_path, change):
    estimator = HistGradientBoostingClassifier(max_iter=1).fit(X, Y)
    key, node, number = change
    estimator._predictors[0][0].nodes[key][node] = number
    with pytest.raises(InvalidPackage, match="damaged"):
        load(tmp_path, estimator)
