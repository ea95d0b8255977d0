"""A binding is decided once, says everything that does not fit, and costs nothing where nothing has to change."""

import numpy as np
import pytest

from limen.contracts.contract import Batching, Contract, Field
from limen.contracts.errors import InvalidOutput, InvalidPackage
from limen.contracts.tensors import TensorSpec
from limen.packaging.manifest.values import Bind, InputBinding, Manifest, OutputBinding
from limen.runtime.binding.binding import Binding, compile_binding, wanted_tensors
from limen.runtime.predictor import Signature


def manifest(inputs, outputs, bind=None, **contract) -> Manifest:
    return Manifest(
        contract=Contract(name="m", inputs=tuple(inputs), outputs=tuple(outputs), **contract),
        backend="onnx",
        artifact="model.onnx",
        bind=bind or Bind(),
    )


def field(name, kind="float32", shape=(), **more) -> Field:
    return Field(name=name, type=kind, shape=shape, **more)


def bound(inputs, outputs, taken, given, bind=None, **contract) -> Binding:
    signature = Signature(tuple(TensorSpec(*t) for t in taken), tuple(TensorSpec(*t) for t in given))
    return compile_binding(manifest(inputs, outputs, bind, **contract), signature)


def mistakes(*args, **contract) -> dict[str, str]:
    with pytest.raises(InvalidPackage) as caught:
        bound(*args, **contract)
    return {v.path: v.reason for v in caught.value.violations}


OUT = [field("y")]
GIVEN = [("y", "float32", (-1,))]
UNDECLARED: tuple[list, list] = ([], [])


def test_what_fits_as_it_is_is_passed_on_untouched():
    binding = bound([field("x", shape=(30,))], OUT, [("x", "float32", (-1, 30))], GIVEN)
    inputs, raw = {"x": np.zeros((2, 30), np.float32)}, {"y": np.zeros(2, np.float32)}
    assert binding.pack(inputs) is inputs
    assert binding.unpack(raw, 2) is raw


def test_a_renamed_field_keeps_its_array():
    binding = bound(
        [field("x")],
        OUT,
        [("float_input", "float32", (-1,))],
        [("variable", "float32", (-1,))],
        Bind(inputs={"float_input": "x"}, outputs={"y": OutputBinding(tensor="variable")}),
    )
    array = np.zeros(2, np.float32)
    assert binding.pack({"x": array})["float_input"] is array
    assert binding.unpack({"variable": array}, 2)["y"] is array
    assert binding.wanted == ("variable",)


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("kinds", [("float32", "float32"), ("float32", "int16"), ("float64", "bool")])
def test_scalar_fields_become_the_columns_of_one_tensor(rows, kinds):
    fields = [field("a", kinds[0]), field("b", kinds[1])]
    binding = bound(fields, OUT, [("numeric", "float32", (-1, 2))], GIVEN, Bind(inputs={"numeric": ("a", "b")}))
    inputs = {f.name: np.arange(rows).astype(f.element.dtype) for f in fields}
    packed = binding.pack(inputs)["numeric"]
    assert packed.dtype == np.float32
    assert packed.flags.c_contiguous
    np.testing.assert_array_equal(packed, np.stack([inputs["a"], inputs["b"]], axis=1).astype(np.float32))


@pytest.mark.parametrize("rows", [1, 3])
def test_texts_become_columns_too(rows):
    binding = bound(
        [field("a", "string"), field("b", "string")],
        OUT,
        [("words", "string", (-1, 2))],
        GIVEN,
        Bind(inputs={"words": ("a", "b")}),
    )
    packed = binding.pack({"a": np.array(["x"] * rows, object), "b": np.array(["y"] * rows, object)})["words"]
    assert packed.tolist() == [["x", "y"]] * rows


def test_one_value_a_row_and_a_matrix_of_one_column_stand_for_each_other():
    binding = bound([field("x")], OUT, [("x", "float32", (-1, 1))], [("y", "float32", (-1, 1))])
    assert binding.pack({"x": np.zeros(3, np.float32)})["x"].shape == (3, 1)
    assert binding.unpack({"y": np.zeros((3, 1), np.float32)}, 3)["y"].shape == (3,)


def test_a_column_of_the_answer_becomes_an_output():
    source = OutputBinding(tensor="p", column=1)
    binding = bound(
        [field("x")], OUT, [("x", "float32", (-1,))], [("p", "float32", (-1, 2))], Bind(outputs={"y": source})
    )
    assert binding.unpack({"p": np.array([[1, 2], [3, 4]], np.float32)}, 2)["y"].tolist() == [2, 4]


@pytest.mark.parametrize("names", [{"enum": ("a", "b")}, {"labels": ("a", "b")}])
def test_argmax_gives_a_text_output_the_name_of_the_class(names):
    source = Bind(outputs={"y": OutputBinding(tensor="p", argmax=True)})
    binding = bound(
        [field("x")], [field("y", "string", **names)], [("x", "float32", (-1,))], [("p", "float32", (-1, 2))], source
    )
    answer = binding.unpack({"p": np.array([[1, 2], [4, 3]], np.float32)}, 2)["y"]
    assert answer.tolist() == ["b", "a"]
    assert answer.dtype == object


def test_argmax_gives_an_integer_output_the_index():
    source = Bind(outputs={"y": OutputBinding(tensor="p", argmax=True)})
    binding = bound([field("x")], [field("y", "int32")], [("x", "float32", (-1,))], [("p", "float32", (-1, 2))], source)
    answer = binding.unpack({"p": np.array([[1, 2], [4, 3]], np.float32)}, 2)["y"]
    assert (answer.tolist(), answer.dtype) == ([1, 0], np.int32)


def test_argmax_of_nan_is_no_class():
    """NumPy would take the place of the NaN for the place of the largest value."""
    source = Bind(outputs={"y": OutputBinding(tensor="p", argmax=True)})
    binding = bound([field("x")], [field("y", "int64")], [("x", "float32", (-1,))], [("p", "float32", (-1, 2))], source)
    with pytest.raises(InvalidOutput):
        binding.unpack({"p": np.array([[1, np.nan]], np.float32)}, 1)


@pytest.mark.parametrize("element", ["int64", "int8", "string"])
def test_a_threshold_gives_the_number_or_name_of_one_of_two_classes(element):
    source = Bind(outputs={"y": OutputBinding(tensor="p", threshold=0.5)})
    output = field("y", element, enum=("no", "yes")) if element == "string" else field("y", element)
    binding = bound([field("x")], [output], [("x", "float32", (-1,))], [("p", "float32", (-1,))], source)
    answer = binding.unpack({"p": np.array([0.5, 0.51], np.float32)}, 2)["y"]
    assert answer.tolist() == (["no", "yes"] if element == "string" else [0, 1])


def test_a_threshold_may_look_at_one_column():
    source = Bind(outputs={"y": OutputBinding(tensor="p", column=1, threshold=0.5)})
    binding = bound([field("x")], [field("y", "int64")], [("x", "float32", (-1,))], [("p", "float32", (-1, 2))], source)
    assert binding.unpack({"p": np.array([[0.9, 0.1], [0.2, 0.8]], np.float32)}, 2)["y"].tolist() == [0, 1]


def test_nan_is_on_no_side_of_a_threshold():
    source = Bind(outputs={"y": OutputBinding(tensor="p", threshold=0.5)})
    binding = bound([field("x")], [field("y", "int64")], [("x", "float32", (-1,))], [("p", "float32", (-1,))], source)
    with pytest.raises(InvalidOutput):
        binding.unpack({"p": np.array([np.nan], np.float32)}, 1)


def test_one_tensor_may_give_several_outputs():
    outputs = [field("first"), field("second")]
    bind = Bind(outputs={n: OutputBinding(tensor="p", column=i) for i, n in enumerate(("first", "second"))})
    binding = bound([field("x")], outputs, [("x", "float32", (-1,))], [("p", "float32", (-1, 2))], bind)
    assert binding.wanted == ("p",)
    answer = binding.unpack({"p": np.array([[1, 2]], np.float32)}, 1)
    assert {name: array.tolist() for name, array in answer.items()} == {"first": [1], "second": [2]}


@pytest.mark.parametrize(
    ("declared", "taken"),
    [("float64", "float32"), ("float32", "float64"), ("float16", "float32"), ("int8", "float16"), ("bool", "int8")],
)
def test_types_are_cast_where_no_value_changes_or_double_meets_single(declared, taken):
    binding = bound([field("x", declared)], OUT, [("x", taken, (-1,))], GIVEN)
    packed = binding.pack({"x": np.ones(2, declared)})["x"]
    assert (packed.dtype, packed.tolist()) == (np.dtype(taken), [1, 1])


def test_a_large_double_becomes_infinity_without_a_warning():
    binding = bound([field("x", "float64")], OUT, [("x", "float32", (-1,))], GIVEN)
    assert binding.pack({"x": np.array([1e300])})["x"].tolist() == [np.inf]


@pytest.mark.parametrize("limits", [{"minimum": 0, "maximum": 1 << 24}, {"enum": (1, 2, 3)}])
def test_limits_make_an_integer_fit_a_float(limits):
    assert "x" in mistakes([field("x", "int64")], OUT, [("x", "float32", (-1,))], GIVEN)["inputs[0]"]
    binding = bound([field("x", "int64", **limits)], OUT, [("x", "float32", (-1,))], GIVEN)
    assert binding.pack({"x": np.array([3])})["x"].dtype == np.float32


def test_a_type_and_shape_that_differ_are_told_with_both_sides():
    assert mistakes([field("x", shape=(30,))], OUT, [("x", "int32", (-1, 2048))], GIVEN) == {
        "inputs[0]": "is float32 [-1, 30]; the artifact's input 'x' takes int32 [-1, 2048]"
    }


def test_every_mistake_is_told_at_once_with_its_path():
    found = mistakes(
        [field("a", "int64"), field("b"), field("stray")],
        [field("missing"), field("wide"), field("far"), field("whole", "int32")],
        [("numeric", "float32", (-1, 3)), ("unfed", "int64", (-1,))],
        [("p", "float32", (-1, 2)), ("wide", "float32", (-1, 7))],
        Bind(
            inputs={"numeric": ("a", "b"), "ghost": "b"},
            outputs={"far": OutputBinding(tensor="p", column=2), "whole": OutputBinding(tensor="p", column=0)},
        ),
    )
    assert set(found) == {
        "bind.inputs.numeric",
        "bind.inputs.numeric[0]",
        "bind.inputs.ghost",
        "bind.inputs.unfed",
        "inputs[2]",
        "outputs[0]",
        "outputs[1]",
        "bind.outputs.far.column",
        "bind.outputs.whole",
    }
    assert found["outputs[0]"] == "the artifact has no output 'missing'; it has p, wide"
    assert found["bind.outputs.far.column"] == "must be from 0 to 1: 'p' has 2 columns"
    assert found["bind.inputs.unfed"] == "nothing feeds this input of the artifact (int64 [-1])"


def test_as_many_names_as_columns_are_needed():
    source = Bind(outputs={"y": OutputBinding(tensor="p", argmax=True)})
    outputs = [field("y", "string", enum=("a", "b"))]
    found = mistakes([field("x")], outputs, [("x", "float32", (-1,))], [("p", "float32", (-1, 3))], source)
    assert found == {"bind.outputs.y": "names 2 classes; the artifact's output 'p' has 3 columns"}


def test_an_artifact_for_single_rows_needs_batches_of_one():
    args = ([field("x")], OUT, [("x", "float32", (1,))], [("y", "float32", (1,))])
    assert "set batching.max_rows to 1" in mistakes(*args)["inputs[0]"]
    assert bound(*args, batching=Batching(max_rows=1)).wanted == ("y",)


def test_an_artifact_without_a_batch_axis_takes_and_gives_one_row_as_it_is():
    binding = bound(
        [field("x", shape=(2, 3)), field("n", "int32"), field("a"), field("b")],
        [field("y", shape=(3,)), field("z")],
        [("x", "float64", (2, 3)), ("n", "int32", ()), ("ab", "float32", (2,))],
        [("y", "float32", (-1,)), ("z", "float32", (1,))],
        Bind(inputs={"ab": ("a", "b")}),
        batching=Batching(is_batched=False, max_rows=1),
    )
    one = {"x": np.ones((1, 2, 3), np.float32), "n": np.array([7], np.int32)}
    packed = binding.pack(one | {"a": np.array([1], np.float32), "b": np.array([2], np.float32)})
    assert {name: (array.shape, array.dtype.name) for name, array in packed.items()} == {
        "x": ((2, 3), "float64"),
        "n": ((), "int32"),
        "ab": ((2,), "float32"),
    }
    raw = {"y": np.zeros(3, np.float32), "z": np.zeros(1, np.float32)}
    assert {name: array.shape for name, array in binding.unpack(raw, 1).items()} == {"y": (1, 3), "z": (1,)}


def test_shapes_without_a_batch_axis_are_told_as_the_artifact_has_them():
    batching = Batching(is_batched=False, max_rows=1)
    found = mistakes([field("x", shape=(4,))], OUT, [("x", "float32", (3,))], GIVEN, batching=batching)
    assert found["inputs[0]"] == "is float32 [4]; the artifact's input 'x' takes float32 [3]"


def test_a_fixed_first_axis_that_is_no_batch_is_told_the_way_out():
    found = mistakes([field("x", shape=(4,))], OUT, [("x", "float32", (3, 4))], GIVEN)
    assert (
        "takes batches of 3 only: export it with a variable first axis, or set `batching: none`" in found["inputs[0]"]
    )


def test_values_are_laid_out_in_the_shape_that_each_side_knows():
    bind = Bind(
        inputs={"data_0": InputBinding(field="image", shape=(1, 2, 3))},
        outputs={"y": OutputBinding(tensor="fc", reshape=True)},
    )
    args = ([field("image", shape=(6,))], [field("y", shape=(4,))])
    batched = bound(*args, [("data_0", "float32", (-1, 1, 2, 3))], [("fc", "float32", (-1, 2, 2))], bind)
    rows = np.arange(12, dtype=np.float32).reshape(2, 6)
    assert batched.pack({"image": rows})["data_0"].tolist() == rows.reshape(2, 1, 2, 3).tolist()
    assert batched.unpack({"fc": np.zeros((2, 2, 2), np.float32)}, 2)["y"].shape == (2, 4)
    with pytest.raises(InvalidOutput, match="does not have the values of its shape"):
        batched.unpack({"fc": np.zeros((2, 3), np.float32)}, 2)
    one_run = Batching(is_batched=False, max_rows=1)
    whole = bound(*args, [("data_0", "float32", (1, 2, 3))], [("fc", "float32", (1, 4, 1, 1))], bind, batching=one_run)
    assert whole.pack({"image": rows[:1]})["data_0"].shape == (1, 2, 3)
    assert whole.unpack({"fc": np.zeros((1, 4, 1, 1), np.float32)}, 1)["y"].shape == (1, 4)


def test_a_shape_that_holds_other_values_is_a_mistake():
    bind = Bind(
        inputs={"x": InputBinding(field="x", shape=(2, 3))}, outputs={"y": OutputBinding(tensor="y", reshape=True)}
    )
    taken, given = [("x", "float32", (-1, 3, 2))], [("y", "float32", (-1, 5))]
    found = mistakes([field("x", shape=(6,))], [field("y", shape=(4,))], taken, given, bind)
    assert set(found) == {"bind.inputs.x", "bind.outputs.y"}


def test_an_output_without_a_declared_shape_is_looked_at_when_it_comes():
    binding = bound([field("x")], OUT, [("x", "float32", (-1,))], [("y", "float32", ())])
    assert binding.unpack({"y": np.zeros((2, 1), np.float32)}, 2)["y"].shape == (2,)


def test_the_tensors_that_are_needed_are_known_before_the_artifact():
    bind = Bind(outputs={"b": OutputBinding(tensor="p", column=0), "c": OutputBinding(tensor="p", column=1)})
    assert wanted_tensors(manifest([field("x")], [field("a"), field("b"), field("c")], bind)) == ("a", "p")


class TestAnArtifactThatDeclaresNothing:
    def test_takes_its_inputs_as_the_contract_has_them(self):
        binding = bound([field("x")], OUT, *UNDECLARED)
        inputs = {"x": np.zeros(1, np.float32)}
        assert binding.pack(inputs) is inputs

    @pytest.mark.parametrize(
        ("kind", "answer"),
        [
            ("float32", np.array([0.5, 1])),
            ("float64", np.array([1, 2], np.float32)),
            ("int32", np.array([1, 2])),
            ("int64", np.array([1.0, 2.0])),
            ("string", np.array(["a", "b"])),
            ("bytes", np.array([b"a", b"b"])),
            ("float16", np.array([1, 2])),
        ],
    )
    def test_has_its_answer_brought_to_the_contracts_type(self, kind, answer):
        got = bound([field("x")], [field("y", kind)], *UNDECLARED).unpack({"y": answer}, 2)["y"]
        assert got.dtype == field("y", kind).element.dtype
        assert got.tolist() == answer.tolist()

    @pytest.mark.parametrize(
        ("kind", "answer"),
        [
            ("int8", np.array([300])),
            ("uint8", np.array([-1])),
            ("int64", np.array([1 << 63], np.uint64)),
            ("int64", np.array([0.5])),
            ("int64", np.array([np.nan])),
            ("bool", np.array([1])),
            ("float16", np.array([0.1])),
            ("float32", np.array(["a"])),
            ("string", np.array([1])),
        ],
    )
    def test_has_an_answer_that_would_change_refused(self, kind, answer):
        binding = bound([field("x")], [field("y", kind)], *UNDECLARED)
        with pytest.raises(InvalidOutput, match="output y"):
            binding.unpack({"y": answer}, 1)

    def test_keeps_nan_in_floats(self):
        binding = bound([field("x")], [field("y", "float64")], *UNDECLARED)
        assert np.isnan(binding.unpack({"y": np.array([np.nan], np.float32)}, 1)["y"]).all()

    def test_that_leaves_an_output_out_is_told_so(self):
        with pytest.raises(InvalidOutput, match="gave no output y"):
            bound([field("x")], OUT, *UNDECLARED).unpack({"z": np.zeros(1)}, 1)

    def test_with_too_few_columns_is_told_so(self):
        bind = Bind(outputs={"y": OutputBinding(tensor="p", column=2)})
        with pytest.raises(InvalidOutput, match="too few columns"):
            bound([field("x")], OUT, *UNDECLARED, bind).unpack({"p": np.zeros((1, 2))}, 1)

    def test_still_has_its_columns_packed(self):
        binding = bound([field("a"), field("b", "int16")], OUT, *UNDECLARED, Bind(inputs={"m": ("a", "b")}))
        packed = binding.pack({"a": np.ones(2, np.float32), "b": np.ones(2, np.int16)})["m"]
        assert (packed.shape, packed.dtype) == ((2, 2), np.float32)
