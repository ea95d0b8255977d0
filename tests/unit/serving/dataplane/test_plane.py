"""The spine of a request: what is checked, in which order, and what callers hear of it."""

import asyncio
import contextlib
import gc
import math
import weakref
from collections.abc import AsyncGenerator

import numpy as np
import pytest

from limen import __version__
from limen.contracts.contract import Batching, Field, Slo
from limen.contracts.endpoint import Route
from limen.contracts.errors import (
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    InvalidOutput,
    LimenError,
    ModelFailed,
    NotFound,
    Reason,
    ResourceExhausted,
    Unavailable,
    Unsupported,
)
from limen.contracts.identity import LOCAL
from limen.contracts.inference import (
    Deadline,
    InferenceRequest,
    InferenceResponse,
    Outcome,
    RequestedOutput,
    StreamPart,
)
from limen.contracts.serving import Queue
from limen.packaging.manifest.values import Fallback
from limen.runtime.versions.lifecycle import State
from limen.runtime.versions.manager import VersionManager
from limen.serving.dataplane.call import Call, Started
from limen.serving.dataplane.plane import DataPlane
from limen.serving.dataplane.selection import MAX_REQUESTED_OUTPUTS
from limen.serving.dataplane.visit import Visit
from limen.telemetry.metrics.instrument import Scope
from limen.telemetry.metrics.instruments import MODEL_FAILURES, REQUEST_SECONDS, REQUESTS
from limen.telemetry.metrics.series import Metrics
from limen.telemetry.metrics.statistics import model_statistics
from limen.telemetry.metrics.totals import errors, read_folder
from tests.unit.runtime.fakes import FakePlacement, FakeSink, package

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
    placement.make = lambda: FakeSink(three_outputs)
    return placement


@pytest.fixture
async def plane(placement) -> DataPlane:
    return await serve(placement)


@pytest.fixture
def sink(plane, placement) -> FakeSink:
    placement.started["1"].requests.clear()
    placement.started["1"].deadlines.clear()
    return placement.started["1"]


def entered(plane: DataPlane, model: str = "double", version: str = "", unit: str = "r1", **named) -> Visit:
    return plane.enter(LOCAL, model, version, unit, **{"protocol": "rest", **named})


def start(plane: DataPlane, request: InferenceRequest, **named) -> Started:
    with entered(plane, request.model_name, request.model_version, request.id, **named) as visit:
        return visit.start(request)


async def infer(plane: DataPlane, request: InferenceRequest, **named) -> InferenceResponse:
    with entered(plane, request.model_name, request.model_version, request.id, **named) as visit:
        return await visit.infer(request)


async def stream(plane: DataPlane, request: InferenceRequest) -> AsyncGenerator[StreamPart, None]:
    with entered(plane, request.model_name, request.model_version, request.id) as visit:
        async with contextlib.aclosing(visit.stream(request)) as parts:
            async for part in parts:
                yield part


async def serve(placement: FakePlacement, metrics: Metrics | None = None, **contract) -> DataPlane:
    versions = VersionManager(placement)
    versions.set_aspired("double", {"1": package(**{"outputs": OUTPUTS, "examples": (), **contract})})
    await versions.settle()
    return DataPlane(versions, metrics=metrics)


def request(*values: float, outputs: tuple[RequestedOutput, ...] = (), **changes) -> InferenceRequest:
    inputs = {"x": np.array(values or (1.0,), np.float32)}
    return InferenceRequest(**{"model_name": "double", "inputs": inputs, "outputs": outputs, "id": "r1", **changes})


def stream_from(plane: DataPlane, sink: FakeSink) -> None:
    """Let the model answer in parts."""
    sink.can_stream = True
    with plane.versions.acquire("double") as handle:
        handle.predictor.can_stream = True


def leases(plane: DataPlane) -> int:
    return plane.versions.statuses("double")[0].leases


async def test_an_answer_has_every_output_in_the_contracts_order(plane):
    answer = await infer(plane, request(1, 2))
    assert list(answer.outputs) == ["y", "scores", "text"]
    assert (answer.model_name, answer.model_version, answer.id) == ("double", "1", "r1")
    assert answer.outputs["y"].tolist() == [2, 4]


async def test_requested_outputs_come_in_the_order_asked_for(plane):
    answer = await infer(plane, request(outputs=(RequestedOutput("text"), RequestedOutput("y"))))
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
async def test_b24_b25_bad_output_lists_are_refused_before_the_model_is_asked(plane, sink, outputs, message, reason):
    with pytest.raises(InvalidArgument) as refused:
        await infer(plane, request(outputs=tuple(outputs)))
    assert (refused.value.message, refused.value.reason) == (message, reason)
    assert sink.requests == []
    assert leases(plane) == 0


async def test_classification_gives_the_best_classes_with_their_labels(plane):
    wanted = (RequestedOutput("scores", classification=2), RequestedOutput("y"))
    answer = await infer(plane, request(1, 2, outputs=wanted))
    assert answer.outputs["scores"].tolist() == [["0.700000:1:yes", "0.200000:0:no"]] * 2
    assert answer.outputs["y"].tolist() == [2, 4]


async def test_more_classes_than_there_are_gives_all_of_them(plane):
    answer = await infer(plane, request(outputs=(RequestedOutput("scores", classification=99),)))
    assert answer.outputs["scores"].shape == (1, 3)


async def test_text_cannot_be_classified(plane):
    with pytest.raises(InvalidArgument) as refused:
        await infer(plane, request(outputs=(RequestedOutput("text", classification=1),)))
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
async def test_b23_b32_inputs_that_break_the_contract_never_reach_the_model(plane, sink, inputs, reason):
    with pytest.raises(InvalidArgument) as refused:
        await infer(plane, request(inputs=inputs))
    assert refused.value.reason is reason
    assert sink.requests == []
    assert leases(plane) == 0


async def test_inputs_that_were_checked_while_they_were_decoded_are_not_checked_again(plane, sink):
    handle = plane.versions.acquire("double")
    handle.release()
    unchecked = {"x": np.array([math.nan], np.float32)}
    sink.answer = lambda _: three_outputs(request(1))
    await infer(plane, request(inputs=unchecked, checked=handle.check, rows=1))
    assert len(sink.requests) == 1
    # Checked against another contract means not checked.
    with pytest.raises(InvalidArgument):
        await infer(plane, request(inputs=unchecked, checked=object(), rows=1))


async def test_b43_more_rows_than_the_contract_lets_in_are_refused(placement):
    plane = await serve(placement, batching=Batching(max_request_rows=2))
    assert (await infer(plane, request(1, 2))).outputs["y"].tolist() == [2, 4]
    with pytest.raises(InvalidArgument, match="a request must have 1 to 2 rows, got 3"):
        await infer(plane, request(1, 2, 3))


async def test_a_request_without_a_deadline_gets_the_contracts(placement):
    plane = await serve(placement, slo=Slo(deadline_ms=5000))
    sink = placement.started["1"]
    await infer(plane, request())
    assert 4 < sink.deadlines[-1].remaining_s() <= 5
    await infer(plane, request(), deadline=Deadline.after(1000))
    assert sink.deadlines[-1].remaining_s() > 900


async def test_a_contract_without_a_deadline_adds_none(plane, sink):
    await infer(plane, request())
    assert not sink.deadlines[-1].is_set


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ({"y": np.zeros(1, np.float32)}, "the model gave no output scores; it gave y"),
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
async def test_d3_an_answer_that_breaks_the_contract_is_the_models_fault(plane, sink, outputs, message):
    sink.answer = lambda _: InferenceResponse("double", "1", outputs)
    with pytest.raises(InvalidOutput) as failed:
        await infer(plane, request())
    assert failed.value.message == message
    assert leases(plane) == 0


@pytest.mark.parametrize("error", [ModelFailed(), DeadlineExceeded()], ids=["failed", "late"])
async def test_what_the_predictor_fails_with_reaches_the_caller_unchanged(plane, sink, error):
    sink.answer = lambda _: error
    with pytest.raises(type(error)) as failed:
        await infer(plane, request())
    assert failed.value is error
    assert leases(plane) == 0


async def test_an_unexpected_exception_is_internal_and_its_text_stays_in_the_log(plane, sink, caplog):
    def broken(_: InferenceRequest) -> InferenceResponse:
        raise ZeroDivisionError("/home/someone/secret")

    sink.answer = broken
    with pytest.raises(Internal) as failed:
        await infer(plane, request())
    assert failed.value.message == "An unexpected fault inside the server."
    assert "/home/someone/secret" in caplog.text
    assert leases(plane) == 0


async def test_a_cancelled_caller_gives_its_lease_back(plane, sink):
    sink.is_holding = True
    sink.asked.clear()
    asking = asyncio.create_task(infer(plane, request()))
    await sink.asked.wait()
    assert leases(plane) == 1
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert leases(plane) == 0
    assert sink.cancelled == 1


async def test_a_call_holds_its_lease_and_its_place_until_it_is_answered(plane, sink):
    sink.is_holding = True
    sink.asked.clear()
    call = start(plane, request())
    assert isinstance(call, Call)
    answers: list[object] = []
    call.done = answers.append
    await sink.asked.wait()
    lane = plane.admission.lane("double")
    assert (leases(plane), lane.in_hand) == (1, 1)
    sink.held.pop()()
    assert [type(answer) for answer in answers] == [InferenceResponse]
    assert (leases(plane), lane.in_hand) == (0, 0)
    call.cancel()
    assert (leases(plane), lane.in_hand) == (0, 0)


class Caller:
    """Knows its call, to cancel it, and is known by it, to be told: as every gateway's answer does."""

    def __init__(self, call: Call) -> None:
        self.cancel = call.cancel
        self.told: Outcome | None = None
        call.done = self.take

    def take(self, outcome: Outcome) -> None:
        self.told = outcome


@pytest.mark.parametrize("end", ["answered", "failed", "cancelled"])
async def test_a_call_that_has_ended_leaves_nothing_to_the_garbage_collector(plane, sink, end):
    """At thousands of calls a second collections would take a tenth of the gateway, and each would stop it for milliseconds."""
    sink.is_holding = True
    sink.asked.clear()
    if end == "failed":
        sink.answer = lambda request: ModelFailed()
    caller = Caller(start(plane, request()))
    await sink.asked.wait()
    gc.collect()
    gc.disable()
    try:
        if end == "cancelled":
            caller.cancel()
        else:
            sink.held.pop()()
        assert (caller.told is None) == (end == "cancelled")
        is_gone = weakref.ref(caller)
        del caller
        assert is_gone() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("is_at_once", [False, True])
async def test_a_failure_leaves_nothing_to_the_garbage_collector(plane, sink, is_at_once):
    sink.answer = lambda request: ModelFailed()
    sink.now = ModelFailed() if is_at_once else None
    gc.collect()
    gc.disable()
    try:
        for _ in range(10):
            with contextlib.suppress(ModelFailed):
                await infer(plane, request())
        assert gc.collect() == 0
    finally:
        gc.enable()


async def test_an_answer_given_at_once_is_checked_and_chosen_like_any_other(plane, sink):
    sink.now = three_outputs(request(3))
    answer = start(plane, request(3, outputs=(RequestedOutput("y"),)))
    assert isinstance(answer, InferenceResponse)
    assert {name: array.tolist() for name, array in answer.outputs.items()} == {"y": [6]}
    sink.now = InferenceResponse("double", "1", {})
    with pytest.raises(InvalidOutput):
        start(plane, request())
    sink.now = ModelFailed()
    with pytest.raises(ModelFailed):
        start(plane, request())
    sink.predict_now = None
    with pytest.raises(Internal):
        start(plane, request())
    assert leases(plane) == 0


async def test_answers_given_at_once_are_counted_as_runs(placement, tmp_path):
    metrics = Metrics(tmp_path / "gateway-0.metrics")
    versions = VersionManager(placement, counts=metrics.runtime)
    versions.set_aspired("double", {"1": package(outputs=OUTPUTS, examples=())})
    await versions.settle()
    plane = DataPlane(versions, metrics=metrics)
    before = model_statistics(read_folder(tmp_path), [("double", "1")])[0].execution_count
    for _ in range(21):
        placement.started["1"].now = three_outputs(request(1, 2))
        start(plane, request(1, 2), protocol="rest")
    placement.started["1"].now = ModelFailed()
    with pytest.raises(ModelFailed):
        start(plane, request(1, 2), protocol="rest")
    assert read_folder(tmp_path).number(MODEL_FAILURES, ("double", "1")) == 1
    versions.count_runs()
    found = model_statistics(read_folder(tmp_path), [("double", "1")])[0]
    assert (found.inference_count, found.execution_count - before) == (42, 21)
    metrics.close()


async def test_an_endpoint_without_room_refuses_early_and_says_when_to_come_back(plane, sink):
    plane.refuse_early("double", is_retry=False)
    sink.is_holding = True
    with plane.versions.acquire("double") as handle:
        lane = handle.lane = plane.admission.lane("double", Queue(max_requests=1), 1)
    call = start(plane, request())
    for _ in range(2):  # one in sixteen may be let through to be looked at
        with contextlib.suppress(ResourceExhausted):
            plane.refuse_early("double", is_retry=False)
    with pytest.raises(ResourceExhausted) as refused:
        start(plane, request())
    assert (refused.value.reason, lane.in_hand) == (Reason.OVERLOADED, 1)
    assert refused.value.retry_after_s > 0
    with pytest.raises(ResourceExhausted):
        plane.refuse_early("double", is_retry=True)
    call.cancel()
    assert lane.in_hand == 0
    plane.refuse_early("double", is_retry=True)


CONSTANT = Fallback(outputs={"y": 0.5, "scores": [0.1, 0.2, 0.7], "text": "fallback"})


@pytest.mark.parametrize(
    "error", [ModelFailed(), DeadlineExceeded(), Unavailable("gone"), ResourceExhausted(), InvalidOutput("wrong")]
)
async def test_a_declared_constant_answers_where_the_model_does_not_and_says_so(placement, error):
    plane = await serve(placement, fallback=CONSTANT)
    placement.started["1"].answer = lambda _: error
    answer = await infer(plane, request(1, 2))
    assert answer.parameters == {"limen_fallback": "constant"}
    assert answer.outputs["y"].tolist() == [0.5, 0.5]
    assert answer.outputs["text"].tolist() == ["fallback"] * 2
    assert answer.model_version == "1"
    assert leases(plane) == 0


async def test_a_caller_at_fault_gets_its_error_and_no_fallback(placement):
    plane = await serve(placement, fallback=CONSTANT)
    placement.started["1"].answer = lambda _: InvalidArgument("x: the model knows better")
    for bad in (request(), request(inputs={})):
        with pytest.raises(InvalidArgument):
            await infer(plane, bad)


async def test_another_version_answers_where_the_model_does_not_and_says_so(placement):
    versions = VersionManager(placement)
    parts = {"outputs": OUTPUTS, "examples": ()}
    both = {"1": package(**parts), "2": package(digest="d2", fallback=Fallback(version="1"), **parts)}
    versions.set_aspired("double", both)
    await versions.settle()
    plane = DataPlane(versions)
    placement.started["2"].answer = lambda _: ModelFailed()
    answer = await infer(plane, request(3))
    assert (answer.outputs["y"].tolist(), answer.parameters) == ([6], {"limen_fallback": "version"})
    placement.started["1"].answer = lambda _: ModelFailed()
    with pytest.raises(ModelFailed):
        await infer(plane, request(3))
    assert {s.leases for s in versions.statuses("double")} == {0}


async def test_requests_and_errors_are_counted_once_by_protocol(placement, tmp_path):
    metrics = Metrics(tmp_path / "gateway-0.metrics")
    plane = await serve(placement, metrics)
    for bad in ({}, {"inputs": {}}, {"model_name": "none"}):
        with contextlib.suppress(LimenError):
            await infer(plane, request(1, **bad), protocol="rest")
    plane.finaliser.refused("double", "", "record", InvalidArgument("cannot be read"))
    totals = read_folder(tmp_path)
    found = {
        labels: (totals.histogram(REQUEST_SECONDS, labels).count, errors(totals.numbers(REQUESTS, labels)))
        for labels in totals.series(Scope.GATEWAY)
    }
    assert found == {
        ("double", "1", "rest"): (1, {"INVALID_ARGUMENT": 1}),
        ("", "", "rest"): (0, {"NOT_FOUND": 1}),
        ("double", "", "record"): (0, {"INVALID_ARGUMENT": 1}),
    }
    metrics.close()


async def test_a_streaming_model_refuses_the_unary_call(plane, sink):
    stream_from(plane, sink)
    with pytest.raises(Unsupported, match="answers in a stream"):
        start(plane, request())
    assert sink.requests == []
    assert plane.directory.can_stream("double")


async def test_the_stream_of_a_unary_model_is_its_one_answer(plane):
    parts = [part async for part in stream(plane, request(2))]
    assert [(p.response.outputs["y"].tolist(), p.is_final) for p in parts] == [([4], True)]
    assert leases(plane) == 0


async def test_a_stream_ends_with_an_empty_final_part(plane, sink):
    stream_from(plane, sink)
    wanted = request(2, outputs=(RequestedOutput("y"),))
    parts = [part async for part in stream(plane, wanted)]
    assert [(list(p.response.outputs), p.is_final) for p in parts] == [(["y"], False), (["y"], False), ([], True)]
    assert [(p.response.id, p.response.model_version) for p in parts][-1] == ("r1", "1")
    assert leases(plane) == 0


async def test_a_stream_is_refused_for_what_its_request_breaks(plane, sink):
    stream_from(plane, sink)
    for bad in (request(inputs={}), request(outputs=(RequestedOutput("z"),))):
        with pytest.raises(InvalidArgument):
            await anext(stream(plane, bad))
    assert sink.requests == []
    assert leases(plane) == 0


async def test_every_part_of_a_stream_is_checked(plane, sink):
    stream_from(plane, sink)
    sink.answer = lambda _: InferenceResponse("double", "1", {"y": np.zeros(1, np.float32)})
    with pytest.raises(InvalidOutput, match="no output scores"):
        await anext(stream(plane, request(2)))
    assert leases(plane) == 0


async def test_a_stream_that_breaks_off_tells_its_error_without_its_text(plane, sink):
    stream_from(plane, sink)
    sink.answer = lambda _: RuntimeError("/home/someone/secret")
    with pytest.raises(Internal) as failed:
        await anext(stream(plane, request(2)))
    assert failed.value.message == "An unexpected fault inside the server."
    assert leases(plane) == 0


async def test_a_stream_that_is_left_gives_its_lease_back_and_is_closed(plane, sink):
    stream_from(plane, sink)
    parts = stream(plane, request(1000))
    await anext(parts)
    assert leases(plane) == 1
    await parts.aclose()
    assert leases(plane) == 0
    assert sink.stream_closed


async def test_a_stream_without_a_deadline_gets_the_contracts(placement):
    plane = await serve(placement, slo=Slo(deadline_ms=5000))
    sink = placement.started["1"]
    stream_from(plane, sink)
    await anext(stream(plane, request(2)))
    assert 4 < sink.deadlines[-1].remaining_s() <= 5


async def test_readiness_goes_before_the_server_does(plane):
    assert (plane.directory.is_live(), plane.directory.is_ready(), plane.directory.is_model_ready("double")) == (
        True,
        True,
        True,
    )
    plane.directory.drain()
    assert (plane.directory.is_live(), plane.directory.is_ready(), plane.directory.is_model_ready("double")) == (
        True,
        False,
        False,
    )


async def test_a_failed_model_makes_the_server_unready(placement):
    placement.make = lambda: FakeSink(lambda _: ModelFailed())
    plane = await serve(placement)
    assert not plane.directory.is_ready()
    assert not plane.directory.is_model_ready("double")
    assert [s.state for s in plane.directory.statuses("double")] == [State.FAILED]
    with pytest.raises(Unavailable):
        plane.directory.served("double")
    assert plane.directory.served() == []


async def test_what_is_not_there_is_not_found(plane):
    for ask in (
        plane.directory.is_model_ready,
        plane.directory.contract,
        plane.directory.model_metadata,
        plane.directory.statuses,
        plane.directory.can_stream,
    ):
        with pytest.raises(NotFound):
            ask("other")
        with pytest.raises(NotFound):
            ask("double", "2")
        with pytest.raises(InvalidArgument):
            ask("double", "latest")
    with pytest.raises(NotFound):
        plane.directory.served("other")


async def test_metadata_describes_the_contract(plane):
    server = plane.directory.server_metadata()
    assert (server.name, server.version) == ("limen", __version__)
    assert set(server.extensions) == {
        "classification",
        "schedule_policy",
        "parameters",
        "binary_tensor_data",
        "model_configuration",
    }
    model = plane.directory.model_metadata("double")
    assert [(t.name, t.datatype, t.shape) for t in (*model.inputs, *model.outputs)] == [
        ("x", "FP32", (-1,)),
        ("y", "FP32", (-1,)),
        ("scores", "FP32", (-1, 3)),
        ("text", "BYTES", (-1,)),
    ]
    assert (model.versions, model.platform) == (("1",), "python")
    assert model.properties == {"text_outputs": "text", "digest": "d1"}
    assert [(s.contract.name, s.version) for s in plane.directory.served()] == [("double", "1")]
    assert plane.directory.models() == ("double",)
    assert leases(plane) == 0


async def split(plane: DataPlane, *numbers: str) -> None:
    """Have versions 1 and 2 share the requests, and those with these numbers ready."""
    plane.set_routes("double", [Route(1, 50), Route(2, 50)], {"next": "2"})
    plane.versions.set_aspired("double", {n: package(digest=n, outputs=OUTPUTS) for n in numbers}, ("1", "2"))
    await plane.versions.settle()


async def test_requests_that_name_no_version_are_shared_and_the_same_id_gets_the_same_one(plane):
    await split(plane, "1", "2")
    first, second = [], []
    for drawn in (first, second):
        for i in range(50):
            with entered(plane, "double", "", f"request-{i}") as visit:
                drawn.append(visit.handle.version)
    assert set(first) == {"1", "2"}
    assert first == second
    for number in ("1", "2"):
        with entered(plane, "double", number, "request-1") as visit:
            assert visit.handle.version == number
    with entered(plane, "double@next", "", "request-1") as visit:
        assert visit.handle.version == "2"


async def test_the_share_of_a_version_that_is_not_ready_goes_to_the_others(plane):
    await split(plane, "1")
    for i in range(50):
        with entered(plane, "double", "", f"request-{i}") as visit:
            assert visit.handle.version == "1"


async def test_a_stream_of_several_versions_is_answered_by_the_one_that_was_drawn(plane, placement):
    made = iter((False, True))

    def make() -> FakeSink:
        sink = FakeSink(three_outputs)
        sink.can_stream = next(made)
        return sink

    await split(plane)
    placement.make = make
    await split(plane, "2", "3")
    plane.set_routes("double", [Route(2, 50), Route(3, 50)], {})
    for _ in range(40):
        parts = [part async for part in stream(plane, request(1.0, id=""))]
        assert parts[-1].is_final


async def test_a_version_that_is_down_refuses_at_once_and_says_when_to_come_back(plane, sink):
    sink.down = "no memory"
    for _ in range(2):
        with pytest.raises(Unavailable, match="no process of the model can be started") as caught:
            start(plane, request(), deadline=Deadline.after(1000))
        assert caught.value.retry_after_s == 5.0
    assert (sink.requests, plane.directory.is_ready()) == ([], False)
    sink.down = ""
    assert plane.directory.is_ready()


async def test_the_share_of_a_version_that_is_down_goes_to_the_others(placement):
    versions = VersionManager(placement)
    versions.set_aspired("double", {n: package(outputs=OUTPUTS, examples=()) for n in ("1", "2")})
    await versions.settle()
    plane = DataPlane(versions)
    plane.set_routes("double", (Route(1, 1), Route(2, 99)), {})
    placement.started["2"].down = "no memory"
    placement.started["2"].on_turn()
    assert {entered(plane, "double", "", str(n)).handle.version for n in range(50)} == {"1"}
