"""Everyday scikit-learn by skops: what people fit on data frames is taken as it is, and answers as the original does."""

import json
import zipfile
from functools import partial

import numpy as np
import pandas as pd
import pytest
import skops.io
import xgboost
from lightgbm import LGBMClassifier, LGBMRegressor
from scipy import stats
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import KMeans
from sklearn.compose import TransformedTargetRegressor, make_column_selector, make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, VotingClassifier
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import KernelDensity, KNeighborsClassifier, KNeighborsRegressor, LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from limen.contracts.contract import Contract, Field
from limen.contracts.errors import InvalidPackage, Reason
from limen.contracts.validation.records import RecordCodec
from limen.packaging.manifest.decoder import decode_manifest
from limen.packaging.manifest.scaffold import scaffold
from limen.packaging.manifest.values import Manifest
from limen.runtime.backends import backend
from limen.runtime.backends.sklearn import read_estimator
from limen.runtime.binding.binding import compile_binding
from limen.runtime.execution import load, run
from tests.conformance.backends.conftest import X, Y

COUNT = 120


def frame() -> pd.DataFrame:
    """Return people: text, whole numbers and numbers, some of them missing."""
    random = np.random.default_rng(3)
    data = pd.DataFrame(
        {
            "home": random.choice(["own", "rent", "other"], COUNT),
            "age": random.integers(20, 70, COUNT),
            "income": random.normal(5, 2, COUNT),
        }
    )
    data.loc[::7, "income"] = np.nan
    return data


def target(data: pd.DataFrame) -> np.ndarray:
    return ((data.home == "rent") ^ (data.age > 45)).to_numpy().astype(int)


def prepared(**encoder):
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    return make_column_transformer((numbers, ["age", "income"]), (OneHotEncoder(**encoder), ["home"]))


def describe(folder, estimator, sample=None):
    skops.io.dump(estimator, folder / "model.skops")
    return backend("sklearn").describe(folder / "model.skops", sample)


def answers(folder, estimator, rows: list[dict]) -> dict[str, np.ndarray]:
    """Scaffold a package from the estimator alone and ask it as a replica does."""
    signature = describe(folder, estimator)
    text = scaffold("people", "sklearn", "model.skops", signature).text
    manifest = decode_manifest(text)
    (folder / "model.yaml").write_text(text)
    model, binding = load(folder, manifest)
    taken = {field.name for field in manifest.contract.inputs}
    rows = [{name: value for name, value in row.items() if name in taken} for row in rows]
    return run(model, binding, RecordCodec(manifest.contract).tensors(rows), {}, len(rows), 100)


def records(data: pd.DataFrame) -> list[dict]:
    return [{k: None if pd.isna(v) else v for k, v in row.items()} for row in data.to_dict("records")]


by_type = make_column_transformer(
    (make_pipeline(SimpleImputer(), StandardScaler()), make_column_selector(dtype_include="number")),
    (OneHotEncoder(), make_column_selector(dtype_exclude="number")),
)
search = partial(GridSearchCV, param_grid={"logisticregression__C": [0.1, 1.0]}, cv=2, scoring="roc_auc")
classifiers = {
    "xgboost": lambda: make_pipeline(prepared(), xgboost.XGBClassifier(n_estimators=4)),
    "lightgbm": lambda: make_pipeline(prepared(), LGBMClassifier(n_estimators=4, verbose=-1)),
    "selectors": lambda: make_pipeline(by_type, LogisticRegression()),
    "a function of one's own that chose columns": lambda: make_pipeline(
        make_column_transformer((SimpleImputer(), lambda data: ["age", "income"])), LogisticRegression()
    ),
    "a search": lambda: search(make_pipeline(prepared(), LogisticRegression())),
    "a search over distributions": lambda: RandomizedSearchCV(
        make_pipeline(prepared(), LogisticRegression()),
        {"logisticregression__C": stats.loguniform(0.1, 1)},
        n_iter=2,
        cv=2,
    ),
    "neighbours": lambda: make_pipeline(prepared(), KNeighborsClassifier(3)),
    "votes": lambda: make_pipeline(
        prepared(),
        VotingClassifier([("a", LogisticRegression()), ("b", DecisionTreeClassifier(max_depth=2))], voting="soft"),
    ),
    "calibration": lambda: CalibratedClassifierCV(make_pipeline(prepared(), LogisticRegression()), cv=2),
    "functions": lambda: make_pipeline(
        make_column_transformer((make_pipeline(SimpleImputer(), FunctionTransformer(np.log1p)), ["income"])), SVC()
    ),
    "ordinals": lambda: make_pipeline(
        make_column_transformer(
            (OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), ["home"]), remainder="passthrough"
        ),
        HistGradientBoostingClassifier(max_iter=3),
    ),
}


@pytest.mark.parametrize("name", classifiers)
def test_what_was_fitted_on_a_data_frame_answers_as_the_original(tmp_path, name):
    data = frame()
    estimator = classifiers[name]().fit(data, target(data))
    found = answers(tmp_path, estimator, records(data))
    assert found["label"].tolist() == estimator.predict(data).tolist()
    if hasattr(estimator, "predict_proba"):
        np.testing.assert_allclose(found["probabilities"], estimator.predict_proba(data), rtol=1e-6)
    else:
        np.testing.assert_allclose(found["score"], estimator.decision_function(data))


def test_categories_from_the_types_of_a_data_frame_are_taken_as_text(tmp_path):
    data = frame()
    data["home"] = data["home"].where(data.index % 5 != 0).astype("category")
    for estimator in (
        HistGradientBoostingClassifier(max_iter=5, categorical_features="from_dtype"),
        LGBMClassifier(n_estimators=5, verbose=-1, min_child_samples=2),
    ):
        estimator.fit(data, target(frame()))
        found = answers(tmp_path, estimator, records(data))
        np.testing.assert_allclose(found["probabilities"], estimator.predict_proba(data))


@pytest.mark.parametrize(
    ("encoder", "enum", "nullable"),
    [
        ({}, ("other", "own", "rent"), False),
        ({"handle_unknown": "ignore"}, (), True),
        ({"categories": [["rent", "own", "other", "boat"]]}, ("rent", "own", "other", "boat"), False),
    ],
    ids=["closed", "open", "declared"],
)
def test_an_encoder_says_which_values_a_column_takes(tmp_path, encoder, enum, nullable):
    data = frame()
    signature = describe(tmp_path, make_pipeline(prepared(**encoder), LogisticRegression()).fit(data, target(data)))
    home, age, income = signature.inputs
    assert (home.type, home.categories, home.nullable) == ("string", enum, nullable)
    assert [(t.type, t.nullable) for t in (age, income)] == [("float64", True)] * 2


def test_a_column_that_is_not_imputed_takes_no_missing_value(tmp_path):
    data = frame().assign(income=1.0)
    columns = make_column_transformer((SimpleImputer(), ["age"]), ("passthrough", ["income"]))
    signature = describe(tmp_path, make_pipeline(columns, LogisticRegression()).fit(data, target(data)))
    assert {t.name: t.nullable for t in signature.inputs} == {"age": True, "income": False}


def test_a_column_that_the_model_drops_need_not_be_sent_but_may(tmp_path):
    data = frame().assign(income=1.0)
    estimator = make_pipeline(make_column_transformer((SimpleImputer(), ["age"])), LogisticRegression())
    estimator.fit(data, target(data))
    assert [t.name for t in describe(tmp_path, estimator).inputs] == ["age"]
    fields = tuple(Field(name=name, type=t) for name, t in (("age", "float64"), ("home", "string")))
    contract = Contract(name="m", inputs=fields, outputs=(Field(name="label", type="int64"),))
    manifest = Manifest(contract=contract, backend="sklearn", artifact="model.skops")
    model = backend("sklearn").load(tmp_path, manifest)
    pack = compile_binding(manifest, model.signature).pack
    asked = pack({"age": np.array([30.0, 60.0]), "home": np.array(["own", "rent"], object)})
    assert model.predict(asked, {})["label"].tolist() == estimator.predict(data.assign(age=[30, 60] * 60))[:2].tolist()


def test_whole_numbers_and_booleans_that_an_encoder_knows_keep_their_type(tmp_path):
    data = pd.DataFrame({"code": [10, 20, 30, 10], "vip": [True, False, True, False]})
    estimator = make_pipeline(make_column_transformer((OneHotEncoder(), ["code", "vip"])), LogisticRegression())
    code, vip = describe(tmp_path, estimator.fit(data, [0, 1, 0, 1])).inputs
    assert (code.type, code.categories) == ("int64", (10, 20, 30))
    assert (vip.type, vip.nullable) == ("bool", False)


@pytest.mark.parametrize("marker", [None, np.nan], ids=str)
def test_a_missing_text_is_what_it_was_in_training(tmp_path, marker):
    data = pd.DataFrame({"home": pd.Series(["own", "rent", marker, "own"], dtype=object)})
    estimator = make_pipeline(OneHotEncoder(), DecisionTreeClassifier()).fit(data, [0, 1, 2, 0])
    found = answers(tmp_path, estimator, [{"home": None}, {"home": "rent"}])
    assert found["label"].tolist() == [2, 1]


def test_an_array_of_texts_and_numbers_is_taken_column_by_column(tmp_path):
    data = frame()[["home", "age"]].to_numpy(object)
    columns = make_column_transformer((OneHotEncoder(), [0]), ("passthrough", [1]))
    estimator = make_pipeline(columns, LogisticRegression()).fit(data, target(frame()))
    sample = {"home": data[:, 0], "age": data[:, 1].astype(float)}
    first, second = describe(tmp_path, estimator, sample).inputs
    assert [(t.name, t.type, t.columns) for t in (first, second)] == [
        ("x0", "string", ("home",)),
        ("x1", "float64", ("age",)),
    ]
    found = answers(tmp_path, estimator, [{"x0": h, "x1": a} for h, a in data[:9]])
    assert found["label"].tolist() == estimator.predict(data[:9]).tolist()


def test_a_pipeline_that_begins_with_nothing_still_takes_its_columns(tmp_path):
    data = frame()[["age"]]
    estimator = make_pipeline("passthrough", StandardScaler(), LogisticRegression()).fit(data, target(frame()))
    assert [t.name for t in describe(tmp_path, estimator).inputs] == ["age"]


def test_texts_beside_numbers_are_read_as_documents(tmp_path):
    data = pd.DataFrame({"review": ["good", "bad", "good day", "bad day"], "stars": [5.0, 1.0, 4.0, 2.0]})
    columns = make_column_transformer((TfidfVectorizer(), "review"), (StandardScaler(), ["stars"]))
    estimator = make_pipeline(columns, LogisticRegression()).fit(data, ["yes", "no", "yes", "no"])
    assert [t.type for t in describe(tmp_path, estimator).inputs] == ["string", "float64"]
    assert answers(tmp_path, estimator, records(data))["label"].tolist() == ["yes", "no", "yes", "no"]


# -- answers ---------------------------------------------------------------------------------------------------------


def test_what_a_trial_shows_is_the_type_of_an_answer_without_any_sample(tmp_path):
    data = frame()[["age"]]
    label, _ = describe(tmp_path, KMeans(2, n_init=1, random_state=0).fit(data)).outputs
    assert (label.type, label.shape) == ("int32", (-1,))


@pytest.mark.parametrize("classes", [["no", "yes"], [False, True], [3, 7]], ids=str)
def test_a_label_is_one_of_the_classes_and_of_their_type(tmp_path, classes):
    wanted = np.array(classes)[(Y > 0).astype(int)]
    estimator = LogisticRegression(max_iter=500).fit(X, wanted)
    label, probabilities = describe(tmp_path, estimator).outputs
    assert probabilities.columns == tuple(map(str, classes))
    assert label.categories == (() if isinstance(classes[0], bool) else tuple(classes))
    found = answers(tmp_path, estimator, [{"X": row} for row in X.tolist()])
    assert found["label"].tolist() == wanted.tolist() or found["label"].tolist() == estimator.predict(X).tolist()


def test_a_classifier_without_probabilities_gives_its_scores(tmp_path):
    estimator = RidgeClassifier().fit(X, Y)
    found = answers(tmp_path, estimator, [{"X": row} for row in X.tolist()])
    np.testing.assert_allclose(found["score"], estimator.decision_function(X))


@pytest.mark.parametrize(
    "estimator",
    [KNeighborsClassifier(3), DecisionTreeClassifier(max_depth=3), OneVsRestClassifier(LogisticRegression())],
    ids=lambda e: type(e).__name__,
)
def test_a_classifier_of_several_labels_gives_each_and_its_probability(tmp_path, estimator):
    wanted = np.column_stack([Y == 0, Y > 1]).astype(int)
    estimator.fit(X, wanted)
    found = answers(tmp_path, estimator, [{"X": row} for row in X.tolist()])
    assert found["label"].tolist() == estimator.predict(X).tolist()
    expected = estimator.predict_proba(X)
    if isinstance(expected, list):
        expected = np.column_stack([p[:, 1] for p in expected])
    np.testing.assert_allclose(found["probabilities"], expected)


def test_a_classifier_of_several_targets_gives_the_probabilities_of_each(tmp_path):
    wanted = np.column_stack([np.array(["a", "b", "c"])[Y], np.where(Y > 0, "x", "y")])
    estimator = DecisionTreeClassifier(max_depth=2).fit(X, wanted)
    assert [(t.name, t.shape) for t in describe(tmp_path, estimator).outputs] == [
        ("label", (-1, 2)),
        ("probabilities_0", (-1, 3)),
        ("probabilities_1", (-1, 2)),
    ]
    found = answers(tmp_path, estimator, [{"X": row} for row in X.tolist()])
    assert found["label"].tolist() == estimator.predict(X).tolist()
    np.testing.assert_allclose(found["probabilities_1"], estimator.predict_proba(X)[1])


def test_mixtures_and_densities_answer_in_their_ways(tmp_path):
    rows = [{"X": row} for row in X.tolist()]
    mixture = GaussianMixture(2, random_state=0).fit(X)
    np.testing.assert_allclose(answers(tmp_path, mixture, rows)["probabilities"], mixture.predict_proba(X))
    density = KernelDensity(bandwidth=0.7).fit(X, sample_weight=np.arange(1.0, len(X) + 1))
    np.testing.assert_allclose(answers(tmp_path, density, rows)["score"], density.score_samples(X))


@pytest.mark.parametrize("algorithm", ["kd_tree", "ball_tree", "brute"])
def test_neighbours_are_found_again_without_the_stored_tree(tmp_path, algorithm):
    rows = [{"X": row} for row in X.tolist()]
    estimator = KNeighborsRegressor(4, algorithm=algorithm, metric="minkowski", p=1).fit(X, X[:, 0])
    np.testing.assert_allclose(answers(tmp_path, estimator, rows)["value"], estimator.predict(X))
    outliers = LocalOutlierFactor(novelty=True, algorithm=algorithm).fit(X)
    np.testing.assert_allclose(answers(tmp_path, outliers, rows)["score"], outliers.decision_function(X))


def test_a_target_that_was_transformed_is_transformed_back(tmp_path):
    wanted = np.exp(X[:, 0])
    estimator = TransformedTargetRegressor(LinearRegression(), func=np.log, inverse_func=np.exp).fit(X, wanted)
    found = answers(tmp_path, estimator, [{"X": row} for row in X.tolist()])
    np.testing.assert_allclose(found["value"], estimator.predict(X))


@pytest.mark.parametrize(
    "booster",
    [
        xgboost.XGBRegressor(n_estimators=20, early_stopping_rounds=1, learning_rate=1.0),
        xgboost.XGBRFRegressor(n_estimators=3),
        LGBMRegressor(n_estimators=5, verbose=-1),
    ],
    ids=lambda b: type(b).__name__,
)
def test_a_booster_by_skops_answers_as_its_own_class(tmp_path, booster):
    more = {"eval_set": [(X[:20], X[:20, 1])], "verbose": False} if "early_stopping_rounds" in repr(booster) else {}
    booster.fit(X, X[:, 0], **more)
    found = answers(tmp_path, booster, [{"X": row} for row in X.tolist()])
    np.testing.assert_allclose(found["value"], booster.predict(X), rtol=1e-6)


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("estimator", "named"),
    [
        (FunctionTransformer(np.load), "numpy.load"),
        (FunctionTransformer(np.genfromtxt), "genfromtxt"),
        (FunctionTransformer(eval), "eval"),
        (FunctionTransformer(partial(open, "/dev/null")), "open"),
        (FunctionTransformer(lambda data: data), "code is not in the file"),
        (FunctionTransformer(kw_args={"scale": stats.norm(0, 1)}), "run text as code"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_b95_functions_that_reach_out_are_refused_by_name(tmp_path, estimator, named):
    skops.io.dump(make_pipeline(estimator), tmp_path / "model.skops")
    with pytest.raises(InvalidPackage, match=named) as caught:
        read_estimator(tmp_path / "model.skops")
    assert caught.value.reason is Reason.UNSAFE_FORMAT


def test_b95_a_vectorizer_that_opens_the_files_it_is_sent_is_refused(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("good day")
    skops.io.dump(CountVectorizer(input="filename").fit([str(text)]), tmp_path / "model.skops")
    with pytest.raises(InvalidPackage, match="reads the files whose names it is sent"):
        read_estimator(tmp_path / "model.skops")


def forged(source, target, change):
    """Write a copy of a skops file with its schema changed."""
    with zipfile.ZipFile(source) as archive, zipfile.ZipFile(target, "w") as made:
        schema = json.loads(archive.read("schema.json"))
        change(schema)
        for name in archive.namelist():
            made.writestr(name, json.dumps(schema) if name == "schema.json" else archive.read(name))


def nodes(part, name):
    """Yield the nodes of a schema that build a class."""
    if isinstance(part, dict):
        if part.get("__class__") == name:
            yield part
        for value in part.values():
            yield from nodes(value, name)
    elif isinstance(part, list):
        for value in part:
            yield from nodes(value, name)


def test_b95_a_booster_in_another_form_than_it_is_written_is_refused(tmp_path):
    """`Booster(model_file=…)` would read any file, and load it unchecked."""
    skops.io.dump(xgboost.XGBClassifier(n_estimators=1).fit(X, Y > 0), tmp_path / "right.skops")

    def construct(schema):
        [booster] = nodes(schema, "Booster")
        booster["__loader__"] = "ConstructorFromReduceNode"
        booster["content"] = {"__class__": "tuple", "__module__": "builtins", "__loader__": "TupleNode", "content": []}

    forged(tmp_path / "right.skops", tmp_path / "model.skops", construct)
    with pytest.raises(InvalidPackage, match="in a form that is never written"):
        read_estimator(tmp_path / "model.skops")


def test_b95_what_is_checked_of_a_booster_is_what_is_loaded(tmp_path):
    """Objects of one `__id__` are one object to skops: a checked payload must not make way for one that was not."""
    estimator = xgboost.XGBClassifier(n_estimators=1).fit(X, Y > 0)
    estimator.aside = bytearray(b"{not a model")
    skops.io.dump(estimator, tmp_path / "right.skops")

    def alias(schema):
        aside, handle = nodes(schema, "bytearray")
        handle["__id__"] = aside["__id__"]

    forged(tmp_path / "right.skops", tmp_path / "model.skops", alias)
    assert read_estimator(tmp_path / "model.skops").predict(X).tolist() == estimator.predict(X).tolist()


def test_b95_a_damaged_booster_is_refused_before_its_library_reads_it(tmp_path):
    skops.io.dump(LGBMClassifier(n_estimators=1, verbose=-1).fit(X, Y > 0), tmp_path / "right.skops")

    def damage(schema):
        [booster] = nodes(schema, "Booster")
        handle = booster["content"]["content"]["_handle"]
        handle["content"] = handle["content"].replace("left_child=", "left_child=7")

    forged(tmp_path / "right.skops", tmp_path / "model.skops", damage)
    with pytest.raises(InvalidPackage, match="damaged"):
        read_estimator(tmp_path / "model.skops")


def test_b95_support_vectors_that_do_not_add_up_are_refused(tmp_path):
    estimator = SVC().fit(X, Y)
    estimator._n_support = estimator._n_support + 1
    skops.io.dump(estimator, tmp_path / "model.skops")
    with pytest.raises(InvalidPackage, match="support vectors"):
        read_estimator(tmp_path / "model.skops")


@pytest.mark.parametrize(
    ("estimator", "text"),
    [
        (LocalOutlierFactor().fit(X), "novelty=True"),
        (GridSearchCV(LogisticRegression(), {"C": [1.0]}, cv=2, refit=False), "refit=True"),
    ],
    ids=["novelty", "refit"],
)
def test_a_model_without_an_answer_is_told_how_to_get_one(tmp_path, estimator, text):
    skops.io.dump(estimator, tmp_path / "model.skops")
    with pytest.raises(InvalidPackage, match=text):
        backend("sklearn").describe(tmp_path / "model.skops")
