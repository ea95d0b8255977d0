"""What `limen init` writes is a manifest that can be read back and served."""

import re

import numpy as np
import pytest

from limen.contracts.tensors import TensorSpec
from limen.packaging.manifest.decoder import decode_manifest
from limen.packaging.manifest.scaffold import Hints, scaffold
from limen.runtime.binding.binding import compile_binding
from limen.runtime.predictor import Signature

MATRIX = Signature((TensorSpec("X", "float32", (-1, 3)),), (TensorSpec("probabilities", "float32", (-1, 2)),))
NAMED = Signature(
    (TensorSpec("X", "float32", (-1, 2), ("Age (years)", "2nd income")),),
    (TensorSpec("prediction", "float64", (-1,)),),
)
TABLE = Signature(
    (TensorSpec("age", "float64", (-1,)), TensorSpec("home state", "string", (-1,))),
    (TensorSpec("label", "string", (-1,)), TensorSpec("probabilities", "float64", (-1, 2), ("no", "yes: maybe"))),
)
SAMPLE = {
    "age": np.array([31.5, np.nan, 20, 64]),
    "home state": np.array(["CA", "NY", "CA", "CA"], object),
}


def written(signature, sample=None, backend="onnx", artifact="model.onnx", hints=None):
    """Scaffold, read it back, and bind it to the artifact it was made from."""
    text = scaffold("credit", backend, artifact, signature, sample, hints).text
    manifest = decode_manifest(text)
    compile_binding(manifest, signature)
    return text, manifest


def test_a_matrix_stays_one_field():
    _, manifest = written(MATRIX)
    [field] = manifest.contract.inputs
    assert (field.name, field.type, field.shape) == ("X", "float32", (3,))
    assert [(f.name, f.shape) for f in manifest.contract.outputs] == [("probabilities", (2,))]
    assert (manifest.backend, manifest.artifact) == ("onnx", "model.onnx")


def test_named_columns_become_fields_that_are_packed():
    _, manifest = written(NAMED)
    assert [f.name for f in manifest.contract.inputs] == ["Age_years", "field_2nd_income"]
    assert manifest.bind.inputs == {"X": ("Age_years", "field_2nd_income")}


def test_the_header_of_a_sample_names_the_columns_of_a_matrix():
    sample = {"a": np.array([1, 2]), "b": np.array([0.5, 1.5]), "c": np.array([3, 3])}
    text, manifest = written(MATRIX, sample)
    assert manifest.bind.inputs == {"X": ("a", "b", "c")}
    assert "# observed 0.5 to 1.5" in text


def test_a_sample_of_another_width_names_nothing():
    _, manifest = written(MATRIX, {"a": np.array([1.0])})
    assert [f.name for f in manifest.contract.inputs] == ["X"]


def test_a_sample_gives_missing_values_and_examples_and_no_limits():
    text, manifest = written(TABLE, SAMPLE)
    age, state = manifest.contract.inputs
    assert (age.nullable, age.minimum, age.maximum) == (True, None, None)
    assert state.enum is None
    assert "# observed 20.0 to 64.0" in text
    assert "# 2 different values in the sample: CA, NY" in text
    assert [e.inputs for e in manifest.contract.examples] == [
        {"age": 31.5, "home_state": "CA"},
        {"age": None, "home_state": "NY"},
        {"age": 64.0, "home_state": "CA"},
    ]


def test_a_text_column_of_many_values_is_no_enum():
    sample = SAMPLE | {"home state": np.array(["a", "b", "c", "d"], object)}
    text, manifest = written(TABLE, sample)
    assert manifest.contract.inputs[1].enum is None
    assert "# 4 different values in the sample" in text


def test_the_names_of_classes_become_labels():
    _, manifest = written(TABLE)
    assert manifest.contract.outputs[1].labels == ("no", "yes: maybe")


def test_tensors_whose_names_cannot_be_field_names_are_renamed():
    signature = Signature(
        (
            TensorSpec("serving_default_input:0", "float32", (-1, 4)),
            TensorSpec("serving default input 0", "int64", (-1,)),
        ),
        (TensorSpec("Identity:0", "float32", (-1, 1)),),
    )
    _, manifest = written(signature)
    assert [f.name for f in manifest.contract.inputs] == ["serving_default_input_0", "serving_default_input_0_2"]
    assert [(f.name, f.shape) for f in manifest.contract.outputs] == [("Identity_0", ())]
    assert manifest.bind.outputs["Identity_0"].tensor == "Identity:0"


@pytest.mark.parametrize(
    "name", ["null", "yes", "N", "1", "", "-", "Ä", "a'b\"c", "tab\there", "😀", "x: y", "# no", "[x]"]
)
def test_any_name_survives_being_written(name):
    signature = Signature(
        (TensorSpec("X", "float32", (-1, 2), (name, name + "2")),), (TensorSpec("y", "float32", (-1,)),)
    )
    values = np.array([name or "empty"] * 4, object)
    table = Signature((TensorSpec("c", "string", (-1,)),), (TensorSpec("y", "float32", (-1,)),))
    written(signature)
    hints = Hints(categories={"c": (name or "empty",)})
    assert written(table, {"c": values}, hints=hints)[1].contract.inputs[0].enum == (name or "empty",)


def test_a_wide_tensor_stays_one_field_even_with_names():
    names = tuple(f"f{i}" for i in range(300))
    wide = Signature((TensorSpec("X", "float32", (-1, 300), names),), (TensorSpec("y", "float32", (-1,)),))
    assert written(wide)[1].contract.inputs[0].shape == (300,)


def test_an_artifact_for_single_rows_is_declared_so():
    single = Signature((TensorSpec("x", "float32", (1, 4)),), (TensorSpec("y", "float32", (1, 2)),))
    assert written(single)[1].contract.batching.max_rows == 1


def test_a_class_gets_fields_to_complete():
    empty = Signature((), ())
    text, manifest = written(empty, backend="python", artifact="model.py:Credit")
    assert [len(fields) for fields in (manifest.contract.inputs, manifest.contract.outputs)] == [1, 1]
    assert len(re.findall("complete this list", text)) == 2


def test_a_class_takes_the_columns_of_a_sample():
    sample = SAMPLE | {"open accounts": np.array([1, 2, 3, 4])}
    _, manifest = written(Signature((), ()), sample, backend="python", artifact="model.py:Credit")
    assert [(f.name, f.type) for f in manifest.contract.inputs] == [
        ("age", "float64"),
        ("home_state", "string"),
        ("open_accounts", "float64"),
    ]


def test_hints_of_another_tool_are_written_down():
    hints = Hints(
        origin=("Imported from mlflow:models:/credit/3.",),
        optional=frozenset(["Age (years)"]),
        classes={"label": "prediction"},
        max_rows=8,
        max_wait_ms=0.5,
        examples_file="examples.json",
    )
    text, manifest = written(NAMED, hints=hints)
    contract = manifest.contract
    assert "\n# Imported from mlflow:models:/credit/3.\nname: credit\n" in text
    assert [f.nullable for f in contract.inputs] == [True, False]
    assert [(f.name, f.type) for f in contract.outputs] == [("prediction", "float64"), ("label", "int64")]
    assert manifest.bind.outputs["label"].threshold == 0.5
    assert (contract.batching.max_rows, contract.batching.max_wait_ms) == (8, 0.5)
    assert text.count("examples:") == 1


def test_the_likeliest_class_of_several_is_the_place_of_the_largest_probability():
    _, manifest = written(
        MATRIX, hints=Hints(classes={"label": "probabilities"}, labels={"probabilities": ("no", "yes")})
    )
    assert manifest.bind.outputs["label"].argmax
    assert manifest.contract.output("probabilities").labels == ("no", "yes")


def test_a_handful_of_rows_shows_types_and_no_limits():
    text, manifest = written(TABLE, SAMPLE, hints=Hints(is_small=True))
    assert manifest.contract.input("home_state").enum is None
    assert "observed" not in text
    assert manifest.contract.examples[0].inputs == {"age": 31.5, "home_state": "CA"}


def test_a_tensor_of_one_column_is_one_value_a_row():
    signature = Signature((TensorSpec("age", "int64", (-1, 1)), TensorSpec("home", "string", (-1, 1))), ())
    text = scaffold("credit", "onnx", "model.onnx", signature).text
    assert [f.shape for f in decode_manifest(text).contract.inputs] == [(), ()]


def test_what_the_artifact_says_of_a_column_goes_before_what_a_sample_shows():
    """Its categories are the only values it takes, whichever of them the sample has; and it may take missing ones."""
    home = TensorSpec("home", "string", (-1,), categories=("own", "rent", "other"))
    signature = Signature((home, TensorSpec("age", "float64", (-1,), nullable=True)), TABLE.outputs)
    sample = {"home": np.array(["own", "rent"] * 4, object), "age": np.arange(8.0)}
    _, manifest = written(signature, sample)
    assert [(f.enum, f.nullable) for f in manifest.contract.inputs] == [(("own", "rent", "other"), False), (None, True)]
    assert manifest.contract.examples[0].inputs == {"home": "own", "age": 0.0}


def test_a_sample_value_that_the_artifact_does_not_take_is_no_example():
    signature = Signature((TensorSpec("home", "string", (-1,), categories=("own", "rent")),), TABLE.outputs)
    _, manifest = written(signature, {"home": np.array(["flat", "own"], object)})
    assert [example.inputs for example in manifest.contract.examples] == [{"home": "own"}]


def test_the_names_of_a_graphs_tensors_stay_what_callers_of_tensors_use():
    names = ("input.1", "head/Sigmoid:0", "Größe", "x")
    signature = Signature(
        tuple(TensorSpec(name, "float32", (-1,)) for name in names), (TensorSpec("308", "float32", (-1,)),)
    )
    _, manifest = written(signature)
    assert {f.name: f.wire for f in (*manifest.contract.inputs, *manifest.contract.outputs)} == {
        "input_1": "input.1",
        "head_Sigmoid_0": "head/Sigmoid:0",
        "Gr_e": "Größe",
        "x": "",
        "field_308": "308",
    }


def test_columns_of_a_table_have_no_other_name_for_callers_of_tensors():
    _, manifest = written(TABLE, backend="sklearn", artifact="model.skops")
    assert {f.wire for f in manifest.contract.inputs} == {""}


@pytest.mark.parametrize("names", [("a.b", "a_b"), ("a_b", "a.b"), ("a.b", "a b", "a_b", "A_B"), ("x__1", "x_1")])
def test_a_name_that_a_field_can_have_is_kept_whatever_the_others_become(names):
    signature = Signature(tuple(TensorSpec(n, "float32", (-1,)) for n in names), (TensorSpec("y", "float32", (-1,)),))
    _, manifest = written(signature)
    fields = {f.wire_name: f.name for f in manifest.contract.inputs}
    assert list(fields) == list(names)
    first = next(name for name in names if name.replace("_", "a").isalnum())
    assert fields[first] == first


@pytest.mark.parametrize(
    ("taken", "given"),
    [
        ((3, 4), (3,)),
        ((2,), ()),
        ((), (-1, 4)),
        ((-1, 4), (2,)),
        ((4, -1), (-1,)),
    ],
)
def test_a_graph_without_a_batch_axis_is_declared_so_with_whole_shapes(taken, given):
    signature = Signature((TensorSpec("x", "float32", taken),), (TensorSpec("y", "float32", given),))
    text, manifest = written(signature)
    assert "batching: none" in text
    contract = manifest.contract
    assert (contract.batching.is_batched, contract.inputs[0].shape, contract.outputs[0].shape) == (False, taken, given)


def test_shapes_that_callers_of_another_server_know_are_kept():
    signature = Signature((TensorSpec("x", "float32", (-1, 1)),), (TensorSpec("y", "float32", (-1, 2, 2)),))
    hints = Hints(is_batched=True, input_rows={"x": (1,)}, output_rows={"y": (4,)}, labels={"y": ("a", "b", "c", "")})
    _, manifest = written(signature, hints=hints)
    assert (manifest.contract.inputs[0].shape, manifest.contract.outputs[0].shape) == ((1,), (4,))
    assert manifest.bind.outputs["y"].reshape
    assert manifest.contract.outputs[0].labels == ("a", "b", "c", "")
