"""ONNX: element types, sequences of maps, and graphs that want more than they may have."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper, save_model

from limen.contracts.contract import Contract, Field
from limen.contracts.errors import InvalidPackage, ModelFailed, Reason
from limen.contracts.tensors import TensorSpec
from limen.packaging.manifest.values import Bind, Manifest, OutputBinding
from limen.runtime.backends import backend
from limen.runtime.backends.onnx import OnnxModel
from limen.runtime.binding.binding import compile_binding
from tests.conformance.backends.conftest import SPECIES, X, Y


def graph(nodes, inputs, outputs, weights=(), domains=("",)):
    """Return a model; every tensor is (name, ONNX type, shape)."""
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(*spec) for spec in inputs],
        [helper.make_tensor_value_info(*spec) for spec in outputs],
        list(weights),
    )
    return helper.make_model(
        made, opset_imports=[helper.make_opsetid(d, 17 if not d else 1) for d in domains], ir_version=9
    )


def identity(kind):
    node = helper.make_node("Identity", ["x"], ["y"])
    return graph([node], [("x", kind, ["rows", 2])], [("y", kind, ["rows", 2])])


def wanting(*names) -> Manifest:
    fields = tuple(Field(name=name, type="float32", shape=(2,)) for name in names)
    contract = Contract(name="m", inputs=(Field(name="x", type="float32", shape=(2,)),), outputs=fields)
    return Manifest(contract=contract, backend="onnx", artifact="model.onnx")


def load(folder, model=None, manifest=None) -> OnnxModel:
    if model is not None:
        (folder / "model.onnx").write_bytes(model.SerializeToString())
    found = backend("onnx").load(folder, manifest or wanting("y"))
    assert isinstance(found, OnnxModel)
    return found


def refusal(folder, model=None) -> InvalidPackage:
    with pytest.raises(InvalidPackage) as caught:
        load(folder, model)
    return caught.value


@pytest.mark.parametrize(
    "name",
    ["bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64"],
)
def test_numbers_of_every_type_go_through(tmp_path, name):
    array = np.array([[0, 1]], name)
    array.flags.writeable = False
    model = load(tmp_path, identity(helper.np_dtype_to_tensor_dtype(np.dtype(name))))
    assert model.signature.inputs == (TensorSpec("x", name, (-1, 2)),)
    answer = model.predict({"x": array}, {})["y"]
    assert (answer.dtype, answer.tolist()) == (array.dtype, array.tolist())


def test_texts_go_through_and_a_missing_one_is_empty(tmp_path):
    model = load(tmp_path, identity(TensorProto.STRING))
    answer = model.predict({"x": np.array([["é\0x", None]], object)}, {})["y"]
    assert answer.tolist() == [["é\0x", ""]]


def test_bfloat16_is_refused_with_what_is_allowed(tmp_path):
    assert "is of the type bfloat16; allowed: bool" in refusal(tmp_path, identity(TensorProto.BFLOAT16)).message


def test_a_tensor_with_gaps_in_memory_is_read_right(tmp_path):
    rows = np.arange(8, dtype=np.float32).reshape(2, 4)[:, ::2]
    assert load(tmp_path, identity(TensorProto.FLOAT)).predict({"x": rows}, {})["y"].tolist() == rows.tolist()


def test_a_tensor_of_another_type_is_model_failed(tmp_path):
    """The binding casts what may be cast; nothing else gets here."""
    with pytest.raises(ModelFailed):
        load(tmp_path, identity(TensorProto.FLOAT)).predict({"x": np.zeros((1, 2))}, {})


def test_a_sequence_of_maps_is_given_as_the_matrix_it_stands_for(tmp_path):
    """What skl2onnx writes unless it is told otherwise."""
    from skl2onnx import to_onnx
    from sklearn.linear_model import LogisticRegression

    classifier = LogisticRegression(max_iter=200).fit(X, np.array(SPECIES)[Y])
    exported = to_onnx(classifier, X[:1].astype(np.float32))
    contract = Contract(
        name="m",
        inputs=(Field(name="X", type="float32", shape=(4,)),),
        outputs=(Field(name="chances", type="float32", shape=(3,)), Field(name="label", type="string")),
    )
    bind = Bind(
        outputs={n: OutputBinding(tensor=t) for n, t in (("chances", "output_probability"), ("label", "output_label"))}
    )
    manifest = Manifest(contract=contract, backend="onnx", artifact="model.onnx", bind=bind)
    model = load(tmp_path, exported, manifest)
    assert model.signature.outputs[1] == TensorSpec("output_probability", "float32", (-1, 3), SPECIES)
    answer = compile_binding(manifest, model.signature).unpack(model.predict({"X": X.astype(np.float32)}, {}), 150)
    np.testing.assert_allclose(answer["chances"], classifier.predict_proba(X), atol=1e-5)
    assert answer["label"].tolist() == classifier.predict(X).tolist()


def test_b94_custom_operators_are_refused(tmp_path):
    node = helper.make_node("Launch", ["x"], ["y"], domain="evil.example")
    model = graph(
        [node],
        [("x", TensorProto.FLOAT, [None, 2])],
        [("y", TensorProto.FLOAT, [None, 2])],
        domains=("", "evil.example"),
    )
    message = refusal(tmp_path, model).message
    assert "custom operators" in message
    assert "evil" not in message


def test_b94_custom_operators_inside_control_flow_are_refused(tmp_path):
    def branch(name, operator, domain):
        node = helper.make_node(operator, ["x"], [name], domain=domain)
        return helper.make_graph([node], name, [], [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 2])])

    choice = helper.make_node(
        "If", ["c"], ["y"], then_branch=branch("t", "Identity", ""), else_branch=branch("e", "Launch", "evil.example")
    )
    inputs = [("x", TensorProto.FLOAT, [None, 2]), ("c", TensorProto.BOOL, [])]
    model = graph([choice], inputs, [("y", TensorProto.FLOAT, [None, 2])], domains=("", "evil.example"))
    assert "custom operators" in refusal(tmp_path, model).message


def with_external_weights(folder, location="weights.bin"):
    """Write a model x + w whose w is in a second file."""
    weight = numpy_helper.from_array(np.array([[1, 2]], np.float32), "w")
    model = graph(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        [("x", TensorProto.FLOAT, [None, 2])],
        [("y", TensorProto.FLOAT, [None, 2])],
        [weight],
    )
    save_model(model, folder / "model.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    (folder / "model.onnx").write_bytes(model.SerializeToString())


def test_external_data_inside_the_package_is_read(tmp_path):
    with_external_weights(tmp_path)
    assert load(tmp_path).predict({"x": np.zeros((1, 2), np.float32)}, {})["y"].tolist() == [[1, 2]]


@pytest.mark.parametrize("location", ["../weights.bin", "/etc/passwd", "a/../../weights.bin", "C:\\weights.bin"])
def test_b94_external_data_outside_the_package_is_refused(tmp_path, location):
    package = tmp_path / "package"
    package.mkdir()
    with_external_weights(package, location)
    (package / "weights.bin").replace(tmp_path / "weights.bin")
    assert refusal(package).reason is Reason.UNSAFE_ARCHIVE


def test_b94_external_data_behind_a_link_is_refused(tmp_path):
    package = tmp_path / "package"
    package.mkdir()
    with_external_weights(package)
    (package / "weights.bin").replace(tmp_path / "weights.bin")
    (package / "weights.bin").symlink_to(tmp_path / "weights.bin")
    assert refusal(package).reason is Reason.UNSAFE_ARCHIVE


def test_external_data_that_is_not_there_is_told_so(tmp_path):
    with_external_weights(tmp_path)
    (tmp_path / "weights.bin").unlink()
    assert "not in the package" in refusal(tmp_path).message


def test_a_declared_shape_that_lies_is_model_failed(tmp_path):
    model = graph(
        [helper.make_node("Gather", ["x", "i"], ["y"], axis=1)],
        [("x", TensorProto.FLOAT, [None, None])],
        [("y", TensorProto.FLOAT, [None, 2])],
        [numpy_helper.from_array(np.array([0, 5]), "i")],
    )
    with pytest.raises(ModelFailed):
        load(tmp_path, model).predict({"x": np.zeros((1, 2), np.float32)}, {})
