"""Versions whose replicas cannot be started: when they are down, what gateways are told, and what is done about it."""

import asyncio
from itertools import pairwise

import pytest

from limen.contracts.errors import Unavailable
from limen.serving.control.mending import MAX_PAUSE_S, PAUSE_S, Mending
from limen.serving.fleet.launching import AT_ONCE, TURN_S, Launcher
from limen.serving.fleet.records import Phase, Version
from limen.serving.fleet.takeover import endpoints_of
from limen.serving.messages.lines import Failure, FirstWord, ProcessPhase
from limen.testing.fleet import FakeFleet, launch
from tests.unit.serving.fleet.test_fleet import live, package

LOST = "model.yaml: no such file in the folder"


def refuses(world: FakeFleet, name: str) -> None:
    """Have a replica say that it cannot be ready, and end."""
    word = FirstWord(failed=Failure(LOST))
    world.process(name, ProcessPhase.REFUSING, word=word)
    world.process(name, ProcessPhase.PAUSED, word=word, status=1)
    world.tick()


def told(world: FakeFleet) -> str:
    """Return why gateways refuse version 1."""
    [version] = world.fleet.snapshot.endpoints[0].versions
    assert not version.failure
    return version.down


def test_a_version_is_down_at_the_first_failed_start_of_its_last_replica_and_up_with_the_next_one():
    world = live()
    world.died("m-v1-1", 1)
    world.process("m-v1-1", ProcessPhase.STARTING)
    world.tick()
    assert told(world) == ""
    refuses(world, "m-v1-1")
    assert told(world) == LOST
    # The next attempt has not come to anything yet.
    world.process("m-v1-1", ProcessPhase.STARTING)
    world.tick()
    assert (told(world), world.version("1").is_returning) == (LOST, True)
    world.ready("m-v1-1")
    world.tick()
    assert told(world) == ""


def test_a_process_that_ends_without_a_word_before_it_is_ready_has_failed_to_start():
    world = live()
    world.process("m-v1-1", ProcessPhase.STARTING)
    world.died("m-v1-1", -11)
    world.tick()
    assert told(world) == "the model's process ended while it was loading (status -11)"


def test_one_that_somebody_kills_while_it_starts_has_not_failed():
    world = live()
    world.process("m-v1-1", ProcessPhase.STARTING)
    world.died("m-v1-1", -9)
    world.tick()
    assert told(world) == ""


def test_while_another_replica_runs_or_may_soon_the_version_is_not_down():
    world = live(package(min=2, max=2))
    world.ready("m-v1-2")
    refuses(world, "m-v1-1")
    assert told(world) == ""
    world.died("m-v1-2", -9)
    world.tick()
    assert told(world) == ""
    refuses(world, "m-v1-2")
    assert told(world) == LOST


def test_an_offer_whose_last_replica_cannot_be_started_again_fails_at_once_and_what_was_good_stays():
    world = live()
    world.fleet.add(package(), world.now)
    world.tick()
    world.ready("m-v2-1")
    world.tick()
    assert world.version("2").phase is Phase.OFFERED
    world.died("m-v2-1", 1)
    refuses(world, "m-v2-1")
    assert (world.version("2").phase, world.version("2").reason) == (Phase.FAILED, LOST)
    assert world.fleet.endpoints["m"].good is not None
    assert world.fleet.endpoints["m"].good.versions == ("1",)


def test_the_next_control_process_knows_what_was_down():
    world = live()
    refuses(world, "m-v1-1")
    specs = [s for s in world.fleet.specs() if s.kind == "replica"]
    [endpoint] = endpoints_of(world.fleet.snapshot, specs, lambda *_: package(), 50.0).values()
    assert (endpoint.versions["1"].down, endpoint.versions["1"].block) == (LOST, "")
    [endpoint] = endpoints_of(world.fleet.snapshot, [], lambda *_: package(), 50.0).values()
    assert endpoint.versions["1"].down == LOST


def test_a_restart_is_a_new_process_and_the_version_stays_down_until_that_is_ready():
    world = live()
    refuses(world, "m-v1-1")
    world.fleet.launcher.restart(world.version("1"))
    # Once is enough.
    world.fleet.launcher.restart(world.version("1"))
    world.tick()
    assert (world.replicas(), told(world)) == (["m-v1-2"], LOST)
    world.ready("m-v1-2")
    world.tick()
    assert told(world) == ""


# -- what is done about it -------------------------------------------------------------------------------------------------


class Source:
    """Packages that a test loses and finds."""

    def __init__(self) -> None:
        self.outcome: bool | Exception = False
        self.asked = 0

    async def mend(self, version: Version) -> bool:
        self.asked += 1
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


@pytest.fixture
def down() -> Version:
    version = Version("1", package(), 0.0, Phase.LIVE)
    Launcher(launch, "/s/").start(version).failed = LOST
    return version


async def look(mending: Mending, version: Version, now: float) -> None:
    mending.look([version], now)
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def test_a_lost_package_is_asked_for_at_once_and_its_replicas_are_started(down, caplog):
    source, restarted = Source(), list[Version]()
    source.outcome = True
    mending = Mending(source.mend, restarted.append)
    await look(mending, down, 0.0)
    assert restarted == [down]
    assert f"m version 1 is down and its callers are refused: {LOST}" in caplog.text
    caplog.clear()
    down.replicas["m-v1-1"].failed = ""
    await look(mending, down, 3.0)
    assert "m version 1 is no longer down, after 3.0 s" in caplog.text


async def test_while_it_cannot_be_had_it_is_asked_for_again_after_growing_pauses_and_said_once(down, caplog):
    source = Source()
    source.outcome = Unavailable("the blob store has lost the package")
    mending = Mending(source.mend, lambda _: None)
    asked_at = []
    for now in range(1000):
        before = source.asked
        await look(mending, down, float(now))
        asked_at += [now] * (source.asked - before)
    pauses = [b - a for a, b in pairwise(asked_at)]
    assert pauses[:3] == [PAUSE_S, 2 * PAUSE_S, 4 * PAUSE_S]
    assert max(pauses) == MAX_PAUSE_S
    assert down.down == f"{LOST}; its package cannot be restored: the blob store has lost the package"
    assert caplog.text.count("is down") == 2
    down.replicas["m-v1-1"].failed = ""
    await look(mending, down, 1001.0)
    assert down.lost == ""


# -- many at once ----------------------------------------------------------------------------------------------------------


def test_what_is_new_is_started_a_few_at_a_time_and_what_is_served_changes_at_once():
    world = live()
    names = [f"n{number}" for number in range(3 * AT_ONCE)]
    for name in names:
        world.fleet.add(package(name), world.now)
    world.tick()
    assert [n for n in world.replicas() if n != "m-v1-1"] == [f"{name}-v1-1" for name in names[:AT_ONCE]]
    world.fleet.add(package(), world.now)
    world.tick(1)
    assert "m-v2-1" in world.replicas()
    world.ready(f"{names[0]}-v1-1", "m-v2-1")
    world.tick()
    world.tick()
    assert f"{names[AT_ONCE]}-v1-1" in world.replicas()
    # Those that take long do not keep the others away.
    for _ in range(3):
        world.tick(TURN_S)
    assert len(world.replicas()) == 2 + len(names)
