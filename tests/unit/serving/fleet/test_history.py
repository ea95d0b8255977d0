"""What the log tells of versions: when they load, go live, fail, are rolled back or let go, by whom and why."""

import msgspec
import pytest

from limen.contracts.endpoint import Route
from limen.serving.fleet.history import Cause, History
from limen.serving.fleet.records import Aim
from limen.serving.messages.lines import Failure, FirstWord, ProcessPhase
from limen.telemetry.logs import FIELDS
from limen.testing.fleet import FakeFleet
from tests.unit.serving.fleet.test_fleet import package


class Told:
    """A fleet whose history is written."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level("INFO", logger="limen.events")
        self.caplog = caplog
        self.world = FakeFleet(is_all_or_nothing=False)
        self.cause = Cause("ann", "the alias champion names version 1")
        self.history = History(self.world.fleet, lambda _: self.cause)
        self.world.start_gateways()

    def want(self, number: str, by: str) -> None:
        self.cause = Cause(by, f"the alias champion names version {number}")
        opened = {number: msgspec.structs.replace(package(), digest=number)}
        self.world.fleet.aim("m", Aim((Route(int(number), 100),), {}, (number,)), opened, self.world.now)
        self.step()

    def step(self) -> None:
        for _ in range(3):
            self.world.tick(1)
            self.history.look(self.world.now)
            self.world.follow()

    def events(self) -> list[tuple[str, str, str, str]]:
        found = [getattr(r, FIELDS) for r in self.caplog.records if r.name == "limen.events"]
        self.caplog.clear()
        return [(f["event"], f["version"], f["actor"], f["cause"]) for f in found]


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Told:
    return Told(caplog)


def test_a_version_is_followed_from_its_loading_to_its_end(told: Told):
    told.want("1", "ann")
    told.world.ready("m-v1-1")
    told.step()
    why = "the alias champion names version 1"
    assert told.events() == [("loading", "1", "ann", why), ("live", "1", "ann", why)]
    told.want("2", "ben")
    told.world.ready("m-v2-1")
    told.step()
    told.step()
    why = "the alias champion names version 2"
    assert told.events() == [
        ("loading", "2", "ben", why),
        ("live", "2", "ben", why),
        ("unloaded", "1", "ben", why),
    ]


def test_what_fails_is_told_with_its_reason_and_the_rollback_with_the_server_as_its_actor(told: Told):
    told.want("1", "ann")
    told.world.ready("m-v1-1")
    told.step()
    told.want("2", "ben")
    told.events()
    told.world.process("m-v2-1", ProcessPhase.REFUSING, word=FirstWord(failed=Failure("the file is damaged")))
    told.step()
    lines = [r.getMessage() for r in told.caplog.records]
    assert lines == [
        "m: version 2 failed: the file is damaged (by ben: the alias champion names version 2)",
        "m: rolled back to version 1 (by limen: version 2 failed)",
    ]
    assert [(e[0], e[2]) for e in told.events()] == [("failed", "ben"), ("rolled_back", "limen")]


def test_a_new_control_process_does_not_tell_again_what_was_there(told: Told):
    told.want("1", "ann")
    told.world.ready("m-v1-1")
    told.step()
    told.events()
    told.history = History(told.world.fleet, lambda _: told.cause)
    told.history.resume(told.world.now)
    told.step()
    assert told.events() == []
