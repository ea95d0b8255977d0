"""What needs no conversion: files that a backend loads as they are, wherever they are kept."""

import asyncio
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from limen.authoring.check import check_package
from limen.authoring.importing import ImportOptions, import_model
from limen.contracts.errors import InvalidPackage, LimenError, Reason
from limen.packaging.manifest.decoder import read_manifest
from tests.conformance.importers.conftest import NUMBERS, answers, make_linear, table, target
from tests.services.mlflow_folder import write_folder
from tests.services.packages import SPECIES, write_iris

CONFIG = """
name: "iris"
backend: "onnxruntime"
max_batch_size: 32
input [ { name: "x" data_type: TYPE_FP32 dims: [ 4 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ 3 ] label_filename: "labels.txt" } ]
dynamic_batching { max_queue_delay_microseconds: 250 }
"""


def take(source: Path | str, tmp_path: Path, **options):
    made = import_model(str(source), ImportOptions(folder=tmp_path / "package", **options))
    report = asyncio.run(check_package(made.created.folder, tmp_path / "home", trust_code=False))
    assert report.ok, report.steps
    return made


def refusal(source: Path | str, tmp_path: Path, **options) -> LimenError:
    with pytest.raises(LimenError) as caught:
        import_model(str(source), ImportOptions(folder=tmp_path / "package", **options))
    assert not (tmp_path / "package").exists()
    return caught.value


@pytest.fixture
def graph(tmp_path) -> Path:
    """Return an ONNX classifier: x [-1, 4] to y [-1, 3]."""
    return write_iris(tmp_path / "written") / "model.onnx"


@pytest.fixture
def triton(tmp_path, graph) -> Path:
    folder = tmp_path / "repository" / "iris"
    (folder / "1").mkdir(parents=True)
    shutil.copy(graph, folder / "1" / "model.onnx")
    (folder / "config.pbtxt").write_text(CONFIG)
    (folder / "labels.txt").write_text("\n".join(SPECIES))
    return folder


def numbers(tmp_path) -> list[dict]:
    return [{"type": "double", "name": name, "required": True} for name in NUMBERS]


def test_a_triton_model_keeps_its_tensors_labels_and_batching(triton, tmp_path):
    made = take(f"triton:{triton}", tmp_path)
    assert (made.name, made.kind, made.created.format) == ("iris", "Triton model", "onnx")
    contract = read_manifest(tmp_path / "package").contract
    assert [(f.name, f.type, f.shape, f.labels) for f in (*contract.inputs, *contract.outputs)] == [
        ("x", "float32", (4,), ()),
        ("y", "float32", (3,), SPECIES),
    ]
    assert (contract.batching.max_rows, contract.batching.max_wait_ms) == (32, 0.25)
    found = answers(tmp_path / "package", [{"x": [5.1, 3.5, 1.4, 0.2]}])
    assert found["y"].sum() == pytest.approx(1)


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ('"x" data', '"z" data', "the configuration names the input z; the model has x"),
        (
            "FP32 dims: [ 4 ]",
            "FP64 dims: [ 4 ]",
            "the input x is float64 in the configuration and float32 in the model",
        ),
        (
            "dims: [ 4 ]",
            "dims: [ 5 ]",
            "the input x has the shape [-1, 5] in the configuration and [-1, 4] in the model",
        ),
    ],
)
def test_a_configuration_that_contradicts_its_model_is_refused(triton, tmp_path, old, new, text):
    (triton / "config.pbtxt").write_text(CONFIG.replace(old, new))
    assert text in refusal(triton, tmp_path).message


def test_a_model_file_gives_what_init_gives_and_its_origin(graph, tmp_path):
    made = take(graph, tmp_path, name="iris")
    assert (made.kind, made.parity, made.notes) == ("model file", None, ())
    assert json.loads((tmp_path / "package" / "origin.json").read_bytes())["source"] == "model.onnx"


def test_mlflow_onnx_and_its_example_rows(graph, tmp_path):
    folder = write_folder(tmp_path / "iris", "onnx", graph.read_bytes(), example=[[1, 2, 3, 4]], kind="ndarray")
    assert take(folder, tmp_path).origin["flavour"] == "onnx"


def test_weights_in_other_files_come_along(tmp_path):
    onnx = pytest.importorskip("onnx")
    graph = onnx.load_model(write_iris(tmp_path / "written") / "model.onnx")
    (tmp_path / "source").mkdir()
    onnx.save_model(
        graph, tmp_path / "source" / "m.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0
    )
    take(tmp_path / "source" / "m.onnx", tmp_path)
    assert (tmp_path / "package" / "weights.bin").read_bytes() == (tmp_path / "source" / "weights.bin").read_bytes()


def test_b94_weights_outside_the_folder_do_not_come_along(tmp_path):
    onnx = pytest.importorskip("onnx")
    graph = onnx.load_model(write_iris(tmp_path / "written") / "model.onnx")
    (tmp_path / "source").mkdir()
    file = tmp_path / "source" / "m.onnx"
    onnx.save_model(graph, file, save_as_external_data=True, location="weights.bin", size_threshold=0)
    (tmp_path / "source" / "weights.bin").rename(tmp_path / "secret.bin")
    file.write_bytes(file.read_bytes().replace(b"weights.bin", b"../secr.bin"))
    assert refusal(file, tmp_path).reason in (Reason.UNSAFE_ARCHIVE, Reason.INVALID_PACKAGE)


@pytest.mark.parametrize("kind", ["Booster", "XGBClassifier"])
def test_mlflow_xgboost_is_taken_as_it_is_and_answers_as_the_model(kind, tmp_path):
    import xgboost

    data = table()[list(NUMBERS)]
    model = xgboost.XGBClassifier(n_estimators=8, n_jobs=1).fit(data, target(table()))
    native = bytes(model.get_booster().save_raw("ubj"))
    module = "core" if kind == "Booster" else "sklearn"
    example = {"columns": list(data), "data": data[:3].to_numpy().tolist()}
    folder = write_folder(
        tmp_path / "credit",
        "xgboost",
        native,
        inputs=numbers(tmp_path),
        example=example,
        entry={"model_class": f"xgboost.{module}.{kind}"},
    )
    take(folder, tmp_path)
    found = answers(tmp_path / "package", data.to_dict("records"))
    if kind == "Booster":
        assert found.keys() == {"prediction"}
        np.testing.assert_allclose(found["prediction"], model.predict_proba(data)[:, 1], rtol=1e-6)
    else:
        np.testing.assert_allclose(found["probabilities"], model.predict_proba(data), rtol=1e-6)
        assert found["label"].tolist() == model.predict(data).tolist()


def test_a_model_that_stopped_early_answers_with_its_best_round_as_xgboost_does(tmp_path):
    import xgboost

    data, kinds = table()[list(NUMBERS)], target(table())
    model = xgboost.XGBClassifier(n_estimators=60, learning_rate=0.9, early_stopping_rounds=5, n_jobs=1)
    model.fit(data[:100], kinds[:100], eval_set=[(data[100:], 1 - kinds[100:])], verbose=False)
    assert model.best_iteration + 1 < model.get_booster().num_boosted_rounds()
    native = bytes(model.get_booster().save_raw("ubj"))
    entry = {"model_class": "xgboost.sklearn.XGBClassifier"}
    folder = write_folder(tmp_path / "credit", "xgboost", native, inputs=numbers(tmp_path), entry=entry)
    take(folder, tmp_path)
    found = answers(tmp_path / "package", data.to_dict("records"))
    np.testing.assert_allclose(found["probabilities"], model.predict_proba(data), rtol=1e-6)
    assert found["label"].tolist() == model.predict(data).tolist()


def test_a_given_sample_says_as_much_as_it_does_to_init(graph, tmp_path):
    (tmp_path / "sample.csv").write_text("a,b,c,d\n1,2,3,4\n5,6,7,8\n")
    take(graph, tmp_path, sample=tmp_path / "sample.csv")
    assert "observed 1 to 5" in (tmp_path / "package" / "model.yaml").read_text()


def test_mlflow_sklearn_saved_by_skops_needs_no_trust(tmp_path):
    import skops.io

    model = make_linear().model
    entry = {"pickled_model": "model.pkl", "serialization_format": "skops"}
    folder = write_folder(tmp_path / "m", "sklearn", skops.io.dumps(model), inputs=numbers(tmp_path), entry=entry)
    made = take(folder, tmp_path)
    assert (made.created.format, made.parity) == ("skops", None)
    text = yaml.safe_load((tmp_path / "package" / "model.yaml").read_text())
    assert [f["name"] for f in text["inputs"]] == list(NUMBERS)


def test_an_optional_column_may_be_missing(tmp_path):
    import skops.io

    inputs = numbers(tmp_path)
    inputs[1]["required"] = False
    folder = write_folder(tmp_path / "m", "sklearn", skops.io.dumps(make_linear().model), inputs=inputs)
    take(folder, tmp_path)
    assert [f.nullable for f in read_manifest(tmp_path / "package").contract.inputs] == [False, True, False]


def test_a_signature_of_another_width_is_refused(tmp_path):
    import skops.io

    folder = write_folder(tmp_path / "m", "sklearn", skops.io.dumps(make_linear().model), inputs=numbers(tmp_path)[:2])
    assert refusal(folder, tmp_path).message == "the source declares 2 inputs and the model takes 3 columns"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("model.onnx", b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00}\x94\x8c\x01a\x94K\x01s."),
        ("model.pkl", b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00}\x94\x8c\x01a\x94K\x01s."),
    ],
)
def test_b92_a_pickle_is_known_by_its_content_and_needs_trust(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    error = refusal(tmp_path / name, tmp_path)
    assert error.reason is Reason.UNSAFE_FORMAT
    assert "--trust-pickle" in error.message


def test_b92_a_pytorch_archive_is_refused_with_and_without_trust(tmp_path):
    import zipfile

    with zipfile.ZipFile(tmp_path / "model.pt", "w") as archive:
        archive.writestr("model/data.pkl", b"\x80\x02}q\x00.")
    for trust in (False, True):
        error = refusal(tmp_path / "model.pt", tmp_path, trust_pickle=trust)
        assert error.reason is Reason.UNSAFE_FORMAT
        assert "is a PyTorch archive" in error.message


@pytest.mark.parametrize("source", ["mlflow:models:/credit/1", "mlflow:runs:/x/model"])
def test_a_registry_without_a_server_is_refused(tmp_path, source):
    assert "MLFLOW_TRACKING_URI" in refusal(source, tmp_path).message


def test_a_place_that_is_taken_is_left_alone(graph, tmp_path):
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "mine").write_text("x")
    with pytest.raises(InvalidPackage, match="not empty"):
        import_model(str(graph), ImportOptions(folder=tmp_path / "package"))
    assert [p.name for p in (tmp_path / "package").iterdir()] == ["mine"]


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("models:/credit/1", "imported as mlflow:models:/credit/1"),
        ("models:/credit@champion", "imported as mlflow:models:/credit@champion"),
        ("runs:/0a1b/model", "mlflow artifacts download -u runs:/0a1b/model"),
    ],
)
def test_mlflows_own_references_are_answered_with_what_to_write(source, text, tmp_path):
    assert text in refusal(source, tmp_path).message


def test_columns_go_by_the_names_of_the_booster_whatever_the_order_of_the_signature(tmp_path):
    """LightGBM spells names in its own way; MLflow's signature has them as callers know them."""
    import lightgbm

    data = table()[list(NUMBERS)].rename(columns={"amount": "the amount"})
    model = lightgbm.LGBMRegressor(n_estimators=5, n_jobs=1, verbosity=-1).fit(data, target(table()))
    order = ["term", "the amount", "rate"]
    inputs = [{"type": "double", "name": name, "required": True} for name in order]
    example = {"columns": order, "data": data[order][:2].to_numpy().tolist()}
    native = model.booster_.model_to_string().encode()
    take(write_folder(tmp_path / "credit", "lightgbm", native, inputs=inputs, example=example), tmp_path)
    manifest = read_manifest(tmp_path / "package")
    assert manifest.contract.examples
    fields = data.rename(columns={"the amount": "the_amount"})
    found = answers(tmp_path / "package", fields.to_dict("records"))
    np.testing.assert_allclose(found["prediction"], model.predict(data))


def test_a_signature_of_other_columns_than_the_boosters_is_refused(tmp_path):
    import lightgbm

    data = table()[list(NUMBERS)]
    model = lightgbm.LGBMRegressor(n_estimators=5, n_jobs=1, verbosity=-1).fit(data, target(table()))
    inputs = [{"type": "double", "name": name, "required": True} for name in ("amount", "rate", "age")]
    folder = write_folder(tmp_path / "m", "lightgbm", model.booster_.model_to_string().encode(), inputs=inputs)
    assert "not trained on: age. It was trained on amount, rate, term" in refusal(folder, tmp_path).message
