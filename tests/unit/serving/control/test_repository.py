"""The management extensions inside control: the index over what the fleet knows, and what is done at a caller's word."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from limen.contracts.errors import ErrorCode, InvalidPackage, Unavailable
from limen.contracts.oip.repository_index import IndexEntry, IndexState
from limen.contracts.serving import Serving
from limen.contracts.snapshot import LogLevels
from limen.runtime.versions.lifecycle import State, VersionStatus
from limen.serving.control.repository import ModelRepository
from limen.serving.fleet.fleet import Fleet
from limen.serving.fleet.launching import Launcher
from limen.serving.fleet.records import Aim, Endpoint, Gateway, Opened, Phase, Version
from limen.serving.messages.lines import (
    AskIndex,
    AskLoad,
    AskLog,
    AskUnload,
    Denied,
    Done,
    Failure,
    Index,
    Logging,
    ModelSummary,
    ProcessPhase,
    Refused,
    Reloaded,
    Report,
)

OPENED = Opened("m", "/packages/m", "d", "./m", Serving(), ModelSummary("m", "onnx", 1, 1))


class Source:
    """Does what the test says, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.outcome: Reloaded | Refused = Reloaded("m", "2", "1", 0.1)
        self.error: InvalidPackage | Unavailable | None = None

    async def load(self, _: object, name: str) -> Reloaded | Refused:
        self.asked.append(f"load {name}")
        return self.outcome

    async def unload(self, _: object, name: str) -> None:
        self.asked.append(f"unload {name}")
        if self.error is not None:
            raise self.error

    def problem_of(self, name: str) -> str:
        return f"the package of {name} cannot be had" if name == "unhad" else ""


class World:
    """A fleet with one endpoint `m`, and a gateway that follows or does not."""

    def __init__(self) -> None:
        self.fleet = Fleet((), Launcher(cast("Any", None), "/sockets/"), is_all_or_nothing=False)
        self.fleet.endpoints["m"] = Endpoint("m")
        self.source = Source()
        self.now = 100.0
        control = SimpleNamespace(
            fleet=self.fleet,
            source=self.source,
            now=self.clock,
            tick=self.fleet.tick,
            config=SimpleNamespace(run="/srv/home/run/7"),
        )
        self.repository = ModelRepository(cast("Any", control))

    def clock(self) -> float:
        self.now += 0.5
        return self.now

    def version(self, number: str, phase: Phase, **facts: Any) -> None:
        self.fleet.endpoints["m"].versions[number] = Version(number, OPENED, self.now, phase, **facts)


async def test_the_index_tells_how_every_version_is():
    world = World()
    world.version("1", Phase.RETIRING)
    world.version("2", Phase.LIVE)
    world.version("3", Phase.OFFERED)
    world.version("4", Phase.STARTING)
    world.version("5", Phase.FAILED, reason="broken")
    world.version("6", Phase.UNLOADED, reason="unloaded")
    statuses = (VersionStatus("m", "2", State.READY), VersionStatus("m", "3", State.WARMING))
    world.fleet.gateways[1] = Gateway("g", 1, ProcessPhase.RUNNING, is_linked=True, report=Report(1, statuses))
    states = {"1": IndexState.UNLOADING, "2": IndexState.READY, "3": IndexState.LOADING, "4": IndexState.LOADING}
    assert await world.repository.answer(AskIndex()) == Index(
        (
            *(IndexEntry("m", number, state) for number, state in states.items()),
            IndexEntry("m", "5", IndexState.UNAVAILABLE, "broken"),
            IndexEntry("m", "6", IndexState.UNAVAILABLE, "unloaded"),
        )
    )


async def test_an_endpoint_without_a_version_is_in_the_index_with_its_reason():
    world = World()
    for name, facts in {"unhad": {}, "wrong": {"problem": "no"}, "paused": {"is_paused": True}, "new": {}}.items():
        world.fleet.endpoints[name] = Endpoint(name, **facts)  # type: ignore[arg-type]  as the record has them
    del world.fleet.endpoints["m"]
    assert [(e.name, e.version, e.state.value, e.reason) for e in world.repository.index()] == [
        ("unhad", "", "UNAVAILABLE", "the package of unhad cannot be had"),
        ("wrong", "", "UNAVAILABLE", "no"),
        ("paused", "", "UNAVAILABLE", "unloaded"),
        ("new", "", "UNAVAILABLE", "no version has been loaded yet"),
    ]


async def test_what_is_asked_for_is_done():
    world = World()
    assert await world.repository.answer(AskLoad("m")) == Done()
    assert await world.repository.answer(AskUnload("m")) == Done()
    assert world.source.asked == ["load m", "unload m"]


@pytest.mark.parametrize("asked", [AskLoad("nothing"), AskUnload("nothing"), AskLoad("leaving"), AskUnload("leaving")])
async def test_what_is_not_there_or_on_its_way_out_is_not_found(asked):
    world = World()
    world.fleet.endpoints["leaving"] = Endpoint("leaving", is_removed=True)
    answer = await world.repository.answer(asked)
    assert isinstance(answer, Denied)
    assert (answer.code, world.source.asked) == (ErrorCode.NOT_FOUND, [])


@pytest.mark.parametrize(
    ("outcome", "message", "reason"),
    [
        (Refused(Failure("the package is unsafe", "UNSAFE_FORMAT")), "the package is unsafe", "UNSAFE_FORMAT"),
        (Refused(Failure("there is nothing to load")), "there is nothing to load", "INVALID_PACKAGE"),
        (Refused(Failure("./m: no model.yaml")), "no model.yaml", "INVALID_PACKAGE"),
        (
            Refused(Failure("./m: cannot copy the package to /srv/home/run/7/packages: no room")),
            "the package cannot be read; `limen status` shows why",
            "INVALID_PACKAGE",
        ),
        (Reloaded("m", "2", "1", 0.1, "a wrong answer"), "version 2: a wrong answer", "INVALID_PACKAGE"),
    ],
)
async def test_a_load_that_fails_says_why(outcome, message, reason):
    world = World()
    world.version("1", Phase.LIVE)
    world.source.outcome = outcome
    answer = await world.repository.answer(AskLoad("m"))
    assert answer == Denied(ErrorCode.FAILED_PRECONDITION, Failure(message, reason))


async def test_an_unload_that_cannot_be_remembered_is_refused():
    world = World()
    world.source.error = Unavailable("the registry cannot be reached")
    answer = await world.repository.answer(AskUnload("m"))
    assert answer == Denied(ErrorCode.UNAVAILABLE, Failure("the registry cannot be reached", "NOT_READY"))


async def test_what_is_logged_is_changed_in_part_and_published():
    world = World()
    assert await world.repository.answer(AskLog()) == Logging(LogLevels())
    assert await world.repository.answer(AskLog(info=True)) == Logging(LogLevels(info=True))
    assert await world.repository.answer(AskLog(error=False)) == Logging(LogLevels(info=True, error=False))
    assert world.fleet.snapshot.log == LogLevels(info=True, error=False)


async def test_a_gateway_that_does_not_follow_does_not_hold_up_who_asks():
    world = World()
    world.fleet.gateways[1] = Gateway("g", 1, ProcessPhase.RUNNING, is_linked=True, report=Report(0))
    assert await world.repository.answer(AskLog(info=True)) == Logging(LogLevels(info=True))


async def test_a_paused_endpoint_does_not_forget_what_it_had():
    world = World()
    world.fleet.add(OPENED, world.now)
    world.fleet.aim("m", Aim(), {}, world.now, is_paused=True)
    world.fleet.tick(world.now)
    assert [(e.version, e.reason) for e in world.repository.index()] == [("1", "unloaded")]
