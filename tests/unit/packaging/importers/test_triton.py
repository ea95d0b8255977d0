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
    assert (draft.name, draft.kind) == ("Iris_Onnx", "Triton model")
    assert draft.inputs == (TensorSpec("x", "float32", (-1, 4)),)
    assert draft.outputs == (TensorSpec("y", "float32", (-1, 3)),)
    assert draft.labels == {"y": ("setosa", "versicolor", "virginica")}
    assert (draft.max_rows, draft.max_wait_ms) == (16, 0.5)


def test_without_batching_tensors_have_exactly_their_dims(folder):
    draft = read(folder, HEAD + INPUT.replace("[ 4 ]", "[ -1, 4 ]") + OUTPUT.replace("[ 3 ]", "[ 2, 3 ]"))
    assert [t.shape for t in (*draft.inputs, *draft.outputs)] == [(-1, 4), (2, 3)]
    assert (draft.is_batched, draft.max_rows) == (False, None)


def test_dims_are_what_callers_send_and_reshape_is_what_the_model_takes(folder):
    image = INPUT.replace("dims: [ 4 ]", "dims: [ 3, 2 ] reshape { shape: [ 1, 3, 2 ] }")
    one = OUTPUT.replace("dims: [ 3 ]", "dims: [ 1 ] reshape { shape: [ ] }").replace("label_filename", "#")
    whole = read(folder, HEAD + image)
    assert ([t.shape for t in whole.inputs], whole.input_rows) == ([(1, 3, 2)], {"x": (3, 2)})
    rows = read(folder, HEAD + "max_batch_size: 8\n" + image + one.replace('"labels.txt"', "\n"))
    assert ([t.shape for t in rows.inputs], rows.input_rows) == ([(-1, 1, 3, 2)], {"x": (3, 2)})
    assert ([t.shape for t in rows.outputs], rows.output_rows) == ([(-1,)], {"y": (1,)})


def test_what_is_no_field_of_the_configuration_is_refused_as_triton_does(folder):
    config = "max_batch: 8\n" + INPUT.replace("dims", "shape: 1 dims")
    assert {v.path for v in refusal(folder, HEAD + config).violations} == {"max_batch", "input[0].shape"}


def test_an_input_that_is_there_twice_is_refused(folder):
    assert [v.path for v in refusal(folder, HEAD + INPUT + INPUT).violations] == ["input[1].name"]


def test_the_newest_version_is_taken_or_the_one_that_is_asked_for(folder):
    assert read(folder, HEAD).artifact.parent.name == "12"
    assert read(folder, HEAD, "3").origin == {"triton_version": "3"}
    assert "holds no version 2; it has 1, 3, 12" in refusal(folder, HEAD, "2").message


@pytest.mark.parametrize(
    ("policy", "taken"),
    [
        ("", "12"),
        ("version_policy { }", "12"),
        ("version_policy: { latest { num_versions: 2 } }", "12"),
        ("version_policy: { all { } }", "12"),
        ("version_policy: { specific { versions: [ 1, 3 ] } }", "3"),
        ("version_policy < specific < versions: 1 > >", "1"),
        ("version_policy { specific { versions: [ 3, 7 ] } }", "3"),
    ],
)
def test_the_newest_version_that_triton_serves_is_taken(folder, policy, taken):
    draft = read(folder, HEAD + policy)
    assert draft.origin == {"triton_version": taken}
    said = [note for note in draft.notes if note.startswith(f"version {taken} is taken")]
    assert bool(said) == (taken != "12")


def test_other_versions_that_triton_serves_are_told(folder):
    policy = "version_policy { specific { versions: [ 1, 3 ] } }"
    assert "Triton serves the versions 1 as well" in read(folder, HEAD + policy).notes[-1]
    notes = read(folder, HEAD + "version_policy { specific { versions: 3 } }", "12").notes
    assert notes[0] == "version 12 is taken, which Triton does not serve: its version_policy is for 3"


@pytest.mark.parametrize(
    ("policy", "text"),
    [
        ("specific { versions: [ 4 ] }", "holds the versions 1, 3, 12, and its version_policy names none of them"),
        ("latest { num_versions: 0 }", "num_versions must be a whole number from 1"),
    ],
)
def test_a_policy_that_leaves_no_version_is_refused(folder, policy, text):
    assert text in refusal(folder, HEAD + f"version_policy {{ {policy} }}").message


@pytest.mark.parametrize(
    ("lines", "labels"),
    [
        ("a\n\nc\n", ("a", "", "c")),
        ("a\nb", ("a", "b", "")),
        ("\n\nc", ("", "", "c")),
        ("a\r\nb\r\nc\r\nd\r\n", ("a", "b", "c")),
        ("a\x0bx\nb\u2028y\na", ("a\x0bx", "b\u2028y", "a")),
        ("\ufeffa\nb\nc\n\n\n", ("a", "b", "c")),
    ],
)
def test_the_place_of_a_line_is_the_number_of_its_class(folder, lines, labels):
    (folder / "labels.txt").write_bytes(lines.encode())
    draft = read(folder, HEAD + "max_batch_size: 1\n" + INPUT + OUTPUT)
    assert draft.labels == {"y": labels}
    assert any("labels.txt has" in note for note in draft.notes) == (labels[-1] == "" or "d" in lines)


def test_labels_that_belong_to_no_axis_are_told(folder):
    output = OUTPUT.replace("[ 3 ]", "[ 3, 2 ]")
    draft = read(folder, HEAD + "max_batch_size: 1\n" + output)
    assert (draft.labels, draft.notes[-1]) == ({}, "the labels of y, whose classes are not along its last axis")


@pytest.mark.parametrize("value", ["False", "f", "0", "false"])
def test_what_is_switched_off_is_not_refused(folder, value):
    config = f"model_transaction_policy {{ decoupled: {value} }}\nmax_batch_size: 2\n"
    tensor = INPUT.replace("dims", f"optional: {value} is_shape_tensor: {value} dims")
    assert read(folder, HEAD + config + tensor).inputs == (TensorSpec("x", "float32", (-1, 4)),)


def test_a_type_may_be_given_by_its_number(folder):
    tensors = "\n".join(f'input {{ name: "i{n}" data_type: {n} dims: 1 }}' for n in (1, 7, 11, 13, 14))
    found = read(folder, HEAD + "max_batch_size: 1\n" + tensors).inputs
    assert [t.type for t in found] == ["bool", "int16", "float32", "string", "bfloat16"]


def test_a_model_with_weights_in_other_files_is_a_folder(folder):
    file = folder / "12" / "model.onnx"
    file.unlink()
    file.mkdir()
    (file / "model.onnx").write_bytes(b"graph")
    assert read(folder, HEAD).artifact == file / "model.onnx"


def test_a_configuration_that_leaves_the_tensors_to_the_model_is_enough(folder):
    draft = read(folder, "max_batch_size: 4")
    assert (draft.inputs, draft.outputs, draft.name) == ((), (), "iris")


def test_a_model_without_a_configuration_is_what_triton_makes_of_its_file(folder):
    draft = read_source(folder, "")
    assert (draft.name, draft.inputs, draft.is_batched, draft.artifact.parent.name) == ("iris", (), None, "12")


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
    input [ { name: "a" data_type: TYPE_FP32 dims: [ 4 ] optional: true reshape { shape: [ 2, 3 ] } },
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
