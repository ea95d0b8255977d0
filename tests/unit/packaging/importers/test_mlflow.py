"""MLflow model folders, written by hand as MLflow writes them; MLflow itself is not needed."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from limen.contracts.errors import InvalidPackage, Reason
from limen.packaging.importers import read_source
from limen.packaging.importers.draft import WHOLE, Column
from tests.services.mlflow_folder import COLUMNS, write_folder


def read(folder: Path):
    return read_source(folder)


def refusal(folder: Path) -> str:
    with pytest.raises(InvalidPackage) as caught:
        read(folder)
    return caught.value.message


def test_a_folder_gives_its_file_signature_example_and_origin(tmp_path):
    signature = [
        {"type": "long", "name": "age", "required": True},
        {"type": "double", "name": "income", "required": False},
        {"type": "string", "name": "home", "required": True},
    ]
    example = {"columns": ["age", "income", "home"], "data": [[20, None, "rent"], [30, 2.5, "own"]]}
    folder = write_folder(tmp_path / "credit", "sklearn", pickle.dumps({}), inputs=signature, example=example)
    draft = read(folder)
    assert (draft.kind, draft.name, draft.is_pickle, draft.artifact.name) == (
        "MLflow model",
        "credit",
        True,
        "model.pkl",
    )
    assert draft.columns == (
        Column("age", "int64"),
        Column("income", "float64", is_required=False),
        Column("home", "string"),
    )
    assert draft.sample["age"].dtype == np.int64
    np.testing.assert_array_equal(draft.sample["income"], [np.nan, 2.5])
    assert draft.sample["home"].tolist() == ["rent", "own"]
    assert draft.versions == {"scikit-learn": "1.9.1"}
    assert draft.origin["flavour"] == "sklearn"
    assert draft.origin["mlflow_run"] == "b5f6a9"


def test_a_signature_of_tensors_names_no_columns(tmp_path):
    tensor = [{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1, 4]}}]
    folder = write_folder(tmp_path / "m", "onnx", b"graph", inputs=tensor, example=[[1, 2, 3, 4]], kind="ndarray")
    draft = read(folder)
    assert draft.columns == ()
    assert draft.sample[WHOLE].shape == (1, 4)


@pytest.mark.parametrize("model", ["xgboost.core.Booster", "xgboost.sklearn.XGBClassifier"])
def test_a_classifier_of_xgboost_answers_with_a_class(tmp_path, model):
    folder = write_folder(tmp_path / "m", "xgboost", b"{", inputs=COLUMNS, entry={"model_class": model})
    assert read(folder).classifier is model.endswith("Classifier")


def test_what_is_not_carried_over_is_told(tmp_path):
    parameters = [{"name": "temperature", "dtype": "double", "default": 0.5, "shape": None}]
    folder = write_folder(
        tmp_path / "m",
        "sklearn",
        b"x",
        inputs=[{"type": "datetime", "name": "t"}],
        params=parameters,
        entry={"code": "code"},
    )
    notes = read(folder).notes
    assert [note.partition(":")[0].partition(" (")[0] for note in notes] == [
        "parameters of the signature",
        "the declared type of the input t",
        "Python code that was logged with the model",
    ]


@pytest.mark.parametrize(
    ("flavour", "advice"),
    [
        ("pytorch", "export it with torch.onnx.export"),
        ("tensorflow", "convert it with tf2onnx"),
        ("transformers", "optimum-cli export onnx"),
        ("statsmodels", "write a package with `backend: python`"),
        ("python_function", "write a package with `backend: python`"),
    ],
)
def test_other_flavours_are_refused_with_what_to_do(tmp_path, flavour, advice):
    folder = write_folder(tmp_path / "m", flavour, b"x")
    message = refusal(folder)
    assert "has no flavour that can be imported (onnx, xgboost, lightgbm, sklearn)" in message
    assert advice in message


@pytest.mark.parametrize("path", ["../../etc/passwd", "/etc/passwd"])
def test_b94_a_file_outside_the_folder_is_refused(tmp_path, path):
    folder = write_folder(tmp_path / "m", "onnx", b"x", entry={"data": path})
    with pytest.raises(InvalidPackage) as caught:
        read(folder)
    assert caught.value.reason is Reason.UNSAFE_ARCHIVE


def test_b100_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "MLmodel").write_text("a: &x [1]\nb: *x\n")
    assert "anchors and aliases" in refusal(tmp_path)
    (tmp_path / "MLmodel").write_text("just text")
    assert "names no flavours" in refusal(tmp_path)
    write_folder(tmp_path / "m", "onnx", None)
    assert "names a file that is not there or empty" in refusal(tmp_path / "m")


@pytest.mark.parametrize(
    "content",
    ["{", "[]", '{"columns": ["a"], "data": [[1, 2]]}', '{"columns": ["a"], "data": [[{}]]}', "[[1], [1, 2]]"],
)
def test_an_example_that_cannot_be_used_is_left_out(tmp_path, content):
    folder = write_folder(tmp_path / "m", "onnx", b"x", example={})
    (folder / "input_example.json").write_text(content)
    draft = read(folder)
    assert draft.sample == {}
    assert draft.notes[0].startswith("the input example: ")


def test_an_example_with_missing_numbers_is_kept_as_mlflow_writes_it(tmp_path):
    columns = [{"type": "double", "name": "a"}, {"type": "string", "name": "b"}, {"type": "long", "name": "c"}]
    folder = write_folder(tmp_path / "m", "sklearn", b"x", inputs=columns, example={})
    (folder / "input_example.json").write_text('{"columns": ["a", "b", "c"], "data": [[NaN, "x", 1], [2.0, NaN, NaN]]}')
    sample = read(folder).sample
    np.testing.assert_array_equal(sample["a"], [np.nan, 2.0])
    assert sample["b"].tolist() == ["x", None]
    np.testing.assert_array_equal(sample["c"], [1, np.nan])


def test_an_array_with_missing_numbers_is_kept_as_mlflow_writes_it(tmp_path):
    folder = write_folder(tmp_path / "m", "onnx", b"x", example=[[None, 0.5], [1, 2]], kind="ndarray")
    np.testing.assert_array_equal(read(folder).sample[WHOLE], [[np.nan, 0.5], [1, 2]])


@pytest.mark.parametrize(
    "content", ['{"a": 1, "b": "x"}', '[{"a": 1, "b": "x"}]', '{"a": [1], "b": ["x"]}'], ids=["row", "rows", "columns"]
)
def test_an_example_that_was_no_data_frame_is_kept_too(tmp_path, content):
    folder = write_folder(tmp_path / "m", "sklearn", b"x", example={}, kind="json_object")
    (folder / "input_example.json").write_text(content)
    sample = read(folder).sample
    assert (sample["a"].tolist(), sample["b"].tolist()) == ([1], ["x"])


def test_whole_numbers_that_may_be_missing_are_floats_and_bools_cannot_be(tmp_path):
    columns = [{"type": "long", "name": "n", "required": False}, {"type": "boolean", "name": "b", "required": False}]
    draft = read(write_folder(tmp_path / "m", "sklearn", b"x", inputs=columns))
    assert draft.columns == (
        Column("n", "float64", is_required=False),
        Column("b", "bool", is_required=False),
    )
    assert "a bool has no missing value" in draft.notes[0]


@pytest.mark.parametrize("name", ["model.safetensors", "saved_model.pb"])
def test_folders_no_backend_runs_are_refused_with_what_to_do(tmp_path, name):
    (tmp_path / name).write_bytes(b"")
    assert "export the model to ONNX" in refusal(tmp_path)


def test_anything_else_is_refused(tmp_path):
    assert "not a known kind of model" in refusal(tmp_path)
    assert "nothing found at" in refusal(tmp_path / "gone")


@pytest.mark.parametrize("model", ["xgboost.core.Booster", "xgboost.sklearn.XGBRegressor"])
def test_only_the_scikit_learn_classes_stop_at_the_best_round(tmp_path, model):
    folder = write_folder(tmp_path / "m", "xgboost", b'{"best_iteration": "3"', entry={"model_class": model})
    assert read(folder).is_early_stopped is model.endswith("Regressor")


def test_a_file_that_says_that_it_is_of_the_scikit_learn_classes_is_taken_as_it_is(tmp_path):
    entry = {"model_class": "xgboost.sklearn.XGBRegressor"}
    data = b'{"best_iteration": "3", "scikit_learn": "{}"'
    assert not read(write_folder(tmp_path / "m", "xgboost", data, inputs=COLUMNS, entry=entry)).is_early_stopped


def test_a_classifier_that_gives_the_class_itself_needs_no_other_output(tmp_path):
    entry = {"model_class": "xgboost.sklearn.XGBClassifier"}
    folder = write_folder(tmp_path / "m", "xgboost", b'{"objective": "multi:softmax"', entry=entry)
    assert not read(folder).classifier
