"""Warm-up: every example is answered and compared before a version may serve."""

import numpy as np
import pytest

from limen.contracts.contract import Contract, Example, Field, Tolerance
from limen.contracts.errors import InvalidPackage, ModelFailed
from limen.contracts.inference import InferenceResponse
from limen.contracts.validation.records import RecordCodec
from limen.contracts.validation.tensors import ContractCheck
from limen.runtime.versions import warmup
from limen.runtime.versions.warmup import warm_up
from tests.unit.runtime.fakes import FakeSink, contract, predictor


async def warm(contract: Contract, sink: FakeSink) -> None:
    await warm_up(contract, ContractCheck(contract), RecordCodec(contract), predictor(sink), "1")


def answering(*values: float):
    given = iter(values)
    return lambda request: InferenceResponse("double", "1", {"y": np.array([next(given)], np.float32)})


async def test_every_example_is_answered_in_order_then_the_first_again():
    sink = FakeSink()
    examples = tuple(Example(inputs={"x": x}, outputs={"y": 2 * x}) for x in (1.0, 2.0, 3.0))
    await warm(contract(examples=examples), sink)
    asked = [r.inputs["x"].tolist() for r in sink.requests]
    assert asked[:4] == [[1.0], [2.0], [3.0], [1.0]]
    assert len(asked) <= 3 + warmup.SETTLING_RUNS
    assert all(r.rows == 1 and r.model_version == "1" for r in sink.requests)


async def test_the_text_names_every_difference_with_its_example():
    examples = tuple(Example(name=n, inputs={"x": 1.0}, outputs={"y": 2.0}) for n in ("good", "bad", ""))
    with pytest.raises(InvalidPackage, match=r"one: bad\.y: expected 2\.0, got 3\.0 \(difference 1\)$"):
        await warm(contract(examples=examples), FakeSink(answering(2.0, 3.0)))


async def test_an_example_without_a_name_is_named_by_its_place():
    examples = (Example(inputs={"x": 1.0}), Example(inputs={"x": 1.0}, outputs={"y": 9.0}))
    with pytest.raises(InvalidPackage, match=r"examples\[1\]\.y: expected 9\.0"):
        await warm(contract(examples=examples), FakeSink())


async def test_only_the_first_five_differences_are_told_and_the_rest_counted():
    many = contract(
        outputs=(Field(name="y", type="float32", shape=(8,)),),
        examples=(Example(name="e", inputs={"x": 1.0}, outputs={"y": [0.0] * 8}),),
    )
    sink = FakeSink(lambda _: InferenceResponse("double", "1", {"y": np.ones((1, 8), np.float32)}))
    with pytest.raises(InvalidPackage, match=r"e\.y\[4\]: .* \(and 3 more\)$"):
        await warm(many, sink)


@pytest.mark.parametrize(("answer", "is_right"), [(4.001, True), (4.1, False)])
async def test_the_contracts_tolerance_decides(answer, is_right):
    loose = contract(tolerance=Tolerance(absolute=0.01, relative=0.0))
    sink = FakeSink(lambda _: InferenceResponse("double", "1", {"y": np.array([answer], np.float32)}))
    if is_right:
        await warm(loose, sink)
    else:
        with pytest.raises(InvalidPackage, match="differs from the recorded one"):
            await warm(loose, sink)


async def test_a_package_without_examples_answers_one_made_from_its_contract():
    sink = FakeSink()
    await warm(contract(examples=()), sink)
    assert sink.requests[0].inputs["x"].shape == (1,)


async def test_what_the_model_fails_with_is_told_with_the_example():
    with pytest.raises(InvalidPackage) as failed:
        await warm(contract(), FakeSink(lambda _: ModelFailed()))
    assert failed.value.message == "no right answer to golden: The model failed on this request."
    with pytest.raises(InvalidPackage, match="no right answer to a record made from the contract: the model's output"):
        await warm(contract(examples=()), FakeSink(answering(float("nan"))))


async def test_an_example_that_breaks_the_contract_is_told():
    with pytest.raises(InvalidPackage, match="no right answer to golden: "):
        await warm(contract(examples=(Example(name="golden", inputs={}),)), FakeSink())
