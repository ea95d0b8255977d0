"""Control's decisions, without processes, files or a clock: facts in, snapshot and wanted processes out."""

import msgspec
import pytest

from limen.contracts.endpoint import Route
from limen.contracts.serving import Replicas, Resources, Serving
from limen.contracts.snapshot import LogLevels, SharedSettings, Snapshot
from limen.runtime.versions.lifecycle import State, VersionLoad
from limen.serving.fleet.fleet import LEAVE_S, OFFER_S, RETIRE_S, SILENT_S, START_S, Fleet
from limen.serving.fleet.launching import Launcher
from limen.serving.fleet.open_files import Room
from limen.serving.fleet.records import DEATH_WINDOW_S, Aim, Opened, Phase
from limen.serving.fleet.replication import RECYCLE_PAUSE_S
from limen.serving.fleet.takeover import endpoints_of
from limen.serving.messages.lines import (
    Failure,
    FirstWord,
    ModelSummary,
    ProcessPhase,
    ProcessSpec,
    Report,
)
from limen.testing.fleet import FakeFleet, launch

OOM = 86


def package(model: str = "m", *, memory_mb: int | None = None, is_inline: bool = False, **replicas) -> Opened:
    serving = Serving(replicas=Replicas(**replicas), resources=Resources(memory_mb=memory_mb))
    return Opened(
        model, f"/packages/{model}", "d", f"./{model}", serving, ModelSummary(model, "onnx", 1, 1), is_inline=is_inline
    )


def live(opened: Opened | None = None, **settings) -> FakeFleet:
    """Return a fleet in which version 1 of one model is in use."""
    world = FakeFleet(**settings)
    world.start_gateways()
    world.fleet.add(opened or package(), world.now)
    world.tick()
    world.ready(*world.replicas())
    world.tick()
    world.follow()
    for name, pid in world.gateways.items():
        world.process(name, ProcessPhase.RUNNING, pid, kind="gateway", word=FirstWord(ready={}))
    world.tick()
    assert world.fleet.is_started
    return world


# -- the start -------------------------------------------------------------------------------------------------------------


def test_the_first_snapshot_comes_when_every_model_has_a_replica_that_is_ready():
    world = FakeFleet()
    world.start_gateways()
    world.fleet.add(package("a"), world.now)
    world.fleet.add(package("b"), world.now)
    world.tick()
    assert [s.name for s in world.fleet.specs()] == ["g1", "g2", "a-v1-1", "b-v1-1"]
    world.ready("a-v1-1")
    world.tick()
    assert world.fleet.snapshot.revision == 0
    world.ready("b-v1-1")
    world.tick()
    assert world.fleet.snapshot.revision == 1
    assert [m.name for m in world.fleet.snapshot.endpoints] == ["a", "b"]
    assert not world.fleet.is_started


def test_the_server_has_started_when_every_gateway_is_ready_with_everything():
    world = live()
    assert world.served() == {"1": ("/sockets/r1",)}
    assert world.version("1").phase is Phase.LIVE
    world.fleet.is_started = False
    world.process("g2", ProcessPhase.STARTING, world.gateways["g2"], kind="gateway")
    world.tick()
    assert not world.fleet.is_started


def test_inline_versions_are_offered_at_once_and_have_no_replicas():
    world = live(package(is_inline=True))
    assert world.served() == {"1": ()}
    assert world.replicas() == []


def test_as_many_replicas_start_as_the_package_wants_and_the_first_is_enough_to_begin():
    world = FakeFleet()
    world.start_gateways()
    world.fleet.add(package(min=3, max=3), world.now)
    world.tick()
    assert world.replicas() == ["m-v1-1", "m-v1-2", "m-v1-3"]
    world.ready("m-v1-2")
    world.tick()
    assert world.served() == {"1": ("/sockets/r2",)}
    world.ready("m-v1-1")
    world.tick()
    assert world.served() == {"1": ("/sockets/r1", "/sockets/r2")}


# -- a swap ----------------------------------------------------------------------------------------------------------------


def test_a_swap_loads_beside_then_offers_then_retires_and_then_ends_the_old_replicas():
    world = live()
    world.fleet.add(package(), world.now)
    world.tick()
    assert world.replicas() == ["m-v1-1", "m-v2-1"]
    assert world.served() == {"1": ("/sockets/r1",)}

    world.ready("m-v2-1")
    world.tick()
    assert world.served() == {"2": ("/sockets/r2",)}
    # One gateway has it, the other is still busy with it: neither is the old one let go nor the new one in use.
    for pid in world.gateways.values():
        world.holds[pid] = {("m", "1"): State.READY, ("m", "2"): State.READY}
    world.holds[1002]["m", "2"] = State.WARMING
    world.report()
    world.tick()
    assert (world.version("1").phase, world.version("2").phase) == (Phase.LIVE, Phase.OFFERED)

    world.holds[1002] = {("m", "1"): State.DRAINING, ("m", "2"): State.READY}
    world.holds[1001] = {("m", "2"): State.READY}
    world.report()
    world.tick()
    assert (world.version("1").phase, world.version("2").phase) == (Phase.RETIRING, Phase.LIVE)
    assert world.replicas() == ["m-v1-1", "m-v2-1"]

    world.follow()
    world.tick()
    assert world.replicas() == ["m-v2-1"]
    assert list(world.fleet.endpoints["m"].versions) == ["2"]


def test_replicas_of_a_version_that_some_gateway_never_lets_go_end_all_the_same():
    world = live()
    world.fleet.add(package(), world.now)
    world.tick()
    world.ready("m-v2-1")
    world.tick()
    for pid in world.gateways.values():
        world.holds[pid] = {("m", "1"): State.DRAINING, ("m", "2"): State.READY}
    world.report()
    world.tick()
    world.tick(RETIRE_S)
    assert "m-v1-1" in world.replicas()
    world.tick(1)
    assert world.replicas() == ["m-v2-1"]


@pytest.mark.parametrize(
    ("fact", "reason"),
    [
        ({"phase": ProcessPhase.REFUSING, "word": FirstWord(failed=Failure("no such file"))}, "no such file"),
        ({"phase": ProcessPhase.PAUSED, "status": -11}, "the model's process ended while it was loading (status -11)"),
        ({"phase": ProcessPhase.PAUSED, "status": OOM}, "the model needs more memory to load than its limit"),
    ],
)
def test_a_version_whose_replica_cannot_load_has_failed_and_the_old_one_stays(fact, reason):
    world = live()
    world.fleet.add(package(), world.now)
    world.tick()
    world.process("m-v2-1", **fact)
    world.tick()
    assert (world.version("2").phase, world.version("2").reason) == (Phase.FAILED, reason)
    assert world.replicas() == ["m-v1-1"]
    assert world.served() == {"1": ("/sockets/r1",), "2": ()}
    assert world.fleet.snapshot.endpoints[0].versions[1].failure == reason
    world.follow()
    world.tick(60)
    assert world.served() == {"1": ("/sockets/r1",), "2": ()}


def test_a_version_that_never_loads_has_failed_after_its_time():
    world = live()
    world.fleet.add(package(), world.now)
    world.tick()
    world.tick(START_S + 1)
    assert world.version("2").reason == f"the model was not loaded within {START_S:g} s"


def test_a_failed_warm_up_in_one_gateway_brings_the_old_version_back_for_all():
    world = live()
    world.fleet.add(package(), world.now)
    world.tick()
    world.ready("m-v2-1")
    world.tick()
    world.holds[1001] = {("m", "2"): State.READY}
    world.holds[1002] = {("m", "1"): State.READY, ("m", "2"): State.FAILED}
    world.report()
    world.tick()
    assert world.version("2").phase is Phase.FAILED
    assert world.served() == {"1": ("/sockets/r1",), "2": ()}
    # The first gateway still uses the failed version: its replica stays until that is over.
    world.report()
    world.tick()
    assert world.replicas() == ["m-v1-1", "m-v2-1"]
    world.follow()
    world.tick()
    assert world.replicas() == ["m-v1-1"]


def test_a_version_that_gateways_never_get_ready_has_failed_after_its_time():
    world = live()
    world.fleet.add(package(), world.now)
    world.tick()
    world.ready("m-v2-1")
    world.tick()
    world.tick(OFFER_S + 1)
    assert world.version("2").reason == f"g1, g2 did not have the model ready within {OFFER_S:g} s"
    assert "1" in world.served()


def test_a_gateway_that_hangs_undoes_no_release():
    world = live()
    world.fleet.add(package(), world.now)
    world.tick()
    world.ready("m-v2-1")
    world.tick()
    world.holds[1001] = {("m", "1"): State.READY, ("m", "2"): State.READY}
    for _ in range(int(SILENT_S) - 1):
        world.report(1001)
        world.tick(1)
        assert world.version("2").phase is Phase.OFFERED
    world.report(1001)
    world.tick(2)
    assert world.version("2").phase is Phase.LIVE
    # It may still answer with the version before, so that one stays until it is known to have let go.
    world.tick(1)
    assert world.replicas() == ["m-v1-1", "m-v2-1"]


def test_a_gateway_that_reports_and_never_gets_a_version_ready_fails_it_and_is_named():
    world = live()
    world.fleet.add(package(), world.now)
    world.tick()
    world.ready("m-v2-1")
    world.tick()
    world.holds[1001] = {("m", "1"): State.READY, ("m", "2"): State.READY}
    world.report()
    for _ in range(int(OFFER_S)):
        world.tick(1)
        world.report()
    assert world.version("2").phase is Phase.OFFERED
    world.tick(1)
    assert world.version("2").reason == f"g2 did not have the model ready within {OFFER_S:g} s"
    assert "1" in world.served()


def test_the_next_version_takes_the_next_number_and_forgets_the_failed_one():
    world = live()
    world.fleet.add(package(), world.now)
    world.tick()
    world.died("m-v2-1", 1)
    world.tick()
    world.fleet.add(package(), world.now)
    world.tick()
    world.ready("m-v3-1")
    world.tick()
    assert list(world.fleet.endpoints["m"].versions) == ["1", "2", "3"]
    world.follow()
    world.tick()
    assert list(world.fleet.endpoints["m"].versions) == ["3"]
    assert world.served() == {"3": ("/sockets/r3",)}


def test_a_gateway_that_is_replaced_does_not_hold_up_a_swap():
    world = live()
    world.fleet.add(package(), world.now)
    world.tick()
    world.ready("m-v2-1")
    world.tick()
    world.process("g2", ProcessPhase.PAUSED, 1002, kind="gateway", status=-9)
    world.process("g2", ProcessPhase.STARTING, 1003, kind="gateway")
    world.holds[1001] = {("m", "2"): State.READY}
    world.report(1001)
    world.tick()
    assert world.version("2").phase is Phase.LIVE


# -- endpoints with several versions ------------------------------------------------------------------------------------------


def shares(**weights: int) -> tuple[Route, ...]:
    return tuple(Route(int(number.removeprefix("v")), weight) for number, weight in weights.items())


def aimed(world: FakeFleet, aim: Aim) -> None:
    world.fleet.aim("m", aim, {n: package() for n in aim.versions}, world.now)
    world.tick()


def settled(world: FakeFleet) -> FakeFleet:
    """Let everything load, be followed and be let go."""
    for _ in range(6):
        world.ready(*world.replicas())
        world.tick()
        world.follow()
        world.tick()
    return world


def endpoint(world: FakeFleet):
    return next(e for e in world.fleet.snapshot.endpoints if e.name == "m")


def test_shares_are_offered_only_when_all_their_versions_have_loaded():
    world = FakeFleet()
    world.start_gateways()
    aimed(world, Aim(shares(v7=100), {"champion": "7"}, ("7",)))
    settled(world)
    aimed(world, Aim(shares(v7=90, v8=5, v9=5), {"champion": "7", "next": "9"}, ("7", "8", "9")))
    world.ready("m-v8-1")
    world.tick()
    assert endpoint(world).routes == shares(v7=100)
    world.ready("m-v9-1")
    world.tick()
    assert endpoint(world).routes == shares(v7=90, v8=5, v9=5)
    assert endpoint(world).aliases == {"champion": "7", "next": "9"}
    settled(world)
    assert [v.phase for v in world.fleet.endpoints["m"].versions.values()] == [Phase.LIVE] * 3


def test_shares_that_change_alone_start_nothing():
    world = FakeFleet()
    world.start_gateways()
    aimed(world, Aim(shares(v7=90, v8=10), {}, ("7", "8")))
    settled(world)
    before = world.replicas()
    aimed(world, Aim(shares(v7=10, v8=90), {}, ("7", "8")))
    assert endpoint(world).routes == shares(v7=10, v8=90)
    assert settled(world).replicas() == before


def test_one_version_that_fails_keeps_the_whole_change_away():
    world = FakeFleet()
    world.start_gateways()
    aimed(world, Aim(shares(v7=100), {"champion": "7"}, ("7",)))
    settled(world)
    aimed(world, Aim(shares(v8=50, v9=50), {"champion": "8"}, ("8", "9")))
    world.ready("m-v8-1")
    world.died("m-v9-1", 1)
    world.tick()
    settled(world)
    assert (endpoint(world).routes, endpoint(world).aliases) == (shares(v7=100), {"champion": "7"})
    assert world.replicas() == ["m-v7-1"]
    assert "version 9" in world.fleet.endpoints["m"].problem


def test_at_the_start_what_loads_is_served_when_another_version_fails():
    world = FakeFleet(is_all_or_nothing=False)
    world.start_gateways()
    aimed(world, Aim(shares(v7=90, v8=10), {"next": "8"}, ("7", "8")))
    world.died("m-v8-1", 1)
    world.ready("m-v7-1")
    world.tick()
    settled(world)
    assert (endpoint(world).routes, endpoint(world).aliases) == (shares(v7=90), {})


def test_going_back_while_the_old_version_is_still_there_uses_it_again():
    world = FakeFleet()
    world.start_gateways()
    aimed(world, Aim(shares(v7=100), {}, ("7",)))
    settled(world)
    aimed(world, Aim(shares(v8=100), {}, ("8",)))
    world.ready("m-v8-1")
    world.tick()
    for pid in world.gateways.values():
        world.holds[pid] = {("m", "7"): State.DRAINING, ("m", "8"): State.READY}
    world.report()
    world.tick()
    assert world.version("7").phase is Phase.RETIRING
    aimed(world, Aim(shares(v7=100), {}, ("7",)))
    settled(world)
    assert endpoint(world).routes == shares(v7=100)
    assert world.replicas() == ["m-v7-1"]


def test_a_version_that_comes_back_does_not_meet_its_replicas_that_are_still_ending():
    world = live()
    aimed(world, Aim())
    settled(world)
    assert world.replicas() == []
    aimed(world, Aim(shares(v1=100), {}, ("1",)))
    assert world.replicas() == ["m-v1-2"]
    world.process("m-v1-1", ProcessPhase.ENDED, status=0)
    world.tick()
    assert world.version("1").phase is Phase.STARTING
    assert settled(world).version("1").phase is Phase.LIVE


def test_a_removed_endpoint_is_forgotten_when_no_gateway_holds_it():
    world = live()
    world.fleet.remove("m", world.now)
    world.tick()
    assert world.fleet.snapshot.endpoints == ()
    assert world.replicas() == ["m-v1-1"]
    settled(world)
    assert world.replicas() == []
    assert world.fleet.endpoints == {}


def test_an_endpoint_without_versions_is_in_the_snapshot_and_has_no_process():
    world = FakeFleet(is_all_or_nothing=False)
    world.start_gateways()
    aimed(world, Aim())
    settled(world)
    assert (endpoint(world).versions, world.replicas()) == ((), [])


def test_an_endpoint_that_is_made_anew_while_the_one_before_is_let_go_is_served():
    world = live()
    world.fleet.remove("m", world.now)
    world.tick()
    aimed(world, Aim(shares(v1=100), {}, ("1",)))
    settled(world)
    assert endpoint(world).routes == shares(v1=100)
    assert world.fleet.endpoints["m"].is_settled


def test_a_removed_endpoint_of_which_nothing_could_be_loaded_is_forgotten():
    world = FakeFleet(is_all_or_nothing=False)
    world.start_gateways()
    aimed(world, Aim(shares(v1=100), {}, ("1",)))
    world.died("m-v1-1", 1)
    world.tick()
    settled(world)
    assert world.version("1").phase is Phase.FAILED
    world.fleet.remove("m", world.now)
    settled(world)
    assert world.fleet.endpoints == {}


def test_a_removed_endpoint_that_was_paused_is_forgotten():
    world = paused(live())
    world.fleet.remove("m", world.now)
    settled(world)
    assert world.fleet.endpoints == {}


def test_a_version_that_had_no_replica_is_loaded_when_it_is_wanted_again():
    world = live(package(min=0, idle_s=30))
    idle(world)
    world.fleet.add(package(), world.now)
    world.tick()
    world.ready("m-v2-1")
    world.tick()
    for pid in world.gateways.values():
        world.holds[pid] = {("m", "1"): State.DRAINING, ("m", "2"): State.READY}
    world.report()
    world.tick()
    assert world.version("1").phase is Phase.RETIRING
    aimed(world, Aim(shares(v1=100), {}, ("1",)))
    assert world.version("1").phase is Phase.STARTING
    settled(world)
    assert endpoint(world).routes == shares(v1=100)


def test_a_live_version_stays_where_it_is_when_its_endpoint_says_another_place():
    world = live()
    aim = Aim(shares(v1=100), {}, ("1",))
    world.fleet.aim("m", aim, {"1": package(is_inline=True, max=2)}, world.now)
    world.tick()
    assert not endpoint(world).versions[0].is_inline
    assert world.version("1").opened.serving.replicas.max == 2
    aimed(world, Aim(shares(v2=100), {}, ("2",)))
    world.fleet.aim("m", Aim(shares(v3=100), {}, ("3",)), {"3": package(is_inline=True)}, world.now)
    settled(world)
    assert (endpoint(world).versions[0].is_inline, world.replicas()) == (True, [])


# -- replicas --------------------------------------------------------------------------------------------------------------


def test_a_replica_that_dies_keeps_its_place_because_it_comes_back_there():
    world = live()
    revision = world.fleet.snapshot.revision
    world.died("m-v1-1", -9)
    world.tick()
    world.process("m-v1-1", ProcessPhase.STARTING)
    world.tick()
    assert world.replicas() == ["m-v1-1"]
    assert world.fleet.snapshot.revision == revision


def busy(in_flight: int, waiting: int = 0, requests: int = 0) -> list[VersionLoad]:
    return [VersionLoad("m", "1", waiting, in_flight, waiting, 0.0, requests)]


def test_load_starts_replicas_and_quiet_ends_them_when_nothing_is_in_them():
    world = live(package(min=1, max=2, concurrency=1))
    for _ in range(30):
        world.report(loads=busy(5))
        world.tick(1)
    assert world.replicas() == ["m-v1-1", "m-v1-2"]
    world.ready("m-v1-2")
    world.tick()
    assert world.served() == {"1": ("/sockets/r1", "/sockets/r2")}

    for _ in range(400):
        world.report(loads=busy(0))
        world.tick(1)
        if len(world.served()["1"]) == 1:
            break
    assert world.served() == {"1": ("/sockets/r1",)}
    world.report(loads=busy(1))
    world.tick()
    assert world.replicas() == ["m-v1-1", "m-v1-2"]
    world.report(loads=busy(0))
    world.tick()
    assert world.replicas() == ["m-v1-1"]


def test_a_replica_that_should_leave_a_version_that_is_never_quiet_does_so_in_the_end():
    world = live(package(min=1, max=2))
    world.fleet.launcher.start(world.version("1"))
    world.ready("m-v1-2")
    world.tick()
    replica = world.version("1").replicas["m-v1-2"]
    replica.leaves_after, replica.leaves_by = world.fleet.snapshot.revision + 1, world.now + LEAVE_S
    world.tick()
    world.report(loads=busy(1))
    world.tick(LEAVE_S)
    assert "m-v1-2" in world.replicas()
    world.tick(1)
    assert "m-v1-2" not in world.replicas()


def idle(world: FakeFleet) -> FakeFleet:
    """Let an idle model go."""
    for _ in range(200):
        world.report(loads=busy(0))
        world.tick(1)
        if not world.replicas():
            return world
    raise AssertionError("it is still there")


def test_an_idle_model_is_let_go_and_one_request_starts_exactly_one_replica():
    world = idle(live(package(min=0, max=4, idle_s=30)))
    assert world.served() == {"1": ()}
    for _ in range(5):
        world.fleet.wake("m", "1")
        world.report(loads=busy(0, waiting=9))
        world.tick(1)
    assert world.replicas() == ["m-v1-2"]
    assert world.served() == {"1": ()}
    world.ready("m-v1-2")
    world.tick()
    assert world.served() == {"1": ("/sockets/r2",)}


def test_requests_keep_a_model_awake_even_when_none_is_in_hand_as_it_is_looked_at():
    world = live(package(min=0, idle_s=30))
    for i in range(100):
        world.report(loads=busy(0, requests=i))
        world.tick(1)
    assert world.replicas() == ["m-v1-1"]


def test_a_replica_near_its_memory_is_replaced_by_a_successor_that_is_ready_first():
    world = live(package(memory_mb=100))
    world.fleet.measure(lambda pid, limit: 0.91, 1.0)
    world.tick(RECYCLE_PAUSE_S)
    assert world.replicas() == ["m-v1-1", "m-v1-2"]
    assert world.served() == {"1": ("/sockets/r1",)}
    world.fleet.measure(lambda pid, limit: 0.1, 1.0)
    world.ready("m-v1-2")
    world.tick(1)
    assert world.served() == {"1": ("/sockets/r2",)}
    assert world.replicas() == ["m-v1-1", "m-v1-2"]
    world.follow()
    world.tick(1)
    assert world.replicas() == ["m-v1-2"]


def test_a_replica_that_grows_quickly_is_replaced_in_time_and_one_that_jumps_once_is_not():
    world = live(package(memory_mb=100))
    world.now += RECYCLE_PAUSE_S
    for share in (0.4, 0.7, 0.7, 0.7):
        world.fleet.measure(lambda pid, limit, share=share: share, 1.0)
        world.tick()
        assert world.replicas() == ["m-v1-1"]
    for share in (0.72, 0.82):
        world.fleet.measure(lambda pid, limit, share=share: share, 0.25)
        world.tick()
    assert world.replicas() == ["m-v1-1", "m-v1-2"]


def test_a_successor_that_cannot_load_leaves_the_large_one_in_place():
    world = live(package(memory_mb=100))
    world.fleet.measure(lambda pid, limit: 0.95, 1.0)
    world.tick(RECYCLE_PAUSE_S)
    world.died("m-v1-2", 1)
    world.tick(RECYCLE_PAUSE_S / 2)
    assert world.replicas() == ["m-v1-1"]
    world.tick(RECYCLE_PAUSE_S / 2)
    assert world.replicas() == ["m-v1-1", "m-v1-3"]
    # The next attempt waits twice as long.
    world.died("m-v1-3", 1)
    world.tick(RECYCLE_PAUSE_S)
    assert world.replicas() == ["m-v1-1"]
    world.tick(RECYCLE_PAUSE_S)
    assert world.replicas() == ["m-v1-1", "m-v1-4"]


@pytest.mark.parametrize(("status", "is_oom"), [(OOM, False), (-9, True)])
def test_a_version_that_runs_out_of_memory_again_and_again_rests_and_says_why(status, is_oom):
    world = live(package(memory_mb=64))
    for _ in range(3):
        world.died("m-v1-1", status, is_oom=is_oom)
        world.tick(1)
        world.ready("m-v1-1")
        world.tick(1)
    assert world.replicas() == ["m-v1-1"]
    world.died("m-v1-1", status, is_oom=is_oom)
    world.tick(1)
    assert world.replicas() == []
    (served,) = world.fleet.snapshot.endpoints[0].versions
    assert served.down == "the model ran out of its memory of 64 MiB 4 times in ten minutes; restarts are paused"

    world.follow()
    world.fleet.wake("m", "1")
    world.tick(DEATH_WINDOW_S - 2)
    assert world.replicas() == []
    world.tick(1)
    assert world.replicas() == ["m-v1-2"]


def test_a_killed_replica_is_not_taken_for_one_without_memory():
    world = live(package(memory_mb=64))
    for _ in range(10):
        world.died("m-v1-1", -9)
        world.tick(1)
        world.ready("m-v1-1")
    assert world.replicas() == ["m-v1-1"]


def test_a_replica_that_the_supervisor_has_given_up_blocks_its_version_for_a_while():
    world = live()
    world.died("m-v1-1", 3, phase=ProcessPhase.ENDED)
    world.tick(1)
    assert world.replicas() == []
    assert "keeps ending, most recently with status 3" in world.fleet.snapshot.endpoints[0].versions[0].down
    world.tick(DEATH_WINDOW_S)
    assert world.replicas() == ["m-v1-2"]


def test_a_poisonous_request_is_in_the_next_snapshot_once():
    world = live()
    revision = world.fleet.snapshot.revision
    world.fleet.quarantine("abc")
    world.fleet.quarantine("abc")
    world.tick()
    world.tick()
    assert (world.fleet.snapshot.revision, world.fleet.snapshot.quarantined) == (revision + 1, ("abc",))


def test_nothing_new_means_no_new_snapshot():
    world = live()
    revision = world.fleet.snapshot.revision
    for _ in range(10):
        world.report()
        world.tick(1)
    assert world.fleet.snapshot.revision == revision


# -- paused endpoints ------------------------------------------------------------------------------------------------------


def paused(world: FakeFleet) -> FakeFleet:
    """Pause the model of a world, which gateways follow at once."""
    world.fleet.aim("m", Aim(), {}, world.now, is_paused=True)
    world.tick()
    for holds in world.holds.values():
        holds.clear()
    world.report()
    world.tick()
    world.tick()
    return world


def test_a_paused_endpoint_lets_everything_go_and_remembers_what_it_had():
    world = paused(live())
    assert world.replicas() == []
    version = world.version("1")
    assert (version.phase, version.reason, version.opened) == (Phase.UNLOADED, "unloaded", package())
    [served] = world.fleet.snapshot.endpoints
    assert (served.is_paused, served.routes, [(v.number, v.failure) for v in served.versions]) == (
        True,
        (),
        [("1", "unloaded")],
    )
    assert world.fleet.is_settled()
    assert world.fleet.failures() == []


def test_a_paused_endpoint_keeps_its_replicas_while_a_gateway_holds_them():
    world = live()
    world.fleet.aim("m", Aim(), {}, world.now, is_paused=True)
    world.tick()
    world.report()
    world.tick()
    assert (world.version("1").phase, world.replicas()) == (Phase.RETIRING, ["m-v1-1"])


def test_a_paused_endpoint_comes_back_with_its_next_version():
    world = paused(live())
    assert world.fleet.add(package(), world.now).number == "2"
    world.tick()
    world.ready("m-v2-1")
    world.tick()
    world.follow()
    world.tick()
    world.follow()
    world.tick()
    assert world.served() == {"2": ("/sockets/r2",)}
    assert not world.fleet.snapshot.endpoints[0].is_paused
    assert list(world.fleet.endpoints["m"].versions) == ["2"]


def test_a_paused_endpoint_comes_back_with_the_version_it_had():
    world = paused(live())
    world.fleet.aim("m", Aim((Route(1, 100),), {}, ("1",)), {"1": package()}, world.now)
    world.tick()
    assert world.version("1").phase is Phase.STARTING
    world.ready(*world.replicas())
    world.tick()
    world.follow()
    world.tick()
    assert (world.version("1").phase, list(world.served())) == (Phase.LIVE, ["1"])


def test_a_paused_endpoint_that_cannot_be_loaded_again_has_failed_and_may_be_tried_again():
    world = paused(live())
    world.fleet.add(package(), world.now)
    world.tick()
    world.process("m-v2-1", ProcessPhase.REFUSING, word=FirstWord(failed=Failure("broken")))
    world.tick()
    assert {n: v.phase for n, v in world.fleet.endpoints["m"].versions.items()} == {"2": Phase.FAILED}
    assert not world.fleet.snapshot.endpoints[0].is_paused
    assert world.fleet.add(package(), world.now).number == "3"


def test_a_version_that_was_still_loading_when_its_endpoint_was_paused_is_remembered():
    world = live()
    world.fleet.add(package(), world.now)
    world.tick()
    paused(world)
    assert {n: v.phase for n, v in world.fleet.endpoints["m"].versions.items()} == dict.fromkeys("12", Phase.UNLOADED)
    assert world.replicas() == []


def test_settings_that_gateways_follow_are_in_the_next_snapshot_and_outlive_control():
    world = live()
    world.fleet.settings = settings = SharedSettings({"max_headers": 50}, {"max_in_flight": 9})
    world.tick()
    assert world.fleet.snapshot.settings == settings
    assert taken_over(world).fleet.settings == settings


def test_what_gateways_log_is_in_the_next_snapshot():
    world = live()
    world.fleet.log = LogLevels(info=True)
    world.tick()
    assert world.fleet.snapshot.log == LogLevels(info=True)
    assert taken_over(world).fleet.log == LogLevels(info=True)


# -- a control process that goes on ----------------------------------------------------------------------------------------


def taken_over(world: FakeFleet) -> FakeFleet:
    """Return the world of the next control process, which knows only the snapshot and the supervisor's set."""
    snapshot = msgspec.json.decode(msgspec.json.encode(world.fleet.snapshot), type=Snapshot)
    fleet = Fleet(world.fleet.gateway_specs, Launcher(launch, "/sockets/"))
    opened = world.fleet.endpoints["m"].versions["1"].opened
    endpoints = endpoints_of(snapshot, world.fleet.specs(), lambda endpoint, served: opened, world.now)
    fleet.resume(snapshot, endpoints)
    after = FakeFleet(fleet=fleet)
    after.pids, after.holds, after.now = world.pids, world.holds, world.now
    for name, pid in world.gateways.items():
        after.process(name, ProcessPhase.RUNNING, pid, kind="gateway", word=FirstWord(ready={}))
    return after


def test_another_control_process_wants_exactly_what_is_there():
    world = live(package(min=2, max=2))
    after = taken_over(world)
    after.ready(*after.replicas())
    assert after.fleet.specs() == world.fleet.specs()
    after.tick()
    assert after.fleet.specs() == world.fleet.specs()
    assert after.fleet.snapshot == world.fleet.snapshot
    assert after.fleet.is_started


def test_a_replica_that_is_just_being_restarted_keeps_its_place_in_a_take_over():
    world = live()
    world.died("m-v1-1", -9)
    after = taken_over(world)
    after.died("m-v1-1", -9)
    after.tick()
    assert after.fleet.snapshot == world.fleet.snapshot


def test_a_version_that_was_loading_goes_on_loading_after_a_take_over():
    world = live()
    world.fleet.add(package(), world.now)
    world.tick()
    after = taken_over(world)
    after.ready("m-v1-1")
    after.report()
    after.tick()
    assert after.version("2").phase is Phase.STARTING
    after.ready("m-v2-1")
    after.tick()
    after.follow()
    after.tick()
    after.follow()
    after.tick()
    assert after.served() == {"2": ("/sockets/r2",)}
    assert after.replicas() == ["m-v2-1"]
    assert after.fleet.add(package(), after.now).number == "3"


def test_a_paused_endpoint_stays_paused_in_a_take_over_and_its_numbers_go_on():
    after = taken_over(paused(live()))
    after.tick()
    assert (after.version("1").phase, after.version("1").reason) == (Phase.UNLOADED, "unloaded")
    assert after.fleet.snapshot.endpoints[0].is_paused
    assert after.fleet.add(package(), after.now).number == "2"


def test_an_endpoint_that_was_just_being_paused_is_paused_after_a_take_over():
    world = live()
    world.fleet.aim("m", Aim(), {}, world.now, is_paused=True)
    world.tick()
    after = taken_over(world)
    after.ready("m-v1-1")
    after.report()
    after.tick()
    assert (after.version("1").phase, after.replicas()) == (Phase.RETIRING, ["m-v1-1"])
    paused(after)
    assert (after.version("1").phase, after.replicas()) == (Phase.UNLOADED, [])


@pytest.mark.parametrize("state", [State.READY, State.FAILED])
def test_a_swap_that_was_under_way_ends_well_or_badly_after_a_take_over(state):
    world = live()
    world.fleet.add(package(), world.now)
    world.tick()
    world.ready("m-v2-1")
    world.tick()
    after = taken_over(world)
    after.ready(*after.replicas())
    for pid in after.gateways.values():
        after.holds[pid] = {("m", "1"): State.READY, ("m", "2"): state}
    after.report()
    after.tick()
    after.follow()
    after.tick()
    after.follow()
    after.tick()
    answering = "2" if state is State.READY else "1"
    assert after.replicas() == [f"m-v{answering}-1"]
    assert after.served()[answering]


def test_going_back_in_a_registry_is_not_undone_by_a_take_over():
    """A number says nothing there about what came first."""
    world = FakeFleet()
    world.start_gateways()
    aimed(world, Aim(shares(v8=100), {}, ("8",)))
    settled(world)
    aimed(world, Aim(shares(v7=100), {"champion": "7"}, ("7",)))
    world.ready("m-v7-1")
    world.tick()
    for pid in world.gateways.values():
        world.holds[pid] = {("m", "8"): State.DRAINING, ("m", "7"): State.READY}
    world.report()
    world.tick()
    assert world.version("8").phase is Phase.RETIRING
    fleet = Fleet(world.fleet.gateway_specs, Launcher(launch, "/sockets/"))
    snapshot = world.fleet.snapshot
    fleet.resume(
        snapshot,
        endpoints_of(snapshot, world.fleet.specs(), lambda *_: package(), world.now, is_numbered_here=False),
    )
    after = FakeFleet(fleet=fleet)
    after.start_gateways()
    settled(after)
    assert (endpoint(after).routes, endpoint(after).aliases) == (shares(v7=100), {"champion": "7"})
    assert after.replicas() == ["m-v7-1"]


def test_gateways_that_were_told_more_than_this_control_process_knows_are_told_something_newer():
    """Its last snapshot was lost, and what gateways have is not taken for what it says."""
    world = live()
    world.fleet.snapshot = msgspec.structs.replace(world.fleet.snapshot, revision=1)
    (pid, *_) = world.gateways.values()
    world.fleet.take_report(pid, Report(41), world.now)
    world.tick()
    assert world.fleet.snapshot.revision == 42
    world.tick()
    assert world.fleet.snapshot.revision == 42


# -- open files ------------------------------------------------------------------------------------------------------------


def crowded(replicas: int) -> FakeFleet:
    """Return a server whose limit of open files leaves room for so many replicas, with one gateway."""
    limit = next(n for n in range(64, 4096) if Room(n).replicas == replicas)
    specs = (ProcessSpec("g1", "gateway", ("gateway",)),)
    fleet = Fleet(specs, Launcher(launch, "/sockets/"), is_all_or_nothing=False, room=Room(limit))
    world = FakeFleet(gateways=1, fleet=fleet)
    world.start_gateways()
    return world


def added(world: FakeFleet, name: str, **replicas: int) -> None:
    world.fleet.add(package(name, **replicas), world.now)
    world.tick()
    world.ready(*(n for n in world.replicas() if n.startswith(f"{name}-")))
    world.tick()
    world.follow()
    world.tick()


def test_an_endpoint_that_there_is_no_room_for_is_refused_with_the_reason_and_touches_no_other():
    world = crowded(8)
    for number in range(8):
        added(world, f"m{number}")
    refused = [e for e in world.fleet.endpoints.values() if e.problem]
    # Two places are kept for versions that follow others.
    assert [e.name for e in refused] == ["m6", "m7"]
    assert all("ulimit -n" in e.problem and "enough for 8 replicas" in e.problem for e in refused)
    assert len(world.replicas()) == 6
    assert all(world.served(f"m{number}") for number in range(6))


def test_a_full_server_can_still_be_brought_another_version():
    world = crowded(8)
    for number in range(6):
        added(world, f"m{number}")
    added(world, "m0")
    assert not world.fleet.endpoints["m0"].problem
    assert world.version("2", "m0").phase is Phase.LIVE


def test_an_endpoint_that_there_was_no_room_for_is_tried_again_when_there_is():
    world = crowded(4)
    for number in range(4):
        added(world, f"m{number}")
    assert world.fleet.found_room() == []
    world.fleet.remove("m0", world.now)
    for _ in range(3):
        world.tick()
        world.follow()
    world.tick()
    assert world.fleet.found_room() == ["m3"]
    added(world, "m3")
    assert not world.fleet.endpoints["m3"].problem
    assert world.fleet.found_room() == []


def test_a_version_in_use_gets_no_further_replica_when_there_is_no_room_and_says_so():
    world = crowded(4)
    added(world, "m0", min=1, max=9)
    added(world, "m1")
    added(world, "m2")
    for _ in range(20):
        world.report(loads=(VersionLoad("m0", "1", 50, 9, 50, 5.0),))
        world.tick(5.0)
    assert len(world.replicas()) <= 4
    assert "ulimit -n" in world.version("1", "m0").block
    assert world.served("m0")


def test_a_replica_whose_socket_is_lost_stays_until_another_one_has_taken_its_place():
    world = live(package(min=2))
    first, second = (r.path for r in world.version("1").staying())
    for _ in range(3):
        world.fleet.launcher.replace_unreachable(world.fleet.versions(), lambda path: path != first)
        world.tick(1)
    # One at a time, and the one that is lost serves on.
    assert set(world.served()["1"]) == {first, second}
    [new] = [r for r in world.version("1").staying() if r.replaces]
    world.ready(new.name)
    world.tick()
    assert set(world.served()["1"]) == {second, new.path}


def test_sockets_that_are_there_are_left_alone():
    world = live()
    before = world.replicas()
    world.fleet.launcher.replace_unreachable(world.fleet.versions(), lambda _: True)
    assert world.replicas() == before
