"""The version manager: leases, drains, and states that never promise what is not yet true."""

import asyncio

import numpy as np
import pytest

from limen.contracts.errors import InvalidArgument, InvalidPackage, NotFound, Reason, Unavailable
from limen.contracts.inference import InferenceResponse
from limen.runtime.versions.lifecycle import State
from limen.runtime.versions.manager import VersionManager
from limen.runtime.versions.warmup import WARM_UP_TIMEOUT_S
from tests.unit.runtime.fakes import FakePlacement, FakeSink, package


@pytest.fixture
async def placement() -> FakePlacement:
    return FakePlacement()


@pytest.fixture
async def manager(placement):
    manager = VersionManager(placement, drain_timeout_s=30)
    yield manager
    placement.gate.set()
    placement.failure = None


async def ready(manager: VersionManager, *versions: str, model: str = "double") -> None:
    manager.set_aspired(model, {v: package(model, digest=f"d{v}") for v in versions})
    await manager.settle()


async def turns() -> None:
    """Let everything that is ready to run do so."""
    for _ in range(8):
        await asyncio.sleep(0)


def states(manager: VersionManager, model: str = "double") -> dict[str, State]:
    return {s.version: s.state for s in manager.statuses(model)}


async def test_a_ready_version_is_handed_out_by_number_and_as_the_default(manager):
    await ready(manager, "1")
    with manager.acquire("double", "1") as one, manager.acquire("double") as default:
        assert one is default
        assert (one.model, one.version, one.leases) == ("double", "1", 2)
        assert manager.statuses("double")[0].leases == 2
    assert one.leases == 0
    assert manager.models() == ("double",)
    assert manager.versions("double") == ("1",)
    assert [(s.digest, s.reason) for s in manager.statuses("double")] == [("d1", "")]


async def test_the_default_is_the_newest_by_number(manager):
    await ready(manager, "9", "10", "2")
    assert manager.versions("double") == ("2", "9", "10")
    assert manager.acquire("double").version == "10"


async def test_the_default_is_the_routed_version_and_not_one_that_is_only_kept_ready(manager, placement):
    manager.set_aspired("double", {v: package(digest=v) for v in ("1", "2")}, ("1",))
    await manager.settle()
    assert manager.acquire("double").version == "1"
    assert manager.acquire("double", "2").version == "2"


async def test_what_answered_goes_on_until_every_routed_version_is_ready(manager, placement):
    await ready(manager, "1", "2")
    manager.set_aspired("double", {v: package(digest=v) for v in ("1", "2")}, ("1",))
    placement.gate.clear()
    placement.entered.clear()
    manager.set_aspired("double", {v: package(digest=v) for v in ("2", "3")}, ("3",))
    settling = asyncio.create_task(manager.settle())
    await placement.entered.wait()
    assert states(manager) == {"1": State.READY, "2": State.READY, "3": State.LOADING}
    with manager.acquire("double") as handle:
        assert handle.version == "1"
    placement.gate.set()
    await settling
    assert manager.acquire("double").version == "3"
    assert set(states(manager)) == {"2", "3"}


async def test_an_alias_is_another_name_of_one_ready_version(manager):
    await ready(manager, "1", "2")
    manager.set_aliases("double", {"champion": "1", "next": "3"})
    assert manager.acquire("double@champion").version == "1"
    assert manager.acquire("double@champion", "1").version == "1"
    assert manager.is_known("double@champion")
    assert manager.models() == ("double",)
    with pytest.raises(NotFound, match="does not point to"):
        manager.acquire("double@champion", "2")
    with pytest.raises(NotFound, match="no such version"):
        manager.acquire("double@next")
    with pytest.raises(NotFound, match="no such alias"):
        manager.acquire("double@other")
    manager.set_aliases("double", {"champion": "2"})
    assert manager.acquire("double@champion").version == "2"
    manager.set_aliases("double", {})
    with pytest.raises(NotFound):
        manager.acquire("double@champion")


async def test_an_expected_name_without_versions_is_not_ready_rather_than_unknown(manager):
    manager.expect({"known": ()})
    assert (manager.models(), manager.is_known("known")) == (("known",), True)
    for called, version in (("known", ""), ("known", "7"), ("known@champion", "")):
        with pytest.raises(Unavailable):
            manager.acquire(called, version)
    manager.expect({})
    with pytest.raises(NotFound):
        manager.acquire("known")


async def test_what_is_served_here_is_not_ready_rather_than_unknown_while_it_is_let_go_and_loaded_again(manager):
    await ready(manager, "1", "2")
    manager.set_aliases("double", {"champion": "1"})
    manager.expect({"double": ("1", "3")})
    with manager.acquire("double", "1"), manager.acquire("double", "2"):
        manager.set_aspired("double", {})
        unloading = asyncio.create_task(manager.settle())
        await turns()
        for called, version in (("double", ""), ("double", "1"), ("double", "3"), ("double@champion", "")):
            with pytest.raises(Unavailable) as found:
                manager.acquire(called, version)
            assert found.value.retry_after_s
        with pytest.raises(NotFound, match="is being unloaded"):
            manager.acquire("double", "2")
        with pytest.raises(NotFound, match="no such version"):
            manager.acquire("double", "4")
    await unloading
    with pytest.raises(Unavailable):
        manager.acquire("double", "1")
    with pytest.raises(NotFound, match="no such version"):
        manager.acquire("double", "2")


async def test_a_loading_version_is_nobodys_default(manager, placement):
    await ready(manager, "1")
    placement.gate.clear()
    placement.entered.clear()
    manager.set_aspired("double", {"2": package(digest="d2")})
    settling = asyncio.create_task(manager.settle())
    await placement.entered.wait()
    assert states(manager) == {"1": State.READY, "2": State.LOADING}
    with manager.acquire("double") as default:
        assert default.version == "1"
    with pytest.raises(Unavailable) as loading:
        manager.acquire("double", "2")
    assert (loading.value.message, loading.value.retry_after_s) == ("the model is still loading", 1.0)
    assert manager.versions("double") == ("1",)
    placement.gate.set()
    await settling
    assert manager.acquire("double").version == "2"
    assert states(manager) == {"2": State.READY}


async def test_it_is_ready_only_after_a_right_answer(manager, placement):
    """While the version answers its examples it is WARMING, and nobody gets it."""
    seen: list[dict[str, State]] = []

    class Watching(FakeSink):
        def send(self, batch, deadline, done):
            seen.append(states(manager))
            with pytest.raises(Unavailable):
                manager.acquire("double")
            return super().send(batch, deadline, done)

    placement.make = Watching
    await ready(manager, "1")
    assert seen
    assert all(s == {"1": State.WARMING} for s in seen)
    assert states(manager) == {"1": State.READY}


async def test_a_placement_learns_how_long_a_run_may_take_from_the_warm_up(manager, placement):
    await ready(manager, "1")
    during, after = placement.started["1"].allowed
    assert during == WARM_UP_TIMEOUT_S
    assert 0 < after < during


async def test_b46_a_wrong_answer_in_the_warm_up_is_a_failed_state_with_its_reason(manager, placement):
    def five(request):
        return InferenceResponse("double", "1", {"y": np.array([5], np.float32)})

    placement.make = lambda: FakeSink(five)
    await ready(manager, "1")
    (status,) = manager.statuses("double")
    assert status.state is State.FAILED
    assert status.reason == (
        "the answer to an example differs from the recorded one: golden.y: expected 4.0, got 5.0 (difference 1)"
    )
    assert placement.started["1"].closed == 1
    with pytest.raises(Unavailable) as failed:
        manager.acquire("double")
    assert failed.value.reason is Reason.NOT_READY
    assert failed.value.message == "the model failed to load; see the server's log"
    assert manager.versions("double") == ()


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (InvalidPackage("the artifact is empty"), "the artifact is empty"),
        (RuntimeError("/home/someone/secret"), "the model could not be loaded; see the log"),
    ],
)
async def test_a_failed_load_is_a_state_and_not_an_exception(manager, placement, failure, reason):
    placement.failure = failure
    await ready(manager, "1")
    assert [(s.state, s.reason) for s in manager.statuses("double")] == [(State.FAILED, reason)]


async def test_a_failed_version_leaves_the_old_one_in_charge(manager, placement):
    await ready(manager, "1")
    placement.failure = InvalidPackage("broken")
    await ready(manager, "2")
    assert states(manager) == {"1": State.READY, "2": State.FAILED}
    assert manager.acquire("double").version == "1"


async def test_one_failed_model_does_not_keep_another_from_loading(manager, placement):
    placement.failure = InvalidPackage("broken")
    manager.set_aspired("bad", {"1": package("bad")})
    await manager.step()
    placement.failure = None
    await ready(manager, "1", model="good")
    assert (states(manager, "bad"), states(manager, "good")) == ({"1": State.FAILED}, {"1": State.READY})


async def test_unloading_waits_for_the_last_lease(manager, placement):
    await ready(manager, "1")
    first, second = manager.acquire("double"), manager.acquire("double", "1")
    manager.set_aspired("double", {})
    unloading = asyncio.create_task(manager.settle())
    await turns()
    assert states(manager) == {"1": State.DRAINING}
    with pytest.raises(NotFound, match="is being unloaded"):
        manager.acquire("double")
    first.release()
    await turns()
    assert placement.started["1"].closed == 0
    second.release()
    await unloading
    assert placement.started["1"].closed == 1
    assert manager.overdue_drains == 0
    assert manager.models() == ()
    with pytest.raises(NotFound, match="no model by that name"):
        manager.acquire("double")


async def test_after_the_drain_deadline_it_unloads_and_counts(placement):
    manager = VersionManager(placement, drain_timeout_s=0.01)
    await ready(manager, "1")
    handle = manager.acquire("double")
    await manager.close()
    assert placement.started["1"].closed == 1
    assert manager.overdue_drains == 1
    handle.release()


async def test_a_switch_keeps_the_old_version_until_its_requests_are_done(placement):
    draining = asyncio.Event()

    def watch() -> None:
        if State.DRAINING in states(manager).values():
            draining.set()

    manager = VersionManager(placement, on_change=watch)
    await ready(manager, "1")
    old = manager.acquire("double")
    manager.set_aspired("double", {"2": package(digest="d2")})
    switching = asyncio.create_task(manager.settle())
    await draining.wait()
    assert manager.acquire("double").version == "2"
    assert placement.started["1"].closed == 0
    old.release()
    await switching
    assert states(manager) == {"2": State.READY}


async def test_a_model_that_cannot_be_closed_is_gone_all_the_same(manager, placement, caplog):
    await ready(manager, "1")

    async def broken() -> None:
        raise RuntimeError("no")

    placement.started["1"].close = broken
    await manager.close()
    assert manager.models() == ()
    assert "closing a model failed" in caplog.text


async def test_readers_hear_of_a_change_after_it_is_true(placement):
    heard: list[tuple[str, ...]] = []
    manager = VersionManager(placement, on_change=lambda: heard.append(manager.versions("double")))
    await ready(manager, "1")
    await ready(manager, "2")
    await manager.close()
    # Also when a version that was no longer handed out is gone.
    assert heard == [("1",), ("1", "2"), ("2",), ("2",), (), ()]


@pytest.mark.parametrize(
    ("model", "version", "error"),
    [
        ("other", "", NotFound),
        ("other", "1", NotFound),
        ("double", "2", NotFound),
        ("double", "0", InvalidArgument),
        ("double", "01", InvalidArgument),
        ("double", "latest", InvalidArgument),
        ("double", "-1", InvalidArgument),
        ("double", "1e3", InvalidArgument),
        ("double", "१", InvalidArgument),
        ("double", "9" * 30, InvalidArgument),
    ],
)
async def test_b44_what_is_not_there_is_told_apart_from_what_is_not_a_version(manager, model, version, error):
    await ready(manager, "1")
    with pytest.raises(error):
        manager.acquire(model, version)


async def test_nothing_is_left_to_do_once_settled(manager):
    await ready(manager, "1", "2")
    assert await manager.step() is False


async def test_a_long_drain_does_not_keep_the_next_version_from_loading(manager):
    await ready(manager, "1")
    held = manager.acquire("double")
    manager.set_aspired("double", {"2": package(digest="d2")})
    while await manager.step():
        pass
    assert states(manager) == {"1": State.DRAINING, "2": State.READY}
    manager.set_aspired("double", {"3": package(digest="d3")})
    while await manager.step():
        pass
    assert manager.acquire("double").version == "3"
    assert states(manager)["1"] is State.DRAINING
    held.release()


async def test_a_slow_model_does_not_keep_another_from_loading(manager, placement):
    placement.gate.clear()
    manager.set_aspired("slow", {"1": package("slow")})
    slow = asyncio.create_task(manager.settle())
    await placement.entered.wait()
    placement.gate.set()
    manager.set_aspired("good", {"1": package("good")})
    await manager.settle()
    assert states(manager, "good") == {"1": State.READY}
    await slow


async def test_a_version_that_failed_elsewhere_is_told_and_not_loaded(manager, placement):
    await ready(manager, "1")
    manager.set_failed("double", "2", package(digest="d2"), "the artifact is empty")
    await manager.settle()
    assert states(manager) == {"1": State.READY, "2": State.FAILED}
    assert list(placement.started) == ["1"]
    assert manager.acquire("double").version == "1"


async def test_how_busy_a_version_is_can_be_read(manager):
    await ready(manager, "1")
    (load,) = manager.loads()
    assert (load.model, load.version, load.waiting, load.in_flight, load.waiting_rows) == ("double", "1", 0, 0, 0)


async def test_an_alias_goes_on_with_the_version_it_had_until_the_new_one_is_ready(manager, placement):
    await ready(manager, "1")
    manager.set_aliases("double", {"champion": "1"})
    placement.gate.clear()
    placement.entered.clear()
    manager.set_aliases("double", {"champion": "2"})
    manager.set_aspired("double", {v: package(digest=f"d{v}") for v in ("2",)}, ("2",))
    settling = asyncio.create_task(manager.settle())
    await placement.entered.wait()
    with manager.acquire("double@champion") as handle:
        assert handle.version == "1"
    placement.gate.set()
    await settling
    with manager.acquire("double@champion") as handle:
        assert handle.version == "2"


async def test_a_version_that_waits_for_its_successor_goes_when_everything_does(manager, placement):
    await ready(manager, "1")
    placement.failure = InvalidPackage("broken")
    manager.set_aspired("double", {"2": package(digest="d2")}, ("2",))
    await manager.settle()
    assert states(manager) == {"1": State.READY, "2": State.FAILED}
    await manager.close()
    assert placement.started["1"].closed == 1


@pytest.mark.parametrize(
    ("answer", "may_merge"),
    [(lambda x: x * 2, True), (lambda x: np.full_like(x, x.max() * 2), False)],
    ids=["rows that leave each other alone", "rows that influence each other"],
)
async def test_requests_share_runs_only_if_rows_leave_each_other_alone(manager, placement, caplog, answer, may_merge):
    def model(request):
        return InferenceResponse("double", "1", {"y": answer(request.inputs["x"])})

    placement.make = lambda: FakeSink(model)
    await ready(manager, "1")
    with manager.acquire("double") as handle:
        assert handle.predictor.merges is may_merge
    assert ("double version 1: rows influence each other" in caplog.text) is not may_merge
