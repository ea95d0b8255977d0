"""Rows made from a contract differ, and the contract takes every one of them."""

import numpy as np
import pytest

from limen.contracts.contract import Contract, Example, Field
from limen.contracts.validation.records import RecordCodec
from limen.contracts.validation.tensors import ContractCheck
from limen.contracts.varied import base_rows, varied_row
from tests.unit.contracts.served import ALL

COUNT = 12


def rows_of(contract: Contract) -> list[dict[str, np.ndarray]]:
    bases = base_rows(contract, RecordCodec(contract))
    return [varied_row(contract, base, number) for base in bases for number in range(COUNT)]


def one(field: Field) -> np.ndarray:
    """Return the values of a field in rows made from a contract that has no other."""
    contract = Contract(name="m", inputs=(field,), outputs=(Field(name="y", type="float32"),))
    return np.concatenate([row[field.name] for row in rows_of(contract)])


@pytest.mark.parametrize("served", ALL, ids=lambda s: s.contract.name)
def test_the_contract_takes_every_row(served):
    check = ContractCheck(served.contract)
    for row in rows_of(served.contract):
        assert check.check_inputs(dict(row)) == 1


def test_numbers_without_limits_differ_in_scale_and_sign():
    values = one(Field(name="x", type="float32", shape=(3,)))
    sizes = np.abs(values).max(axis=1)
    assert sizes.max() > 1000 * sizes.min()
    assert (values < 0).any()
    assert (values > 0).any()


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-5.0, None), (None, 3.0), (0.1, 0.1)])
def test_numbers_stay_within_limits_in_their_own_precision(low, high):
    values = one(Field(name="x", type="float32", minimum=low, maximum=high))
    assert low is None or values.min() >= np.float32(low)
    assert high is None or values.max() <= np.float32(high)
    assert low == high or len(np.unique(values)) > COUNT / 2


@pytest.mark.parametrize("type_name", ["int8", "uint8", "int64", "uint64"])
def test_whole_numbers_stay_within_their_type(type_name):
    field = Field(name="n", type=type_name)
    values = one(field)
    assert values.dtype == field.element.dtype
    wide = one(Field(name="n", type=type_name, minimum=field.element.low, maximum=field.element.high))
    assert len(np.unique(wide)) > COUNT / 2


def test_every_category_is_asked_for():
    assert set(one(Field(name="c", type="string", enum=("a", "b", "c")))) == {"a", "b", "c"}
    assert set(one(Field(name="c", type="int32", enum=(3, 7)))) == {3, 7}


def test_values_that_may_be_missing_are_missing_somewhere():
    numbers = one(Field(name="x", type="float32", shape=(4,), nullable=True))
    assert np.isnan(numbers).any()
    assert np.isnan(numbers).any(axis=1).sum() < len(numbers)
    assert None in set(one(Field(name="t", type="string", nullable=True)))
    assert not np.isnan(one(Field(name="x", type="float32"))).any()


def test_texts_differ_as_far_as_the_pattern_lets_them():
    assert len(set(one(Field(name="t", type="string")))) > 4
    assert len(set(one(Field(name="t", type="string", pattern="^[a-z]+$", examples=("abc", "de"))))) > 2
    assert set(one(Field(name="t", type="string", pattern="^A[0-9]{9}$"))) != set()


def test_golden_examples_come_first_and_keep_their_sizes():
    contract = Contract(
        name="m",
        inputs=(Field(name="x", type="float64", shape=(-1,)),),
        outputs=(),
        examples=(Example(inputs={"x": [1.0, 2.0, 3.0]}), Example(inputs={"x": [4.0]})),
    )
    first, second = base_rows(contract, RecordCodec(contract))
    assert first["x"].tolist() == [[1.0, 2.0, 3.0]]
    assert varied_row(contract, second, 5)["x"].shape == (1, 1)


def test_a_free_size_is_tried_with_more_than_one():
    contract = Contract(name="m", inputs=(Field(name="x", type="float32", shape=(-1, 3)),), outputs=())
    assert {row["x"].shape for row in base_rows(contract, RecordCodec(contract))} == {(1, 2, 3), (1, 5, 3)}


def test_rows_are_the_same_every_time():
    contract = Contract(name="m", inputs=(Field(name="x", type="float32", shape=(3,)),), outputs=())
    base = base_rows(contract, RecordCodec(contract))[0]
    np.testing.assert_array_equal(varied_row(contract, base, 5)["x"], varied_row(contract, base, 5)["x"])
