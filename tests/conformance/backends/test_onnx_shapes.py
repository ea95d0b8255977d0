"""ONNX files that declare other outputs than they give: the run is believed, and what cannot be answered with is named."""

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from limen.contracts.contract import Contract, Field
from limen.contracts.errors import InvalidPackage
from limen.packaging.manifest.values import Manifest
from limen.runtime.backends import backend
from limen.runtime.backends.onnx import OnnxModel
from limen.runtime.binding.binding import compile_binding
from tests.conformance.backends.test_onnx import graph

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
ROWS = np.array([[1.5, 2.5], [-3.0, 40.0], [0.5, 0.0]], np.float32)


def forest(declared: list, targets: int):
    """Return a stump for each target whose file declares whatever it is told."""
    node = helper.make_node(
        "TreeEnsembleRegressor",
        ["x"],
        ["y"],
        domain="ai.onnx.ml",
        n_targets=targets,
        nodes_treeids=[0, 0, 0],
        nodes_nodeids=[0, 1, 2],
        nodes_featureids=[0, 0, 0],
        nodes_modes=["BRANCH_LEQ", "LEAF", "LEAF"],
        nodes_values=[1.0, 0.0, 0.0],
        nodes_truenodeids=[1, 0, 0],
        nodes_falsenodeids=[2, 0, 0],
        target_treeids=[0, 0] * targets,
        target_nodeids=[1, 2] * targets,
        target_ids=[i for i in range(targets) for _ in (1, 2)],
        target_weights=[1.0, 2.0] * targets,
    )
    return graph([node], [("x", FLOAT, ["N", 2])], [("y", FLOAT, declared)], domains=("", "ai.onnx.ml"))


def write(folder, model):
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    return folder / "model.onnx"


def served(folder, field: Field) -> np.ndarray:
    """Return the contract's answer to the rows."""
    contract = Contract(name="m", inputs=(Field(name="x", type="float32", shape=(2,)),), outputs=(field,))
    manifest = Manifest(contract=contract, backend="onnx", artifact="model.onnx")
    model = backend("onnx").load(folder, manifest)
    binding = compile_binding(manifest, model.signature)
    return binding.unpack(model.predict(binding.pack({"x": ROWS}), {}), len(ROWS))[field.name]


@pytest.mark.parametrize(
    ("declared", "targets", "found"),
    [(["N"], 1, (-1, 1)), (["N", 1], 2, (-1, 2)), ([1, 1], 1, (-1, 1)), (["N", 1], 1, (-1, 1)), (None, 2, (-1, 2))],
)
def test_the_shape_of_a_run_is_believed_and_not_the_files(tmp_path, declared, targets, found):
    artifact = write(tmp_path, forest(declared, targets))
    (output,) = backend("onnx").describe(artifact).outputs
    assert output.shape == found
    direct = onnxruntime.InferenceSession(artifact).run(["y"], {"x": ROWS})[0]
    field = Field(name="y", type="float32", shape=(targets,))
    np.testing.assert_array_equal(direct, served(tmp_path, field))
    if targets == 1:
        np.testing.assert_array_equal(direct[:, 0], served(tmp_path, Field(name="y", type="float32")))


def test_a_contract_with_another_size_than_a_run_gives_is_refused(tmp_path):
    write(tmp_path, forest(["N", 1], 2))
    with pytest.raises(InvalidPackage) as refused:
        served(tmp_path, Field(name="y", type="float32"))
    assert "it comes from float32 [-1, 2]" in str(refused.value.violations)


def test_a_size_that_the_file_leaves_open_stays_open(tmp_path):
    """The number of what is found depends on values; that a run found one says nothing about the next."""
    node = helper.make_node("Compress", ["x", "chosen"], ["y"], axis=1)
    chosen = numpy_helper.from_array(np.array([True, False]), "chosen")
    model = graph([node], [("x", FLOAT, ["N", 2])], [("y", FLOAT, ["N", "found"])], [chosen])
    assert backend("onnx").describe(write(tmp_path, model)).outputs[0].shape == (-1, -1)


def test_a_graph_that_takes_no_made_up_values_is_taken_by_its_word(tmp_path):
    table = numpy_helper.from_array(np.zeros((1, 4), np.float32), "table")
    node = helper.make_node("Gather", ["table", "x"], ["y"])
    model = graph([node], [("x", INT64, ["N"])], [("y", FLOAT, ["N", 4])], [table])
    assert backend("onnx").describe(write(tmp_path, model)).outputs[0].shape == (-1, 4)


def pieces(*, plain: bool):
    """Return a graph that gives a sequence, and perhaps a tensor as well."""
    nodes = [helper.make_node("SplitToSequence", ["x"], ["S"], axis=1), helper.make_node("Abs", ["x"], ["y"])]
    made = graph(nodes if plain else nodes[:1], [("x", FLOAT, ["N", 2])], [("y", FLOAT, ["N", 2])] if plain else [])
    made.graph.output.insert(0, helper.make_tensor_sequence_value_info("S", FLOAT, None))
    return made


def test_a_graph_that_gives_nothing_to_answer_with_is_refused_by_name(tmp_path):
    with pytest.raises(InvalidPackage, match=r"output 'S' is a sequence of tensor\(float\)"):
        backend("onnx").describe(write(tmp_path, pieces(plain=False)))


def test_an_output_that_cannot_be_answered_with_is_left_out_by_name_and_refused_when_it_is_wanted(tmp_path):
    signature = backend("onnx").describe(write(tmp_path, pieces(plain=True)))
    assert [spec.name for spec in signature.outputs] == ["y"]
    assert signature.left_out == ("output 'S' is a sequence of tensor(float)",)
    with pytest.raises(InvalidPackage) as refused:
        served(tmp_path, Field(name="S", type="float32", shape=(-1,)))
    assert "output 'S' is a sequence of tensor(float), which a contract cannot express" in str(refused.value.violations)


@pytest.mark.parametrize("kind", [TensorProto.BFLOAT16, TensorProto.FLOAT8E4M3FN, TensorProto.INT4])
def test_numbers_of_a_type_that_is_not_exchanged_are_refused_by_name(tmp_path, kind):
    node = helper.make_node("Cast", ["x"], ["y"], to=kind)
    model = graph([node], [("x", FLOAT, ["N", 2])], [("y", kind, ["N", 2])])
    model.opset_import[0].version, model.ir_version = 21, 10
    name = TensorProto.DataType.Name(kind).lower()
    with pytest.raises(InvalidPackage, match=rf"output 'y' is of the type {name}|cannot load this file"):
        backend("onnx").describe(write(tmp_path, model))


def test_a_graph_without_inputs_is_refused(tmp_path):
    value = numpy_helper.from_array(np.ones((2, 2), np.float32))
    model = graph([helper.make_node("Constant", [], ["y"], value=value)], [], [("y", FLOAT, [2, 2])])
    with pytest.raises(InvalidPackage, match="has no inputs"):
        backend("onnx").describe(write(tmp_path, model))


def mixing(folder, *nodes, rows: str | int = "N", weights=()) -> str:
    write(folder, graph(list(nodes), [("x", FLOAT, [rows, 4])], [("y", FLOAT, None)], weights))
    contract = Contract(
        name="m",
        inputs=(Field(name="x", type="float32", shape=(4,)),),
        outputs=(Field(name="y", type="float32", shape=(-1,)),),
    )
    model = backend("onnx").load(folder, Manifest(contract=contract, backend="onnx", artifact="model.onnx"))
    assert isinstance(model, OnnxModel)
    return model.mixes_rows


def norm(*, training: int):
    ones = [numpy_helper.from_array(np.ones(4, np.float32), name) for name in ("s", "b", "m", "v")]
    outputs = ["y", "m2", "v2"] if training else ["y"]
    node = helper.make_node("BatchNormalization", ["x", "s", "b", "m", "v"], outputs, training_mode=training)
    return node, ones


def test_a_graph_says_itself_where_it_computes_over_all_rows(tmp_path):
    make = helper.make_node
    quantised = make("DynamicQuantizeLinear", ["x"], ["q", "s", "z"], name="scale")
    back = make("DequantizeLinear", ["q", "s", "z"], ["y"])
    assert (
        mixing(tmp_path, quantised, back) == "the graph's DynamicQuantizeLinear 'scale' computes over all rows of a run"
    )
    centred = make("Sub", ["x", "mean"], ["y"])
    assert "ReduceMean" in mixing(tmp_path, make("ReduceMean", ["x"], ["mean"], axes=[0]), centred)
    assert "ReduceMean" in mixing(tmp_path, make("ReduceMean", ["x"], ["mean"], axes=[-2]), centred)
    assert "Softmax" in mixing(tmp_path, make("Softmax", ["x"], ["y"], axis=0))
    depth = numpy_helper.from_array(np.array(0, np.int64), "axes")
    assert "CumSum" in mixing(tmp_path, make("CumSum", ["x", "axes"], ["y"]), weights=[depth])
    node, weights = norm(training=1)
    assert "BatchNormalization" in mixing(tmp_path, node, weights=weights)


def test_a_graph_whose_rows_leave_each_other_alone_says_nothing(tmp_path):
    make = helper.make_node
    centred = make("Sub", ["x", "mean"], ["y"])
    assert not mixing(tmp_path, make("ReduceMean", ["x"], ["mean"], axes=[1]), centred)
    assert not mixing(tmp_path, make("Softmax", ["x"], ["y"], axis=1))
    node, weights = norm(training=0)
    assert not mixing(tmp_path, node, weights=weights)
    weight = numpy_helper.from_array(np.eye(4, dtype=np.float32), "w")
    quantised = make("DynamicQuantizeLinear", ["w"], ["q", "s", "z"])
    back = make("DequantizeLinear", ["q", "s", "z"], ["back"])
    assert not mixing(tmp_path, quantised, back, make("MatMul", ["x", "back"], ["y"]), weights=[weight])
    turned = [make("Transpose", ["x"], ["t"]), make("Softmax", ["t"], ["u"], axis=0), make("Transpose", ["u"], ["y"])]
    assert not mixing(tmp_path, *turned)
