"""`limen.package` as a notebook uses it: from a model in memory to a package, a server and a version."""

import asyncio
from pathlib import Path

import numpy as np
import pytest

import limen
from limen.contracts.errors import InvalidArgument, InvalidPackage
from limen.packaging.manifest.decoder import read_manifest
from tests.services.packages import write_score

pandas = pytest.importorskip("pandas")
ROWS = 60


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def frame():
    """Return a table with numbers, texts, gaps, and the column that the model predicts."""
    random = np.random.default_rng(7)
    age = random.integers(18, 80, ROWS).astype(float)
    age[::7] = np.nan
    city = [None if i % 11 == 3 else town for i, town in enumerate(random.choice(["Bern", "Oslo", "Rome"], ROWS))]
    left = np.where(np.nan_to_num(age, nan=40) > 45, "yes", "no")
    return pandas.DataFrame({"age": age, "city": pandas.Series(city, dtype="str"), "left": left})


@pytest.fixture(scope="module")
def pipeline(frame):
    compose = pytest.importorskip("sklearn.compose")
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    texts = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder())
    columns = compose.make_column_transformer((SimpleImputer(), ["age"]), (texts, ["city"]))
    return make_pipeline(columns, LogisticRegression()).fit(frame[["age", "city"]], frame["left"])


def test_a_pipeline_becomes_a_package_a_server_and_a_version(frame, pipeline):
    pytest.importorskip("skops")
    packaged = limen.package(pipeline, frame, name="churn", target="left")
    manifest = read_manifest(packaged.folder)
    assert [field.name for field in manifest.contract.inputs] == ["age", "city"]
    assert all(example.outputs for example in manifest.contract.examples)
    assert "scikit-learn" in (packaged.folder / "origin.json").read_text()
    assert packaged.check().ok
    rows = frame[["age", "city"]].head(12)
    with packaged.serve() as server:
        answer = server.predict(rows)
        assert [record["label"] for record in answer.as_records()] == list(pipeline.predict(rows))
        assert str(server).startswith(f"churn at {server.url}")
    published = packaged.publish(alias="champion", endpoint=True)
    assert (published.version.model, published.version.number) == ("churn", 1)


def test_it_works_where_an_event_loop_runs_as_in_a_notebook(frame, pipeline):
    pytest.importorskip("skops")

    async def cell() -> bool:
        return limen.package(pipeline, frame, name="churn", target="left").check().ok

    assert asyncio.run(cell())


def test_a_cell_that_runs_again_makes_the_package_anew_and_keeps_what_was_edited(frame, pipeline):
    pytest.importorskip("skops")
    first = limen.package(pipeline, frame, name="churn", target="left")
    again = limen.package(pipeline, frame, name="churn", target="left")
    assert first.folder == again.folder
    manifest = again.folder / "model.yaml"
    manifest.write_text(manifest.read_text().replace("# title: a short name for people", "title: Mine"))
    kept = limen.package(pipeline, frame, name="churn", target="left")
    assert "title: Mine" in manifest.read_text()
    assert "model.yaml has been edited since it was created and is kept" in repr(kept)


def test_a_folder_with_something_else_in_it_is_left_alone(frame, pipeline, tmp_path):
    (tmp_path / "churn").mkdir()
    (tmp_path / "churn/notes.txt").write_text("mine")
    with pytest.raises(InvalidPackage, match="churn already exists and is not a package"):
        limen.package(pipeline, frame, name="churn", target="left")
    assert (tmp_path / "churn/notes.txt").read_text() == "mine"


def test_a_session_is_packaged_as_its_own_file(tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    model = write_score(tmp_path / "score") / "model.onnx"
    rows = {"amount": np.array([3.0, 10.0], np.float32), "age": np.array([2.0, 40.0], np.float32)}
    for number, given in enumerate(
        (runtime.InferenceSession(model), runtime.InferenceSession(model.read_bytes()), model)
    ):
        packaged = limen.package(given, rows, name="score", output=f"made-{number}")
        assert (packaged.folder / "model.onnx").read_bytes() == model.read_bytes()
        assert all(example.outputs for example in read_manifest(packaged.folder).contract.examples)
        assert packaged.check().ok


def test_a_booster_is_packaged_as_its_own_file():
    xgboost = pytest.importorskip("xgboost")
    random = np.random.default_rng(1)
    table = pandas.DataFrame({"a": random.normal(size=80), "b": random.normal(size=80)})
    booster = xgboost.train({"objective": "reg:squarederror"}, xgboost.DMatrix(table, table["a"] - table["b"]), 5)
    packaged = limen.package(booster, table, name="difference")
    assert packaged.check().ok
    assert read_manifest(packaged.folder).backend == "xgboost"


RATE = 2.5


def doubled(values):
    return values * RATE


def scored(table):
    return {"value": doubled(table["age"]).fillna(0.0), "known": table["city"].notna().to_numpy()}


def summed(rows):
    return rows.sum(axis=1)


def test_a_function_is_packaged_as_source_with_what_it_uses(frame):
    packaged = limen.package(scored, frame, name="scored", target="left")
    assert packaged.needs_trust
    assert packaged.check().ok
    with packaged.serve() as server:
        assert server.predict({"age": 4.0, "city": "Rome"}).record == {"value": 10.0, "known": True}


def test_a_function_of_an_array_is_given_an_array():
    packaged = limen.package(summed, np.arange(12.0).reshape(4, 3), name="summed")
    assert packaged.check().ok


def _closure():
    rate = 3

    def inner(rows):
        return rows * rate

    return inner


MODEL = object()


def uses_an_object(rows):
    return rows, MODEL


def too_few(rows):
    return rows[:1]


def fails(rows):
    raise ValueError(rows)


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (lambda rows: rows, "only a function defined with `def`"),
        (_closure(), "uses variables of its enclosing function \\(rate\\)"),
        (uses_an_object, "uses_an_object uses MODEL, a builtins.object"),
        (too_few, "for 4 rows; it must return one per row"),
        (fails, "cannot answer the sample: ValueError"),
        (object(), "a builtins.object cannot be packaged; give an estimator"),
    ],
)
def test_what_cannot_be_packaged_is_refused_by_name(function, why, tmp_path):
    with pytest.raises(InvalidPackage, match=why):
        limen.package(function, np.ones((4, 3)), name="nothing")
    assert not (tmp_path / "nothing").exists()


def test_a_name_that_is_none_is_refused():
    with pytest.raises(InvalidArgument, match="name"):
        limen.package(summed, np.ones((4, 3)), name="Not A Name")


def test_a_torch_module_is_exported():
    torch = pytest.importorskip("torch")
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    packaged = limen.package(module, np.random.default_rng(3).normal(size=(6, 3)), name="network")
    assert packaged.check().ok
