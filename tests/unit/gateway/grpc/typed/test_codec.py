"""The quick ways of reading and writing typed messages give what protobuf itself gives."""

import numpy as np
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given
from hypothesis import strategies as st

from limen.contracts.contract import Batching, Contract, Field
from limen.contracts.errors import InvalidArgument
from limen.contracts.inference import InferenceResponse
from limen.contracts.proto.descriptor import file_descriptor
from limen.contracts.validation.tensors import ContractCheck
from limen.gateway.grpc.typed.codec import TypedCodec
from limen.gateway.grpc.typed.layout import layout_of

FLOATS = (
    Field(name="b", type="float32", number=20, finite=False),
    Field(name="a", type="float64", number=3, finite=False),
    Field(name="v", type="float32", shape=(40,), number=5, finite=False),
    Field(name="m", type="float64", shape=(2, 3), number=7, finite=False),
)
SHAPED = (
    Field(name="grid", type="int16", shape=(-1, -1)),
    Field(name="words", type="string", shape=(-1, -1), default=[["x"]]),
)


def contract(inputs=FLOATS, outputs=FLOATS) -> Contract:
    return Contract(name="m", inputs=tuple(inputs), outputs=tuple(outputs), batching=Batching(max_request_rows=50))


def kind(made: Contract, name: str):
    """Return a message class that protobuf alone made."""
    file = file_descriptor(made)
    pool = DescriptorPool()
    pool.Add(file)
    return GetMessageClass(pool.FindMessageTypeByName(f"{file.package}.{name}"))


def decode(made: Contract, data: bytes):
    codec = TypedCodec(made, made.name)
    return codec.decode(codec.open(data), ContractCheck(made))


def tensors(rows: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(rows)
    return {f.name: generator.standard_normal((rows, *f.shape)).astype(f.element.dtype) for f in FLOATS}


def message(rows: int, **rest) -> bytes:
    columns = {n: a.reshape(rows, -1).tolist() if a.ndim > 1 else a.tolist() for n, a in tensors(rows).items()}
    instances = [{name: column[i] for name, column in columns.items()} for i in range(rows)]
    return kind(contract(), "PredictRequest")(instances=instances, **rest).SerializeToString()


@pytest.mark.parametrize("rows", [1, 2, 50])
def test_rows_of_one_form_are_read_without_protobuf_and_are_right(rows):
    made = contract()
    codec = TypedCodec(made, "m")
    opened = codec.open(message(rows, id="r-1"))
    assert (opened.rows, opened.id) == (rows, "r-1")
    found = codec.decode(opened, ContractCheck(made))
    assert found.rows == rows
    for name, expected in tensors(rows).items():
        np.testing.assert_array_equal(expected, found.inputs[name])
        assert found.inputs[name].flags.c_contiguous
        assert found.inputs[name].dtype is expected.dtype


def test_rows_that_only_look_alike_are_read_by_protobuf():
    """A row with its fields in another order is as good; nothing is read from where it usually is."""
    made = contract()
    good = message(3)
    request = kind(made, "PredictRequest")
    usual = request.FromString(good).instances[1].SerializeToString()
    cut = usual.index(b"\x3a")  # number 7
    moved = usual[cut:] + usual[:cut]
    data = good.replace(usual, moved)
    assert data != good
    assert request.FromString(data) == request.FromString(good)
    found = decode(made, data)
    for name, expected in tensors(3).items():
        np.testing.assert_array_equal(expected, found.inputs[name])


@given(st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 7)), min_size=1, max_size=4))
def test_whatever_the_bytes_the_quick_way_reads_what_protobuf_reads(flips):
    data = bytearray(message(3))
    for place, bit in flips:
        data[place % len(data)] ^= 1 << bit
    layout = layout_of(FLOATS, "inputs")
    inputs, rows, rest = layout.read(bytes(data))
    if rows:
        found = kind(contract(), "PredictRequest").FromString(bytes(data[: len(data) - len(rest)])).instances
        assert len(found) == rows
        for name, array in inputs.items():
            expected = [np.array(getattr(row, name), array.dtype).ravel() for row in found]
            np.testing.assert_array_equal(expected, array.reshape(rows, -1) if array.ndim > 1 else array[:, None])


def test_answers_are_what_protobuf_would_write():
    made = contract()
    response = InferenceResponse("m", "7", tensors(3), parameters={"limen_fallback": "constant"})
    answer = kind(made, "PredictResponse").FromString(TypedCodec(made, "m").encode(response, "r-1"))
    assert (answer.id, answer.model_name, answer.model_version, answer.fallback) == ("r-1", "m", "7", "constant")
    for i, row in enumerate(answer.predictions):
        for name, expected in tensors(3).items():
            np.testing.assert_array_equal(expected[i].ravel(), np.array(getattr(row, name)).ravel())


def test_missing_values_of_an_answer_are_absent():
    outputs = (
        Field(name="score", type="float32", nullable=True),
        Field(name="word", type="string", nullable=True),
        Field(name="words", type="string", shape=(2,), nullable=True),
        Field(name="half", type="bfloat16"),
    )
    made = contract(outputs=outputs)
    arrays = {
        "score": np.array([np.nan, 0], np.float32),
        "word": np.array([None, ""], object),
        "words": np.array([[None, None], ["a", None]], object),
        "half": np.array([0.5, 1], outputs[3].element.dtype),
    }
    data = TypedCodec(made, "m").encode(InferenceResponse("m", "1", arrays), "r-1")
    first, second = kind(made, "PredictResponse").FromString(data).predictions
    assert [first.HasField("score"), first.HasField("word"), list(first.words), first.half] == [False, False, [], 0.5]
    assert [second.HasField("score"), second.HasField("word"), list(second.words)] == [True, True, ["a", ""]]


def test_values_that_carry_their_shape_come_and_go():
    made = contract(SHAPED, SHAPED)
    grid = {"shape": [2, 1], "values": [1, -2]}
    data = kind(made, "PredictRequest")(instances=[{"grid": grid}, {"grid": grid}]).SerializeToString()
    found = decode(made, data).inputs
    assert (found["grid"].tolist(), found["words"].tolist()) == ([[[1], [-2]]] * 2, [[["x"]]] * 2)
    answer = TypedCodec(made, "m").encode(InferenceResponse("m", "1", found), "")
    (row, _) = kind(made, "PredictResponse").FromString(answer).predictions
    assert (list(row.grid.shape), list(row.grid.values), list(row.words.values)) == ([2, 1], [1, -2], ["x"])


@pytest.mark.parametrize(
    ("rows", "path"),
    [
        ([{}], "instances[0].grid"),
        ([{"grid": {"shape": [2], "values": [1, 2]}}], "instances[0].grid.shape"),
        ([{"grid": {"shape": [-1, 2], "values": [1, 2]}}], "instances[0].grid.shape"),
        ([{"grid": {"shape": [1 << 40, 1 << 40], "values": []}}], "instances[0].grid.shape"),
        ([{"grid": {"shape": [1, 2], "values": [1]}}], "instances[0].grid.values"),
        ([{"grid": {"shape": [1, 1], "values": [40_000]}}], "instances[0].grid"),
        ([{"grid": {"shape": [1, 1], "values": [1]}}, {"grid": {"shape": [1, 2], "values": [1, 2]}}], "instances"),
    ],
)
def test_shapes_that_do_not_fit_are_named(rows, path):
    made = contract(SHAPED, SHAPED)
    with pytest.raises(InvalidArgument) as caught:
        decode(made, kind(made, "PredictRequest")(instances=rows).SerializeToString())
    assert [v.path for v in caught.value.violations] == [path]


def test_rows_of_unequal_length_are_refused_and_defaults_fill_in():
    fields = (
        Field(name="v", type="float32", shape=(-1,)),
        Field(name="w", type="int8", shape=(-1, 2), default=[[1, 2]]),
    )
    made = contract(fields)
    request = kind(made, "PredictRequest")
    found = decode(made, request(instances=[{"v": [1], "w": [3, 4]}, {"v": [2]}]).SerializeToString())
    assert found.inputs["w"].tolist() == [[[3, 4]], [[1, 2]]]
    for rows, text in (
        (
            [{"v": [1]}, {"v": [1, 2]}],
            "must all have v of the same size; send rows of other sizes in separate requests",
        ),
        ([{"v": [1], "w": [1, 2, 3]}], "must have a multiple of 2 values"),
    ):
        with pytest.raises(InvalidArgument, match=text):
            decode(made, request(instances=rows).SerializeToString())
