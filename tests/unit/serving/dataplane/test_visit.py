"""One request on its way: one lease, one way in, one error told; and which version it is in the end."""

import numpy as np
import pytest

from limen.contracts.contract import Field
from limen.contracts.endpoint import Route
from limen.contracts.errors import Internal, InvalidOutput, LimenError, ModelFailed, NotFound, Reason
from limen.contracts.identity import LOCAL
from limen.contracts.inference import InferenceRequest, InferenceResponse, Outcome
from limen.contracts.serving import Queue
from limen.packaging.manifest.values import Fallback
from limen.runtime.versions.manager import VersionManager
from limen.serving.dataplane.call import Call
from limen.serving.dataplane.plane import DataPlane
from limen.serving.dataplane.state import RouteReason
from limen.serving.dataplane.visit import Visit
from limen.telemetry.metrics.instruments import REQUESTS
from limen.telemetry.metrics.series import Metrics
from limen.telemetry.metrics.totals import errors, read_folder
from tests.unit.runtime.fakes import FakePlacement, package

BOUNDED = (Field(name="y", type="float32", minimum=0.0, maximum=10.0),)


def request(*values: float, **changes) -> InferenceRequest:
    return InferenceRequest("double", {"x": np.array(values or (1.0,), np.float32)}, id="r1", **changes)


def answered(version: str, value: float = 2.0) -> InferenceResponse:
    return InferenceResponse("double", version, {"y": np.array([value], np.float32)})


async def two(placement: FakePlacement, metrics: Metrics | None = None) -> DataPlane:
    """Serve version 2, whose fallback is version 1."""
    versions = VersionManager(placement)
    first = package(outputs=BOUNDED, examples=())
    second = package(digest="d2", outputs=BOUNDED, examples=(), fallback=Fallback(version="1"))
    versions.set_aspired("double", {"1": first, "2": second}, ("2",))
    await versions.settle()
    return DataPlane(versions, metrics=metrics)


def leases(plane: DataPlane) -> dict[str, int]:
    return {s.version: s.leases for s in plane.versions.statuses("double")}


def enter(plane: DataPlane, version: str = "", endpoint: str = "double") -> Visit:
    return plane.enter(LOCAL, endpoint, version, "r1", "rest")


async def test_a_visit_says_why_its_version_answers():
    placement = FakePlacement()
    plane = await two(placement)
    plane.set_routes("double", (), {"old": "1"})
    cases = {("double", ""): ("2", "only"), ("double", "1"): ("1", "named"), ("double@old", ""): ("1", "named")}
    for (endpoint, version), expected in cases.items():
        with enter(plane, version, endpoint) as visit:
            assert (visit.handle.version, visit.reason.value) == expected
            assert visit.principal is LOCAL
    plane.set_routes("double", (Route(1, 50), Route(2, 50)), {})
    with enter(plane) as visit:
        assert visit.reason is RouteReason.DRAWN
        drawn = visit.handle.version
    placement.started[drawn].down = "no memory"
    placement.started[drawn].on_turn()
    with enter(plane) as visit:
        assert (visit.reason, visit.handle.version == drawn) == (RouteReason.INSTEAD, False)
    assert leases(plane) == {"1": 0, "2": 0}


async def test_a_visit_that_is_not_started_gives_its_lease_back_once():
    plane = await two(FakePlacement())
    with enter(plane) as visit:
        assert leases(plane) == {"1": 0, "2": 1}
        visit.leave()
        assert leases(plane) == {"1": 0, "2": 0}
    assert leases(plane) == {"1": 0, "2": 0}


@pytest.mark.parametrize("is_at_once", [True, False])
async def test_after_a_fallback_the_visit_is_that_of_the_version_that_answered(is_at_once):
    placement = FakePlacement()
    plane = await two(placement)
    placement.started["2"].answer = lambda _: ModelFailed()
    placement.started["1"].answer = lambda _: answered("1", 7.0)
    if is_at_once:
        placement.started["2"].now, placement.started["1"].now = ModelFailed(), answered("1", 7.0)
    visit = enter(plane)
    answer = await visit.infer(request())
    assert (answer.model_version, visit.handle.version, visit.reason) == ("1", "1", RouteReason.FALLBACK)
    assert visit.contract is visit.handle.contract
    assert answer.parameters == {"limen_fallback": "version"}
    assert leases(plane) == {"1": 0, "2": 0}


async def test_a_caller_by_an_alias_gets_the_fallback_too():
    placement = FakePlacement()
    plane = await two(placement)
    plane.set_routes("double", (), {"new": "2"})
    placement.started["2"].answer = lambda _: ModelFailed()
    placement.started["1"].answer = lambda _: answered("1")
    assert (await enter(plane, endpoint="double@new").infer(request())).model_version == "1"


async def test_a_fallback_has_the_place_in_the_lane_that_the_failed_version_had():
    """There is one place: it is free before the fallback asks for it."""
    placement = FakePlacement()
    plane = await two(placement)
    for number in ("1", "2"):
        with plane.versions.acquire("double", number) as handle:
            handle.lane = plane.admission.lane("double", Queue(max_requests=1), 1)
    placement.started["2"].answer = lambda _: ModelFailed()
    placement.started["1"].answer = lambda _: answered("1")
    assert (await enter(plane).infer(request())).model_version == "1"
    assert plane.admission.lane("double").in_hand == 0


@pytest.mark.parametrize("is_at_once", [True, False])
async def test_where_the_fallback_fails_too_the_first_error_is_told_and_counted_once(tmp_path, is_at_once):
    placement, metrics = FakePlacement(), Metrics(tmp_path / "gateway-0.metrics")
    plane = await two(placement, metrics)
    first = ModelFailed("the first")
    for number, error in (("2", first), ("1", ModelFailed("the second"))):
        placement.started[number].answer = lambda _, error=error: error
        placement.started[number].now = error if is_at_once else None
    with pytest.raises(ModelFailed) as failed:
        await enter(plane).infer(request())
    assert failed.value is first
    totals = read_folder(tmp_path)
    assert errors(totals.numbers(REQUESTS, ("double", "2", "rest"))) == {"INTERNAL": 1}
    assert errors(totals.numbers(REQUESTS, ("double", "1", "rest"))) == {}
    assert leases(plane) == {"1": 0, "2": 0}
    metrics.close()


async def test_the_second_call_of_a_fallback_is_cancelled_with_the_first():
    placement = FakePlacement()
    plane = await two(placement)
    placement.started["2"].answer = lambda _: ModelFailed()
    placement.started["1"].asked.clear()
    placement.started["1"].is_holding = True
    call = enter(plane).start(request())
    assert isinstance(call, Call)
    await placement.started["1"].asked.wait()
    assert leases(plane) == {"1": 1, "2": 0}
    call.cancel()
    assert leases(plane) == {"1": 0, "2": 0}
    assert plane.admission.lane("double").in_hand == 0


async def test_an_unexpected_failure_is_logged_with_the_id_the_caller_gets(caplog):
    placement = FakePlacement()
    plane = await two(placement)
    placement.started["1"].predict_now = None
    with pytest.raises(Internal):
        plane.enter(LOCAL, "double", "1", "the-callers-id", "rest").start(request())
    assert "request_id=the-callers-id" in caplog.text


async def test_the_log_of_the_model_calls_a_request_what_its_caller_was_told():
    placement = FakePlacement()
    plane = await two(placement)
    placement.started["2"].requests.clear()
    await plane.enter(LOCAL, "double", "", "made-up", "rest").infer(request())
    assert [r.log_id for r in placement.started["2"].requests] == ["made-up"]


@pytest.mark.parametrize("is_stream", [False, True])
async def test_outputs_out_of_their_range_are_refused_in_whole_answers_and_in_parts(is_stream):
    placement = FakePlacement()
    plane = await two(placement)
    placement.started["1"].answer = lambda _: answered("1", 11.0)
    if is_stream:
        placement.started["1"].can_stream = True
        with plane.versions.acquire("double", "1") as handle:
            handle.predictor.can_stream = True
    with enter(plane, "1") as visit, pytest.raises(InvalidOutput, match=r"y\[0\]: must be ≤ 10"):
        async for _ in visit.stream(request()):
            pass


async def test_the_ranges_of_outputs_are_checked_in_one_answer_of_so_many():
    placement = FakePlacement()
    versions = VersionManager(placement)
    versions.set_aspired("double", {"1": package(outputs=BOUNDED, examples=())})
    await versions.settle()
    plane = DataPlane(versions, check_limits_every=3)
    told: list[str] = []
    for value in (11.0, 11.0, 11.0, 11.0, np.nan):
        placement.started["1"].answer = lambda _, value=value: answered("1", value)
        outcome: Outcome
        try:
            outcome = await enter(plane).infer(request())
        except LimenError as exc:
            outcome = exc
        told.append(outcome.reason.value if isinstance(outcome, LimenError) else "answered")
    # What is not finite never passes.
    invalid = Reason.INVALID_OUTPUT.value
    assert told == [invalid, "answered", "answered", invalid, invalid]


async def test_a_request_that_reaches_nothing_is_counted_without_a_callers_names(tmp_path):
    metrics = Metrics(tmp_path / "gateway-0.metrics")
    plane = await two(FakePlacement(), metrics)
    for endpoint, version in (("nosuch", ""), ("double", "99")):
        with pytest.raises(NotFound) as missing:
            plane.enter(LOCAL, endpoint, version, "r1", "rest")
        plane.finaliser.refused(endpoint, version, "rest", missing.value)  # again by the gateway, which counts nothing
    plane.finaliser.refused("double", "98", "record", NotFound())
    totals = read_folder(tmp_path)
    for labels in (("", "", "rest"), ("double", "", "rest"), ("double", "", "record")):
        assert errors(totals.numbers(REQUESTS, labels)) == {"NOT_FOUND": 1}
    metrics.close()


async def test_lanes_of_endpoints_that_are_gone_are_forgotten():
    plane = await two(FakePlacement())
    plane.admission.lane("double")
    plane.admission.lane("gone")
    plane.keep({"double"})
    assert set(plane.admission.lanes) == {"double"}
