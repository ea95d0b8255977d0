"""The spine of a request: what is checked, in which order, and what callers hear of it."""

import asyncio
import math

import numpy as np
import pytest

from limen import __version__
from limen.contracts.contract import Batching, Field, Slo
from limen.contracts.errors import (
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    InvalidOutput,
    ModelFailed,
    NotFound,
    Reason,
    Unavailable,
    Unsupported,
)
from limen.contracts.inference import NO_DEADLINE, Deadline, InferenceRequest, InferenceResponse, RequestedOutput
from limen.runtime.lifecycle import State
from limen.runtime.manager import VersionManager
from limen.serving.dataplane import MAX_REQUESTED_OUTPUTS, DataPlane
from tests.unit.runtime.fakes import FakePlacement, FakePredictor, package

LABELS = ("no", "yes", "maybe")
OUTPUTS = (
    Field(name="y", type="float32"),
    Field(name="scores", type="float32", shape=(3,), labels=LABELS),
    Field(name="text", type="string"),
)
SCORES = np.array([0.2, 0.7, 0.1], np.float32)


def three_outputs(request: InferenceRequest) -> InferenceResponse:
    rows = len(request.inputs["x"])
    outputs = {
        "text": np.array(["t"] * rows, object),
        "scores": np.tile(SCORES, (rows, 1)),
        "y": request.inputs["x"] * np.float32(2),
    }
    return InferenceResponse(request.model_name, "1", outputs, request.id)


@pytest.fixture
def placement() -> FakePlacement:
    placement = FakePlacement()
    placement.make = lambda: FakePredictor(three_outputs)
    return placement


@pytest.fixture
async def plane(placement) -> DataPlane:
    return await serve(placement)


@pytest.fixture
def predictor(plane, placement) -> FakePredictor:
    placement.started["1"].requests.clear()
    placement.started["1"].deadlines.clear()
    return placement.started["1"]


async def serve(placement: FakePlacement, **contract) -> DataPlane:
    versions = VersionManager(placement)
    versions.set_aspired("double", {"1": package(**{"outputs": OUTPUTS, "examples": (), **contract})})
    await versions.settle()
    return DataPlane(versions)


def request(*values: float, outputs: tuple[RequestedOutput, ...] = (), **changes) -> InferenceRequest:
    inputs = {"x": np.array(values or (1.0,), np.float32)}
    return InferenceRequest(**{"model_name": "double", "inputs": inputs, "outputs": outputs, "id": "r1", **changes})


def leases(plane: DataPlane) -> int:
    return plane.versions.statuses("double")[0].leases


async def test_an_answer_has_every_output_in_the_contracts_order(plane):
    answer = await plane.infer(request(1, 2), NO_DEADLINE)
    assert list(answer.outputs) == ["y", "scores", "text"]
    assert (answer.model_name, answer.model_version, answer.id) == ("double", "1", "r1")
    assert answer.outputs["y"].tolist() == [2, 4]


async def test_requested_outputs_come_in_the_order_asked_for(plane):
    answer = await plane.infer(request(outputs=(RequestedOutput("text"), RequestedOutput("y"))), NO_DEADLINE)
    assert list(answer.outputs) == ["text", "y"]


@pytest.mark.parametrize(
    ("outputs", "message", "reason"),
    [
        ([RequestedOutput("z")], "outputs[0].name: is not an output of this model", Reason.OUTPUT_SET),
        ([RequestedOutput("y"), RequestedOutput("y")], "outputs[1].name: is requested twice", Reason.OUTPUT_SET),
        (
            [RequestedOutput("y", classification=-1)],
            "outputs[0].parameters.classification: must be 1 or more",
            Reason.INVALID_PARAMETER,
        ),
        (
            [RequestedOutput(f"o{i}") for i in range(MAX_REQUESTED_OUTPUTS + 1)],
            "at most 64 outputs may be requested",
            Reason.OUTPUT_SET,
        ),
    ],
)
async def test_b24_b25_bad_output_lists_are_refused_before_the_model_is_asked(
    plane, predictor, outputs, message, reason
):
    with pytest.raises(InvalidArgument) as refused:
        await plane.infer(request(outputs=tuple(outputs)), NO_DEADLINE)
    assert (refused.value.message, refused.value.reason) == (message, reason)
    assert predictor.requests == []
    assert leases(plane) == 0


async def test_classification_gives_the_best_classes_with_their_labels(plane):
    wanted = (RequestedOutput("scores", classification=2), RequestedOutput("y"))
    answer = await plane.infer(request(1, 2, outputs=wanted), NO_DEADLINE)
    assert answer.outputs["scores"].tolist() == [["0.700000:1:yes", "0.200000:0:no"]] * 2
    assert answer.outputs["y"].tolist() == [2, 4]


async def test_more_classes_than_there_are_gives_all_of_them(plane):
    answer = await plane.infer(request(outputs=(RequestedOutput("scores", classification=99),)), NO_DEADLINE)
    assert answer.outputs["scores"].shape == (1, 3)


async def test_text_cannot_be_classified(plane):
    with pytest.raises(InvalidArgument) as refused:
        await plane.infer(request(outputs=(RequestedOutput("text", classification=1),)), NO_DEADLINE)
    assert refused.value.reason is Reason.DTYPE
    assert leases(plane) == 0


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        ({}, Reason.INPUT_SET),
        ({"x": np.zeros(1, np.float32), "z": np.zeros(1, np.float32)}, Reason.INPUT_SET),
        ({"x": np.zeros(1, np.float64)}, Reason.DTYPE),
        ({"x": np.zeros((1, 2), np.float32)}, Reason.SHAPE_MISMATCH),
        ({"x": np.array([math.nan], np.float32)}, Reason.NOT_FINITE),
        ({"x": np.zeros(0, np.float32)}, Reason.BATCH_LIMIT),
    ],
)
async def test_b23_b32_inputs_that_break_the_contract_never_reach_the_model(plane, predictor, inputs, reason):
    with pytest.raises(InvalidArgument) as refused:
        await plane.infer(request(inputs=inputs), NO_DEADLINE)
    assert refused.value.reason is reason
    assert predictor.requests == []
    assert leases(plane) == 0


async def test_inputs_that_were_checked_while_they_were_decoded_are_not_checked_again(plane, predictor):
    handle = plane.versions.acquire("double")
    handle.release()
    unchecked = {"x": np.array([math.nan], np.float32)}
    predictor.answer = lambda _: three_outputs(request(1))
    await plane.infer(request(inputs=unchecked, checked=handle.check, rows=1), NO_DEADLINE)
    assert len(predictor.requests) == 1
    # Checked against another contract means not checked.
    with pytest.raises(InvalidArgument):
        await plane.infer(request(inputs=unchecked, checked=object(), rows=1), NO_DEADLINE)


async def test_b43_more_rows_than_the_contract_lets_in_are_refused(placement):
    plane = await serve(placement, batching=Batching(max_request_rows=2))
    assert (await plane.infer(request(1, 2), NO_DEADLINE)).outputs["y"].tolist() == [2, 4]
    with pytest.raises(InvalidArgument, match="a request must have 1 to 2 rows, got 3"):
        await plane.infer(request(1, 2, 3), NO_DEADLINE)


async def test_a_request_without_a_deadline_gets_the_contracts(placement):
    plane = await serve(placement, slo=Slo(deadline_ms=5000))
    predictor = placement.started["1"]
    await plane.infer(request(), NO_DEADLINE)
    assert 4 < predictor.deadlines[-1].remaining_s() <= 5
    await plane.infer(request(), Deadline.after(1000))
    assert predictor.deadlines[-1].remaining_s() > 900


async def test_a_contract_without_a_deadline_adds_none(plane, predictor):
    await plane.infer(request(), NO_DEADLINE)
    assert not predictor.deadlines[-1].is_set


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ({"y": np.zeros(1, np.float32)}, "the model gave no output scores"),
        (
            {"y": np.array([math.inf], np.float32), "scores": SCORES[None], "text": np.array(["t"], object)},
            "the model's output y[0]: must be a finite number",
        ),
        (
            {"y": np.zeros(2, np.float32), "scores": SCORES[None], "text": np.array(["t"], object)},
            "the model gave 2 rows of y for 1",
        ),
    ],
)
async def test_d3_an_answer_that_breaks_the_contract_is_the_models_fault(plane, predictor, outputs, message):
    predictor.answer = lambda _: InferenceResponse("double", "1", outputs)
    with pytest.raises(InvalidOutput) as failed:
        await plane.infer(request(), NO_DEADLINE)
    assert failed.value.message == message
    assert leases(plane) == 0


@pytest.mark.parametrize("error", [ModelFailed(), DeadlineExceeded()], ids=["failed", "late"])
async def test_what_the_predictor_fails_with_reaches_the_caller_unchanged(plane, predictor, error):
    predictor.answer = lambda _: error
    with pytest.raises(type(error)) as failed:
        await plane.infer(request(), NO_DEADLINE)
    assert failed.value is error
    assert leases(plane) == 0


async def test_an_unexpected_exception_is_internal_and_its_text_stays_in_the_log(plane, predictor, caplog):
    def broken(_: InferenceRequest) -> InferenceResponse:
        raise ZeroDivisionError("/home/someone/secret")

    predictor.answer = broken
    with pytest.raises(Internal) as failed:
        await plane.infer(request(), NO_DEADLINE)
    assert failed.value.message == "An unexpected fault inside the server."
    assert isinstance(failed.value.__cause__, ZeroDivisionError)
    assert "/home/someone/secret" in caplog.text
    assert leases(plane) == 0


async def test_a_cancelled_caller_gives_its_lease_back(plane, predictor):
    entered = asyncio.Event()

    async def waiting(batch, deadline):
        entered.set()
        await asyncio.Event().wait()

    predictor.predict = waiting
    asking = asyncio.create_task(plane.infer(request(), NO_DEADLINE))
    await entered.wait()
    assert leases(plane) == 1
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert leases(plane) == 0


async def test_an_answer_given_at_once_is_checked_and_chosen_like_any_other(plane, predictor):
    assert plane.infer_now(request(), NO_DEADLINE) is None
    predictor.now = three_outputs(request(3))
    answer = plane.infer_now(request(3, outputs=(RequestedOutput("y"),)), NO_DEADLINE)
    assert answer is not None
    assert {name: array.tolist() for name, array in answer.outputs.items()} == {"y": [6]}
    predictor.now = InferenceResponse("double", "1", {})
    with pytest.raises(InvalidOutput):
        plane.infer_now(request(), NO_DEADLINE)
    predictor.now = ModelFailed()
    with pytest.raises(ModelFailed):
        plane.infer_now(request(), NO_DEADLINE)
    predictor.predict_now = None
    with pytest.raises(Internal):
        plane.infer_now(request(), NO_DEADLINE)
    assert leases(plane) == 0


async def test_a_streaming_model_refuses_the_unary_call(plane, predictor):
    predictor.can_stream = True
    for call in (plane.infer_now, plane.infer):
        with pytest.raises(Unsupported, match="answers in a stream"):
            await call(request(), NO_DEADLINE)
    assert predictor.requests == []
    assert plane.can_stream("double")


async def test_the_stream_of_a_unary_model_is_its_one_answer(plane):
    parts = [part async for part in plane.stream(request(2), NO_DEADLINE)]
    assert [(p.response.outputs["y"].tolist(), p.is_final) for p in parts] == [([4], True)]
    assert leases(plane) == 0


async def test_a_stream_ends_with_an_empty_final_part(plane, predictor):
    predictor.can_stream = True
    wanted = request(2, outputs=(RequestedOutput("y"),))
    parts = [part async for part in plane.stream(wanted, NO_DEADLINE)]
    assert [(list(p.response.outputs), p.is_final) for p in parts] == [(["y"], False), (["y"], False), ([], True)]
    assert [(p.response.id, p.response.model_version) for p in parts][-1] == ("r1", "1")
    assert leases(plane) == 0


async def test_a_stream_is_refused_for_what_its_request_breaks(plane, predictor):
    predictor.can_stream = True
    for bad in (request(inputs={}), request(outputs=(RequestedOutput("z"),))):
        with pytest.raises(InvalidArgument):
            await anext(plane.stream(bad, NO_DEADLINE))
    assert predictor.requests == []
    assert leases(plane) == 0


async def test_every_part_of_a_stream_is_checked(plane, predictor):
    predictor.can_stream = True
    predictor.answer = lambda _: InferenceResponse("double", "1", {"y": np.zeros(1, np.float32)})
    with pytest.raises(InvalidOutput, match="no output scores"):
        await anext(plane.stream(request(2), NO_DEADLINE))
    assert leases(plane) == 0


async def test_a_stream_that_breaks_off_tells_its_error_without_its_text(plane, predictor):
    predictor.can_stream = True
    predictor.answer = lambda _: RuntimeError("/home/someone/secret")
    with pytest.raises(Internal) as failed:
        await anext(plane.stream(request(2), NO_DEADLINE))
    assert failed.value.message == "An unexpected fault inside the server."
    assert leases(plane) == 0


async def test_a_stream_that_is_left_gives_its_lease_back_and_is_closed(plane, predictor):
    predictor.can_stream = True
    stream = plane.stream(request(1000), NO_DEADLINE)
    await anext(stream)
    assert leases(plane) == 1
    await stream.aclose()
    assert leases(plane) == 0
    assert predictor.stream_closed


async def test_a_stream_without_a_deadline_gets_the_contracts(placement):
    plane = await serve(placement, slo=Slo(deadline_ms=5000))
    predictor = placement.started["1"]
    predictor.can_stream = True
    await anext(plane.stream(request(2), NO_DEADLINE))
    assert 4 < predictor.deadlines[-1].remaining_s() <= 5


async def test_readiness_goes_before_the_server_does(plane):
    assert (plane.is_live(), plane.is_ready(), plane.is_model_ready("double")) == (True, True, True)
    plane.is_draining = True
    assert (plane.is_live(), plane.is_ready(), plane.is_model_ready("double")) == (True, False, False)


async def test_a_failed_model_makes_the_server_unready(placement):
    placement.make = lambda: FakePredictor(lambda _: ModelFailed())
    plane = await serve(placement)
    assert not plane.is_ready()
    assert not plane.is_model_ready("double")
    assert [s.state for s in plane.statuses("double")] == [State.FAILED]
    with pytest.raises(Unavailable):
        plane.served("double")
    assert plane.served() == []


async def test_what_is_not_there_is_not_found(plane):
    for ask in (plane.is_model_ready, plane.contract, plane.model_metadata, plane.statuses, plane.can_stream):
        with pytest.raises(NotFound):
            ask("other")
        with pytest.raises(NotFound):
            ask("double", "2")
        with pytest.raises(InvalidArgument):
            ask("double", "latest")
    with pytest.raises(NotFound):
        plane.served("other")


async def test_metadata_describes_the_contract(plane):
    server = plane.server_metadata()
    assert (server.name, server.version) == ("limen", __version__)
    assert set(server.extensions) == {"classification", "parameters", "binary_tensor_data"}
    model = plane.model_metadata("double")
    assert [(t.name, t.datatype, t.shape) for t in (*model.inputs, *model.outputs)] == [
        ("x", "FP32", (-1,)),
        ("y", "FP32", (-1,)),
        ("scores", "FP32", (-1, 3)),
        ("text", "BYTES", (-1,)),
    ]
    assert (model.versions, model.platform, model.properties) == (("1",), "python", {"digest": "d1"})
    assert [(s.contract.name, s.version) for s in plane.served()] == [("double", "1")]
    assert plane.models() == ("double",)
    assert leases(plane) == 0
