"""The inline placement behind its queue: what runs on the loop, what on the model's thread, and what happens to those who leave."""

import asyncio
import math
import threading
from collections.abc import AsyncIterator, Iterator, Mapping

import numpy as np
import pytest

from limen.contracts.contract import Batching, Contract, Field
from limen.contracts.errors import DeadlineExceeded, InvalidArgument, InvalidOutput, LimenError, ModelFailed
from limen.contracts.inference import NO_DEADLINE, Deadline, InferenceRequest, InferenceResponse, Outcome
from limen.packaging.manifest.values import Manifest
from limen.runtime.batching.batcher import Batcher
from limen.runtime.binding.binding import compile_binding
from limen.runtime.placement.inline import InlineSink, sink
from limen.runtime.placement.inline.sink import ON_LOOP_S, RowCost
from limen.runtime.predictor import Signature

CONTRACT = Contract(
    name="double",
    inputs=(Field(name="x", type="int32"),),
    outputs=(Field(name="y", type="int32"),),
    batching=Batching(max_rows=3),
)
WAIT_S = 30


class ScriptedModel:
    """Doubles; what is below zero fails in a way of its own, and the gate can be shut."""

    signature = Signature((), ())
    can_stream = True
    mixes_rows = ""
    wants_context = False

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)
        self.inside = 0
        self.together = 0
        self.batches: list[list[int]] = []
        self.threads: list[str] = []
        self.closed = 0
        self.stream_closed = threading.Event()

    def predict(self, inputs: dict[str, np.ndarray], parameters: Mapping[str, object]) -> dict[str, np.ndarray]:
        self.inside += 1
        self.together = max(self.together, self.inside)
        try:
            self.threads.append(threading.current_thread().name)
            self.batches.append(inputs["x"].tolist())
            self.entered.release()
            assert self.gate.wait(WAIT_S)
            if (inputs["x"] == -1).any():
                raise ValueError("the secret of the model")
            if (inputs["x"] == -2).any():
                raise InvalidArgument("x: the model knows better")
            return {"z" if (inputs["x"] == -3).any() else "y": inputs["x"] * 2}
        finally:
            self.inside -= 1

    def stream(
        self, inputs: dict[str, np.ndarray], parameters: Mapping[str, object]
    ) -> Iterator[dict[str, np.ndarray]]:
        try:
            for value in range(int(inputs["x"][0]), -2, -1):
                if value == -1:
                    raise ValueError("the secret of the model")
                if value == 0:
                    return
                yield {"y": np.array([value], np.int32)}
        finally:
            self.stream_closed.set()

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def model() -> ScriptedModel:
    return ScriptedModel()


@pytest.fixture
async def inline(model: ScriptedModel) -> AsyncIterator[Batcher]:
    """A native model."""
    inline = started(model, is_native=True)
    yield inline
    model.gate.set()
    await inline.close()


@pytest.fixture
async def code(model: ScriptedModel) -> AsyncIterator[Batcher]:
    """The code of a package."""
    code = started(model, is_native=False)
    yield code
    model.gate.set()
    await code.close()


def started(model: ScriptedModel, *, is_native: bool) -> Batcher:
    manifest = Manifest(contract=CONTRACT, backend="python", artifact="model.py:Model")
    inline = InlineSink(CONTRACT, "7", model, compile_binding(manifest, model.signature), is_native=is_native)
    return Batcher(inline, CONTRACT.batching)


async def ask(line: Batcher, requests: list[InferenceRequest], deadline: Deadline = NO_DEADLINE) -> list[Outcome]:
    """Ask as the data plane does: at once where that is cheap, through the queue otherwise."""

    async def one(request: InferenceRequest) -> Outcome:
        try:
            return line.predict_now(request, deadline) or await line.predict(request, deadline)
        except LimenError as exc:
            return exc

    return list(await asyncio.gather(*map(one, requests)))


def request(*values: int, name: str = "") -> InferenceRequest:
    return InferenceRequest("double", {"x": np.array(values, np.int32)}, id=name, rows=len(values))


async def entered(model: ScriptedModel) -> None:
    """Wait until one more run is inside the model."""
    assert await asyncio.to_thread(model.entered.acquire, timeout=WAIT_S)


async def learn(inline: Batcher, model: ScriptedModel) -> None:
    """Let the predictor find out that a row costs microseconds."""
    for _ in range(100):  # a busy machine may make the first runs look slow
        await ask(inline, [request(1)])
        if inline.predict_now(request(1), NO_DEADLINE) is not None:
            break
    assert inline.predict_now(request(1), NO_DEADLINE) is not None
    while model.entered.acquire(blocking=False):
        pass
    model.threads.clear()


async def test_each_answer_carries_the_model_its_version_and_the_callers_id(inline):
    (outcome,) = await ask(inline, [request(1, 2, name="a")])
    assert (outcome.model_name, outcome.model_version, outcome.id) == ("double", "7", "a")
    assert outcome.outputs["y"].tolist() == [2, 4]


async def test_one_bad_request_fails_alone(inline, caplog):
    outcomes = await ask(inline, [request(1), request(-1), request(-2), request(4)])
    assert [type(o) for o in outcomes] == [InferenceResponse, ModelFailed, InvalidArgument, InferenceResponse]
    assert [outcomes[0].outputs["y"].tolist(), outcomes[3].outputs["y"].tolist()] == [[2], [8]]
    assert outcomes[1].message == "The model failed on this request."
    assert "the secret of the model" in caplog.text


async def test_a_request_of_more_rows_than_the_model_takes_runs_in_parts_and_keeps_its_order(inline, model):
    (outcome,) = await ask(inline, [request(*range(8))])
    assert outcome.outputs["y"].tolist() == [0, 2, 4, 6, 8, 10, 12, 14]
    assert model.batches == [[0, 1, 2], [3, 4, 5], [6, 7]]


async def test_an_answer_without_a_declared_output_is_the_models_fault(inline):
    (outcome,) = await ask(inline, [request(-3)])
    assert isinstance(outcome, InvalidOutput)
    assert outcome.message.startswith("the model gave no output y; it gave ")


async def test_the_first_run_is_on_the_models_thread_and_cheap_ones_after_it_are_on_the_loop(inline, model):
    assert inline.predict_now(request(1), NO_DEADLINE) is None
    await ask(inline, [request(1)])
    await ask(inline, [request(1)])
    assert model.threads == ["limen-double", threading.current_thread().name]


async def test_a_request_whose_rows_cost_too_much_together_goes_to_the_thread(inline, model):
    await learn(inline, model)
    inline._sink._cost.seconds = ON_LOOP_S / 2
    assert inline.predict_now(request(1, 2, 3), NO_DEADLINE) is None
    assert inline.predict_now(request(1, 2), NO_DEADLINE) is not None


async def test_package_code_never_runs_on_the_loop_however_cheap_it_was(code, model):
    for _ in range(3):
        await ask(code, [request(1)])
    assert code.predict_now(request(1), NO_DEADLINE) is None
    assert set(model.threads) == {"limen-double"}


async def test_a_slow_run_does_not_hold_up_the_loop(inline, model):
    model.gate.clear()
    slow = asyncio.create_task(ask(inline, [request(1)]))
    await entered(model)
    # The loop is free: this line runs while the model does.
    model.gate.set()
    assert (await slow)[0].outputs["y"].tolist() == [2]


async def test_package_code_is_asked_one_thing_at_a_time(code, model):
    model.gate.clear()
    slow = asyncio.create_task(ask(code, [request(1)]))
    await entered(model)
    others = [asyncio.create_task(ask(code, [request(n)])) for n in (2, 3)]
    await asyncio.sleep(0)
    model.gate.set()
    assert [(await task)[0].outputs["y"].tolist() for task in (slow, *others)] == [[2], [4], [6]]
    assert model.batches == [[1], [2, 3]]
    assert model.together == 1


async def test_a_deadline_ends_the_wait_and_not_the_turn_of_the_run(code, model):
    model.gate.clear()
    (outcome,) = await ask(code, [request(1)], Deadline.after(0.01))
    assert isinstance(outcome, DeadlineExceeded)
    await entered(model)
    after = asyncio.create_task(ask(code, [request(2)]))
    await asyncio.sleep(0)
    # The thread is still inside the model, so nothing may enter beside it.
    assert model.inside == 1
    model.gate.set()
    assert (await after)[0].outputs["y"].tolist() == [4]
    assert model.together == 1


async def test_a_deadline_that_has_passed_costs_the_model_nothing(inline, model):
    (outcome,) = await ask(inline, [request(1)], Deadline.after(-1))
    assert isinstance(outcome, DeadlineExceeded)
    await learn(inline, model)
    model.batches.clear()
    with pytest.raises(DeadlineExceeded):
        inline.predict_now(request(1), Deadline.after(-1))
    assert model.batches == []


@pytest.mark.parametrize("is_bounded", [False, True])
async def test_a_caller_who_leaves_takes_only_its_own_queued_work_along(inline, model, is_bounded):
    deadline = Deadline.after(WAIT_S) if is_bounded else NO_DEADLINE
    model.gate.clear()
    first = asyncio.create_task(ask(inline, [request(1)], deadline))
    await entered(model)
    leaving = asyncio.create_task(ask(inline, [request(2)], deadline))
    staying = asyncio.create_task(ask(inline, [request(3)], deadline))
    await asyncio.sleep(0)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    model.gate.set()
    assert [(await task)[0].outputs["y"].tolist() for task in (first, staying)] == [[2], [6]]
    assert model.batches == [[1], [3]]


async def test_a_stream_gives_its_parts_in_order(inline):
    parts = [part async for part in inline.stream(request(3, name="s"), NO_DEADLINE)]
    assert [part.outputs["y"].tolist() for part in parts] == [[3], [2], [1]]
    assert {part.id for part in parts} == {"s"}


async def test_an_error_in_the_middle_of_a_stream_is_wrapped(inline, model):
    model.stream = lambda *_: _failing_after(1)
    stream = inline.stream(request(1), NO_DEADLINE)
    assert (await anext(stream)).outputs["y"].tolist() == [5]
    with pytest.raises(ModelFailed) as failed:
        await anext(stream)
    assert failed.value.message == "The model failed on this request."


async def test_a_stream_is_closed_when_its_caller_leaves(inline, model):
    stream = inline.stream(request(100), NO_DEADLINE)
    assert (await anext(stream)).outputs["y"].tolist() == [100]
    await stream.aclose()
    assert await asyncio.to_thread(model.stream_closed.wait, WAIT_S)


async def test_a_stream_ends_at_its_deadline(inline, model):
    shut = threading.Event()
    model.stream = lambda *_: _waiting_for(shut)
    with pytest.raises(DeadlineExceeded):
        await anext(inline.stream(request(1), Deadline.after(0.01)))
    shut.set()


async def test_close_closes_the_model_once_and_after_the_run_under_way(inline, model):
    model.gate.clear()
    running = asyncio.create_task(ask(inline, [request(1)]))
    await entered(model)
    closing = asyncio.create_task(inline.close())
    await asyncio.sleep(0)
    assert model.closed == 0
    model.gate.set()
    await closing
    assert (await running)[0].outputs["y"].tolist() == [2]
    await inline.close()
    assert model.closed == 1


async def test_a_run_that_never_ends_is_left_behind(inline, model, monkeypatch, caplog):
    monkeypatch.setattr(sink, "CLOSE_S", 0.01)
    model.gate.clear()
    with pytest.raises(DeadlineExceeded):
        raise (await ask(inline, [request(1)], Deadline.after(0.01)))[0]
    await inline.close()
    assert model.closed == 0
    assert "is abandoned" in caplog.text
    # Its thread keeps nobody from leaving.
    assert next(t for t in threading.enumerate() if t.name == "limen-double").daemon


def test_the_cost_of_a_row_is_the_smallest_lately_seen():
    cost = RowCost()
    assert cost.seconds == math.inf
    cost.add(0.5, False)
    cost.add(1e-5, True)
    cost.add(1e-4, True)
    assert cost.seconds == 1e-5
    for _ in range(2 * RowCost.WINDOW):
        cost.add(1e-3, True)
    assert cost.seconds == 1e-3


def test_two_slow_runs_in_a_row_on_the_loop_count_at_once():
    cost = RowCost()
    cost.add(1e-5, True)
    cost.add(0.1, True)
    assert cost.seconds == 1e-5, "one may be the machine's fault"
    cost.add(0.2, True)
    assert cost.seconds == 0.2


def _failing_after(parts: int) -> Iterator[dict[str, np.ndarray]]:
    for _ in range(parts):
        yield {"y": np.array([5], np.int32)}
    raise ValueError("the secret of the model")


def _waiting_for(event: threading.Event) -> Iterator[dict[str, np.ndarray]]:
    event.wait(WAIT_S)
    yield {"y": np.array([5], np.int32)}
