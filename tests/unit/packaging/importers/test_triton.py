"""A model in a Triton repository, and everything that cannot be kept."""

from pathlib import Path

import pytest

from limen.contracts.errors import InvalidPackage
from limen.contracts.tensors import TensorSpec
from limen.packaging.importers import read_source

HEAD = 'name: "Iris_Onnx"\nplatform: "onnxruntime_onnx"\n'
INPUT = 'input [ { name: "x" data_type: TYPE_FP32 dims: [ 4 ] } ]\n'
OUTPUT = 'output [ { name: "y" data_type: TYPE_FP32 dims: [ 3 ] label_filename: "labels.txt" } ]\n'


@pytest.fixture
def folder(tmp_path) -> Path:
    for number in ("1", "3", "12"):
        (tmp_path / "iris" / number).mkdir(parents=True)
        (tmp_path / "iris" / number / "model.onnx").write_bytes(b"onnx of " + number.encode())
    (tmp_path / "iris" / "labels.txt").write_text("setosa\nversicolor\r\n virginica \n\n")
    return tmp_path / "iris"


def read(folder: Path, config: str, version: str = ""):
    (folder / "config.pbtxt").write_text(config)
    return read_source(folder, version)


def refusal(folder: Path, config: str, version: str = "") -> InvalidPackage:
    with pytest.raises(InvalidPackage) as caught:
        read(folder, config, version)
    return caught.value


def test_the_configuration_becomes_tensors_labels_and_batching(folder):
    batching = "max_batch_size: 16\ndynamic_batching { max_queue_delay_microseconds: 500 }\n"
    draft = read(folder, HEAD + batching + INPUT + OUTPUT)
    assert (draft.name, draft.kind) == ("iris-onnx", "Triton model")
    assert draft.inputs == (TensorSpec("x", "float32", (-1, 4)),)
    assert draft.outputs == (TensorSpec("y", "float32", (-1, 3)),)
    assert draft.labels == {"y": ("setosa", "versicolor", "virginica")}
    assert (draft.max_rows, draft.max_wait_ms) == (16, 0.5)


def test_without_batching_the_first_axis_is_the_batch(folder):
    draft = read(folder, HEAD + INPUT.replace("[ 4 ]", "[ -1, 4 ]") + OUTPUT.replace("[ 3 ]", "[ 1, 3 ]"))
    assert [t.shape for t in (*draft.inputs, *draft.outputs)] == [(-1, 4), (1, 3)]
    error = refusal(folder, HEAD + INPUT.replace("[ 4 ]", "[ 2, 4 ]") + OUTPUT)
    assert [v.path for v in error.violations] == ["input[0].dims", "output[0].dims"]


def test_the_newest_version_is_taken_or_the_one_that_is_asked_for(folder):
    assert read(folder, HEAD).artifact.parent.name == "12"
    assert read(folder, HEAD, "3").origin == {"triton_version": "3"}
    assert "holds no version 2; it has 1, 3, 12" in refusal(folder, HEAD, "2").message


def test_a_model_with_weights_in_other_files_is_a_folder(folder):
    file = folder / "12" / "model.onnx"
    file.unlink()
    file.mkdir()
    (file / "model.onnx").write_bytes(b"graph")
    assert read(folder, HEAD).artifact == file / "model.onnx"


def test_a_configuration_that_leaves_the_tensors_to_the_model_is_enough(folder):
    draft = read(folder, "max_batch_size: 4")
    assert (draft.inputs, draft.outputs, draft.name) == ((), (), "iris")


@pytest.mark.parametrize("kind", ["python", "fil", "ensemble", "tensorrt_plan", "pytorch_libtorch"])
def test_another_backend_is_refused_with_what_to_do(folder, kind):
    message = refusal(folder, f'backend: "{kind}"').message
    assert f"Triton's backend {kind}; only ONNX is imported" in message
    assert "Do this: " in message


def test_all_that_cannot_be_kept_is_named_at_once(folder):
    config = """
    max_batch_size: 2
    sequence_batching { }
    model_transaction_policy { decoupled: true }
    input [ { name: "a" data_type: TYPE_FP32 dims: [ 4 ] optional: true reshape { shape: [ 2, 2 ] } },
            { name: "b" data_type: TYPE_WHAT dims: [ 0 ] } ]
    """
    error = refusal(folder, HEAD + config)
    assert [v.path for v in error.violations] == [
        "sequence_batching",
        "model_transaction_policy.decoupled",
        "input[0].optional",
        "input[0].reshape",
        "input[1].data_type",
        "input[1].dims",
    ]


def test_settings_that_change_no_answer_are_told(folder):
    config = "instance_group [ { count: 2 kind: KIND_GPU } ]\noptimization { priority: PRIORITY_MAX }"
    assert [note.partition(";")[0] for note in read(folder, HEAD + config).notes] == [
        "instances and devices",
        "optimisation settings",
    ]


@pytest.mark.parametrize("name", ["../../secret", "/etc/passwd"])
def test_b94_files_outside_the_folder_are_not_read(folder, name):
    assert "may not use" in refusal(folder, HEAD + OUTPUT.replace("labels.txt", name) + "max_batch_size: 1").message
    assert "may not use" in refusal(folder, HEAD + f'default_model_filename: "{name}"').message


def test_a_folder_without_versions_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    assert "holds no version" in refusal(tmp_path / "empty", HEAD).message
