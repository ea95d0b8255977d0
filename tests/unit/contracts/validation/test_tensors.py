"""The compiled contract over tensors."""

import ml_dtypes
import numpy as np
import pytest

from limen.contracts.contract import Contract, Field
from limen.contracts.errors import InvalidArgument, InvalidOutput, Reason
from limen.contracts.validation.records import RecordCodec
from limen.contracts.validation.tensors import ContractCheck

SCORE = (Field(name="y", type="float32"),)


def check(*inputs, outputs=SCORE):
    return ContractCheck(Contract(name="m", inputs=inputs, outputs=outputs))


def refused(contract, inputs):
    with pytest.raises(InvalidArgument) as caught:
        contract.check_inputs(inputs)
    return caught.value


def test_a_good_request_gives_its_rows():
    contract = check(Field(name="x", type="float32", shape=(2,)), Field(name="s", type="string"))
    texts = np.array([b"a", "b", b"\xc3\xa9"], object)
    inputs = {"x": np.zeros((3, 2), np.float32), "s": texts}
    assert contract.check_inputs(inputs) == 3
    assert inputs["s"].tolist() == ["a", "b", "é"]


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros((1, 2), np.float64), Reason.DTYPE),
        (np.zeros((1, 3), np.float32), Reason.SHAPE_MISMATCH),
        (np.zeros(2, np.float32), Reason.SHAPE_MISMATCH),
        (np.zeros((), np.float32), Reason.SHAPE_MISMATCH),
        (np.zeros((0, 2), np.float32), Reason.BATCH_LIMIT),
        (np.array([[0, np.nan]], np.float32), Reason.NOT_FINITE),
        (np.array([[-np.inf, 0]], np.float32), Reason.NOT_FINITE),
    ],
)
def test_what_breaks_the_contract_is_refused_with_its_reason(array, reason):
    assert refused(check(Field(name="x", type="float32", shape=(2,))), {"x": array}).reason is reason


def test_large_finite_values_are_finite():
    contract = check(Field(name="x", type="float32", shape=(2,)))
    assert contract.check_inputs({"x": np.full((4, 2), 3e38, np.float32)}) == 4


def test_bounds_are_those_of_the_fields_own_precision():
    contract = check(Field(name="x", type="float32", minimum=0.1, maximum=0.7))
    assert contract.check_inputs({"x": np.array([0.1, 0.7], np.float32)}) == 2
    error = refused(contract, {"x": np.array([0.5, 0.75], np.float32)})
    assert (error.violations[0].path, error.violations[0].reason) == ("x[1]", "must be ≤ 0.7")


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_b32_narrow_floats_are_checked_for_nan_too(dtype):
    name = np.dtype(dtype).name
    contract = check(Field(name="x", type=name))
    assert refused(contract, {"x": np.array([np.nan], dtype)}).reason is Reason.NOT_FINITE
    assert check(Field(name="x", type=name, finite=False)).check_inputs({"x": np.array([np.nan], dtype)}) == 1


def test_nan_is_a_missing_value_where_one_may_be_missing():
    contract = check(Field(name="x", type="float64", nullable=True, minimum=0))
    assert contract.check_inputs({"x": np.array([np.nan, 1.0])}) == 2
    assert refused(contract, {"x": np.array([np.inf, 1.0])}).reason is Reason.NOT_FINITE


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float32", "float64"])
def test_the_allowed_numbers_are_those_of_the_fields_own_precision(kind):
    contract = check(Field(name="x", type=kind, enum=(0.1, 0.3), nullable=True))
    dtype = Field(name="x", type=kind).element.dtype
    assert contract.check_inputs({"x": np.array([0.1, 0.3, np.nan]).astype(dtype)}) == 3
    assert refused(contract, {"x": np.array([0.1, 0.2]).astype(dtype)}).reason is Reason.VALUE


def test_b23_missing_and_extra_inputs_are_named_and_optional_ones_filled():
    contract = check(
        Field(name="a", type="int32"),
        Field(name="b", type="float32", default=1.5),
        Field(name="c", type="string", nullable=True),
    )
    inputs = {"a": np.array([1, 2], np.int32)}
    assert contract.check_inputs(inputs) == 2
    assert (inputs["b"].tolist(), inputs["c"].tolist()) == ([1.5, 1.5], [None, None])
    error = refused(contract, {"z": np.array([1], np.int32)})
    assert {str(v) for v in error.violations} == {"z: is not an input of this model", "a: is a required input"}


@pytest.mark.parametrize(("shape", "default", "expected"), [((), "aGk=", b"hi"), ((2,), ["aGk=", ""], [b"hi", b""])])
def test_bytes_that_are_left_out_are_the_bytes_and_not_their_base64(shape, default, expected):
    fields = (Field(name="n", type="int64"), Field(name="blob", type="bytes", shape=shape, default=default))
    contract = Contract(name="m", inputs=fields, outputs=())
    inputs = {"n": np.array([1])}
    ContractCheck(contract).check_inputs(inputs)
    assert inputs["blob"].tolist() == [expected]
    codec = RecordCodec(contract)
    assert codec.decode(b'{"instances": [{"n": 1}]}').inputs["blob"].tolist() == [expected]
    assert codec.tensors([{"n": 1}])["blob"].tolist() == [expected]


def test_inputs_must_have_the_same_rows():
    contract = check(Field(name="a", type="int32"), Field(name="b", type="int32"))
    arrays = {"a": np.zeros(2, np.int32), "b": np.zeros(3, np.int32)}
    assert refused(contract, arrays).reason is Reason.SHAPE_MISMATCH


def test_an_answer_is_given_in_the_order_of_the_contract():
    outputs = (Field(name="p", type="float32"), Field(name="q", type="int64"))
    contract = check(Field(name="x", type="int32"), outputs=outputs)
    answer = {"extra": np.zeros(1), "q": np.zeros(1, np.int64), "p": np.zeros(1, np.float32)}
    assert list(contract.check_outputs(answer, 1)) == ["p", "q"]


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"y": np.array([np.nan], np.float32)},
        {"y": np.array([1, 2], np.float32)},
        {"y": np.array([1], np.float64)},
        {"y": np.array([[1]], np.float32)},
    ],
)
def test_d3_an_answer_that_breaks_the_contract_is_the_models_fault(answer):
    with pytest.raises(InvalidOutput):
        check(Field(name="x", type="int32")).check_outputs(answer, 1)


LIMITS = [
    (Field(name="y", type="float32", maximum=1), [0.5, 1.0], [2.0, np.inf, np.nan]),
    (Field(name="y", type="float32", minimum=0.1, nullable=True), [0.1, np.nan], [0.0, np.inf]),
    (Field(name="y", type="float64", minimum=0, finite=False), [0.0, np.inf, np.nan], [-1.0, -np.inf]),
    (Field(name="y", type="float32", enum=(0.1, 0.5), nullable=True), [0.1, 0.5, np.nan], [0.2]),
    (Field(name="y", type="float16", maximum=1), [1.0], [1.01]),
    (Field(name="y", type="int64", minimum=0, maximum=9), [0, 9], [-1, 10]),
    (Field(name="y", type="uint8", enum=(1, 2)), [1, 2], [0, 3]),
    (Field(name="y", type="string", enum=("a", "b")), ["a", "b"], ["c", "", None]),
    (Field(name="y", type="string", pattern="^[a-z]+$", nullable=True), ["a", None], ["A", ""]),
    (Field(name="y", type="string", min_length=1, max_length=2), ["é", "ab"], ["", "abc"]),
    (Field(name="y", type="bytes", max_length=2), [b"", b"ab"], [b"abc"]),
]


@pytest.mark.parametrize(("field", "good", "bad"), LIMITS)
@pytest.mark.parametrize("rows", [1, 9])
def test_an_answer_holds_what_the_contract_says(field, good, bad, rows):
    contract = check(Field(name="x", type="int32"), outputs=(field,))
    dtype = field.element.dtype
    for value in good:
        assert len(contract.check_outputs({"y": np.array([value] * rows, dtype)}, rows)["y"]) == rows
    for value in bad:
        # One wrong value among right ones is enough, wherever it stands.
        for at in {0, rows - 1}:
            values = [good[0]] * rows
            values[at] = value
            with pytest.raises(InvalidOutput, match=rf"the model's output y\[{at}\]") as caught:
                contract.check_outputs({"y": np.array(values, dtype)}, rows)
            assert not isinstance(value, str) or value in ("", "A") or f"{value!r}" not in caught.value.message


def test_every_element_of_an_answer_counts():
    field = Field(name="y", type="float32", shape=(3,), minimum=0, maximum=1)
    contract = check(Field(name="x", type="int32"), outputs=(field, Field(name="z", type="float32")))
    answer = {"y": np.full((2, 3), 0.5, np.float32), "z": np.zeros(2, np.float32)}
    assert list(contract.check_outputs(answer, 2)) == ["y", "z"]
    answer["y"][1, 2] = 1.5
    with pytest.raises(InvalidOutput, match=r"y\[1\]\[2\]: must be ≤ 1"):
        contract.check_outputs(answer, 2)


def test_plain_inputs_keep_their_range_with_any_number_of_rows():
    contract = check(Field(name="x", type="float32", shape=(2,), minimum=0.1, maximum=1))
    for rows in (1, 5):
        array = np.full((rows, 2), 0.1, np.float32)
        assert contract.check_inputs({"x": array}) == rows
        array[rows - 1, 1] = 1.5
        assert refused(contract, {"x": array}).reason is Reason.VALUE
    assert refused(contract, {"x": np.zeros((0, 2), np.float32)}).reason is Reason.BATCH_LIMIT
