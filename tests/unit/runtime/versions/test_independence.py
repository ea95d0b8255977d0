"""Rows alone and together: what is told apart, what follows, and what could not be tested."""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest

from limen.contracts.catalogue import Verdict
from limen.contracts.contract import Batching, Contract, Field, Tolerance
from limen.contracts.errors import ModelFailed, Unavailable
from limen.contracts.independence import Independence
from limen.contracts.inference import InferenceRequest, InferenceResponse, Outcome
from limen.contracts.validation.records import RecordCodec
from limen.contracts.validation.tensors import ContractCheck
from limen.runtime.batching.batcher import Batcher
from limen.runtime.versions.independence import measure, same_row
from tests.unit.runtime.fakes import FakeSink

X = Field(name="x", type="float32", shape=(3,))
Y = Field(name="y", type="float32", shape=(3,))
Model = Callable[[np.ndarray], np.ndarray]


def contract_of(batching: Batching | None = None, inputs: tuple[Field, ...] = (X,), outputs=(Y,)) -> Contract:
    return Contract(name="m", inputs=inputs, outputs=outputs, batching=batching or Batching())


async def verdict_on(model: Model, contract: Contract | None = None, **traits) -> Independence:
    contract = contract or contract_of()

    def answer(request: InferenceRequest) -> Outcome:
        try:
            y = model(next(iter(request.inputs.values())))
        except ValueError:
            return ModelFailed()
        except OSError:
            return Unavailable()
        return InferenceResponse("m", "1", {"y": np.asarray(y)}, request.id)

    sink = FakeSink(answer)
    for name, value in traits.items():
        setattr(sink, name, value)
    check, records = ContractCheck(contract), RecordCodec(contract)
    predictor = Batcher(sink, contract.batching)
    return await measure(check, records, predictor, "1", budget_s=5.0)


def tanh(x: np.ndarray) -> np.ndarray:
    return np.tanh(x / 50)


async def test_rows_that_were_made_up_are_not_counted_and_nothing_is_learnt_from_them():
    class Counts:
        def __getattr__(self, name: str):
            raise AssertionError(f"{name} was counted")

    contract = contract_of()
    check, records = ContractCheck(contract), RecordCodec(contract)
    sink = FakeSink(lambda r: InferenceResponse("m", "1", {"y": tanh(r.inputs["x"])}, r.id))
    predictor = Batcher(sink, contract.batching, observe=cast("Any", Counts()))
    found = await measure(check, records, predictor, "1", budget_s=5.0)
    assert found.verdict is Verdict.PASS
    assert predictor.seconds_per_row == 0.0


async def test_rows_that_leave_each_other_alone_may_share_a_run():
    found = await verdict_on(tanh)
    assert (found.verdict, found.may_merge, found.rows, found.largest_run) == (Verdict.PASS, True, 12, 33)


def one_scale(x: np.ndarray) -> np.ndarray:
    """Quantise as DynamicQuantizeLinear does: one scale for everything."""
    step = max(np.abs(x).max() / 127, 1e-9)
    return np.tanh(np.round(x / step) * step / 50).astype(np.float32)


MEETING: dict[str, Model] = {
    "one scale": one_scale,
    "mean": lambda x: tanh(x - x.mean(axis=0)),
    "first row": lambda x: tanh(x - x[0]),
    "neighbour": lambda x: tanh(x + np.roll(x, 1, axis=0)),
    "sorted": lambda x: tanh(np.sort(x, axis=0)),
    "number of rows": lambda x: tanh(x / len(x)),
    "only large runs": lambda x: tanh(x) + np.float32(len(x) > 16),
    "longest": lambda x: tanh(x) if len(x) < 2 else np.hstack([tanh(x), tanh(x)]),
    "only the sign of the mean": lambda x: (x > x.mean()).astype(np.float32),
}


@pytest.mark.parametrize("model", MEETING.values(), ids=MEETING)
async def test_rows_that_change_each_others_answers_are_kept_apart(model: Model):
    found = await verdict_on(model)
    assert (found.verdict, found.may_merge, found.breaks) == (Verdict.FAIL, False, False)
    assert "rows influence each other: y" in found.text


async def test_a_promise_of_the_owner_does_not_beat_what_was_seen():
    found = await verdict_on(MEETING["mean"], contract_of(Batching(merge=True)))
    assert not found.may_merge


async def test_a_run_that_fails_where_each_row_is_answered_alone_breaks():
    def single(x: np.ndarray) -> np.ndarray:
        if len(x) > 1:
            raise ValueError
        return tanh(x)

    found = await verdict_on(single)
    assert (found.breaks, found.may_merge) == (True, False)
    assert "batching.max_rows" in found.text


async def test_an_answer_with_another_number_of_rows_breaks_too():
    found = await verdict_on(lambda x: tanh(x)[:1])
    assert found.breaks


def rounding(x: np.ndarray) -> np.ndarray:
    """Add up in another order for another number of rows, as matrix libraries do."""
    y = tanh(x)
    return y * np.float32(1 + 3e-7 * len(x) % 7)


async def test_rounding_of_another_number_of_rows_is_not_an_influence():
    assert (await verdict_on(rounding)).verdict is Verdict.PASS


def test_rounding_is_measured_against_the_largest_number_of_a_row_and_the_precision_of_its_type():
    tolerance = Tolerance(absolute=0.0, relative=0.0)
    row = np.array([[1000.0, 0.01]], np.float32)
    assert same_row(row, row + np.float32(5e-4), tolerance)
    assert not same_row(row, row + np.float32(5e-3), tolerance)
    half = np.array([[1.0, 0.5]], np.float16)
    assert same_row(half, half + np.float16(0.004), tolerance)
    assert not same_row(half.astype(np.float32), half.astype(np.float32) + np.float32(0.004), tolerance)


def test_missing_and_infinite_numbers_agree_with_themselves_only():
    row = np.array([[np.nan, np.inf, 1.0]])
    assert same_row(row, row.copy(), Tolerance())
    assert not same_row(row, np.array([[0.0, np.inf, 1.0]]), Tolerance())
    assert not same_row(row, np.array([[np.nan, -np.inf, 1.0]]), Tolerance())
    assert not same_row(np.array([["a"]], object), np.array([["b"]], object), Tolerance())
    assert not same_row(np.zeros((1, 2)), np.zeros((1, 3)), Tolerance())


@pytest.mark.parametrize("merge", [None, True])
async def test_what_could_not_be_tested_is_said_and_kept_apart_unless_the_owner_promises(merge):
    def picky(x: np.ndarray) -> np.ndarray:
        if not (x == 0.5).all():
            raise ValueError
        return x

    found = await verdict_on(picky, contract_of(Batching(merge=merge)))
    assert (found.verdict, found.may_merge) == (Verdict.INCONCLUSIVE, merge is True)
    assert "not tested: the model answered one of the rows" in found.text


async def test_rows_that_all_get_the_same_answer_prove_nothing():
    found = await verdict_on(np.zeros_like)
    assert (found.verdict, found.may_merge) == (Verdict.INCONCLUSIVE, False)


async def test_a_model_that_never_answers_twice_alike_is_not_accused():
    random = np.random.default_rng(0)
    found = await verdict_on(lambda x: random.normal(size=x.shape).astype(np.float32))
    assert (found.verdict, found.may_merge) == (Verdict.INCONCLUSIVE, False)
    assert "differently each time" in found.text


async def test_a_model_that_cannot_be_asked_is_not_accused():
    def gone(x: np.ndarray) -> np.ndarray:
        raise OSError

    assert (await verdict_on(gone)).verdict is Verdict.INCONCLUSIVE


async def test_what_the_artifact_says_of_itself_needs_no_test():
    found = await verdict_on(tanh, mixes_rows="its scale is that of the batch")
    assert (found.verdict, found.may_merge) == (Verdict.FAIL, False)
    assert "its scale is that of the batch" in found.text


@pytest.mark.parametrize(
    ("batching", "traits", "may_merge"),
    [
        (Batching(max_rows=1), {}, True),
        (Batching(merge=False), {}, False),
        (Batching(), {"can_stream": True}, True),
    ],
)
async def test_nothing_is_asked_where_no_two_requests_share_a_run(batching, traits, may_merge):
    def never(x: np.ndarray) -> np.ndarray:
        raise AssertionError

    found = await verdict_on(never, contract_of(batching), **traits)
    assert (found.verdict, found.may_merge, found.rows) == (Verdict.PASS, may_merge, 0)


async def test_no_run_has_more_rows_than_the_model_takes_or_memory_should_hold():
    sizes: list[int] = []

    def watched(x: np.ndarray) -> np.ndarray:
        sizes.append(len(x))
        return tanh(x)

    await verdict_on(watched, contract_of(Batching(max_rows=5)))
    assert max(sizes) == 5
    sizes.clear()
    image = Field(name="x", type="float32", shape=(3, 640, 640))
    await verdict_on(lambda x: watched(x[:, 0, 0, :3]), contract_of(inputs=(image,)))
    assert max(sizes) == 3


async def test_each_free_size_is_compared_with_its_own():
    shapes: set[tuple[int, ...]] = set()

    def watched(x: np.ndarray) -> np.ndarray:
        shapes.add(x.shape)
        return tanh(x.sum(axis=1, keepdims=True).repeat(3, axis=1))

    free = Field(name="x", type="float32", shape=(-1,))
    assert (await verdict_on(watched, contract_of(inputs=(free,)))).verdict is Verdict.PASS
    assert {shape[1] for shape in shapes} == {2, 5}
    assert {shape[0] for shape in shapes} == {1, 2, 12, 33}
