"""What is so of a server and its endpoints: derived from what processes and gateways say, with a reason and since when."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from limen.contracts.conditions import Condition, ConditionReason, ConditionStatus, ConditionType, find
from limen.contracts.endpoint import EndpointStatus, Route
from limen.runtime.versions.lifecycle import State
from limen.serving.control.condition_rules import SILENCE_S
from limen.serving.control.conditions import Conditions
from limen.serving.control.status import endpoint_status
from limen.serving.fleet.open_files import Room
from limen.serving.fleet.records import Aim
from limen.serving.fleet.replication import RECYCLE_PAUSE_S
from limen.serving.messages.lines import Failure, FirstWord, ProcessPhase
from limen.testing.fleet import FakeFleet
from tests.unit.serving.fleet.test_fleet import package

BEGUN = datetime(2026, 1, 1, tzinfo=UTC)
READY, STALE = ConditionType.READY, ConditionType.STALE
PROGRESSING, DEGRADED = ConditionType.PROGRESSING, ConditionType.DEGRADED


class Source:
    """A source that can always be followed, unless a test says otherwise."""

    problem = ""

    def __init__(self) -> None:
        self.problems: dict[str, str] = {}

    def problem_of(self, name: str) -> str:
        return self.problems.get(name, "")


class Watched:
    """A fleet of two gateways, and the conditions of its endpoint m."""

    def __init__(self, file: Path) -> None:
        self.world = FakeFleet(is_all_or_nothing=False)
        self.source = Source()
        self.file = file
        self.begin()

    def begin(self) -> None:
        """Be a new control process."""
        self.conditions = Conditions(self.world.fleet, self.source, self.file, self._time)

    def _time(self) -> datetime:
        return BEGUN + timedelta(seconds=self.world.now)

    def look(self) -> dict[ConditionType, Condition]:
        self.conditions.look(self.world.now)
        return {c.type: c for c in self.conditions.endpoints["m"]}

    def server(self) -> dict[ConditionType, Condition]:
        self.conditions.look(self.world.now)
        return {c.type: c for c in self.conditions.server}

    def aim(self, *numbers: str) -> None:
        aim = Aim((Route(int(numbers[-1]), 100),), {}, numbers)
        opened = {n: msgspec.structs.replace(package(), digest=n) for n in numbers}
        self.world.fleet.aim("m", aim, opened, self.world.now)
        self.world.tick(1)

    def open_gateways(self) -> None:
        for name, pid in self.world.gateways.items():
            self.world.process(name, ProcessPhase.RUNNING, pid, kind="gateway")
        self.world.tick(1)

    def settle(self, *replicas: str) -> None:
        """Have replicas load, and gateways follow."""
        self.world.ready(*replicas)
        self.world.tick(1)
        self.world.follow()
        self.world.tick(1)


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path / "conditions.json")


@pytest.fixture
def live(watched: Watched) -> Watched:
    """Version 1 of m answers."""
    watched.world.start_gateways()
    watched.aim("1")
    watched.settle("m-v1-1")
    watched.open_gateways()
    return watched


def said(found: dict[ConditionType, Condition]) -> dict[str, tuple[str, str]]:
    return {kind.value: (c.status.value, c.reason.value) for kind, c in found.items()}


QUIET = {
    "Ready": ("True", "Answers"),
    "Stale": ("False", "SourceFollowed"),
    "Progressing": ("False", "Settled"),
    "Degraded": ("False", "AsSpecified"),
}


def test_an_endpoint_that_answers_is_ready_and_nothing_else(live: Watched):
    assert said(live.look()) == QUIET
    assert live.look()[READY].message == "version 1 answers"
    assert said(live.server()) == QUIET


def test_while_the_first_version_loads_the_endpoint_is_on_its_way_and_not_broken(watched: Watched):
    watched.world.start_gateways()
    watched.aim("1")
    found = watched.look()
    assert said(found) == QUIET | {"Ready": ("False", "Loading"), "Progressing": ("True", "Loading")}
    assert found[READY].message == "version 1 is being loaded"
    assert said(watched.server())["Ready"] == ("False", "NoGateway")


def test_while_the_next_version_loads_the_one_before_answers(live: Watched):
    live.aim("2")
    assert said(live.look()) == QUIET | {"Progressing": ("True", "Loading")}
    live.world.ready("m-v2-1")
    live.world.tick(1)
    assert said(live.look()) == QUIET | {"Progressing": ("True", "Loading")}
    live.world.follow()
    live.world.tick(1)
    assert said(live.look()) == QUIET
    assert live.look()[READY].message == "version 2 answers"


def test_a_version_that_fails_leaves_the_endpoint_ready_and_degraded(live: Watched):
    live.aim("2")
    live.world.process("m-v2-1", ProcessPhase.REFUSING, word=FirstWord(failed=Failure("the file is damaged")))
    live.world.tick(1)
    live.world.tick(1)
    live.world.follow()
    live.world.tick(1)
    found = live.look()
    assert said(found) == QUIET | {"Degraded": ("True", "VersionFailed")}
    assert found[DEGRADED].message == "version 2: the file is damaged"
    server = live.server()
    assert said(server) == QUIET | {"Degraded": ("True", "EndpointsDegraded")}
    assert server[DEGRADED].message == "degraded: m"


def test_an_endpoint_without_any_version_that_works_is_not_ready_and_says_why(watched: Watched):
    watched.world.start_gateways()
    watched.aim("1")
    watched.world.process("m-v1-1", ProcessPhase.REFUSING, word=FirstWord(failed=Failure("the file is damaged")))
    for _ in range(3):
        watched.world.tick(1)
        watched.world.follow()
    watched.open_gateways()
    found = watched.look()
    assert said(found)["Ready"] == ("False", "VersionFailed")
    assert found[READY].message == "version 1: the file is damaged"


def test_a_package_that_cannot_be_had_is_the_reason(watched: Watched):
    watched.world.start_gateways()
    watched.world.fleet.aim("m", Aim(), {}, watched.world.now)
    watched.source.problems["m"] = "version 1: the blob store has lost the package"
    watched.world.tick(1)
    watched.world.follow()
    watched.world.tick(1)
    found = said(watched.look())
    assert (found["Ready"], found["Degraded"]) == (("False", "PackageUnavailable"), ("True", "PackageUnavailable"))


def test_no_room_for_a_replica_is_the_reason(watched: Watched):
    watched.world.fleet.room = Room(40)
    watched.world.start_gateways()
    watched.aim("1")
    for _ in range(3):
        watched.world.tick(1)
        watched.world.follow()
    found = watched.look()
    assert (said(found)["Ready"], said(found)["Degraded"]) == (("False", "NoRoom"), ("True", "NoRoom"))
    assert "ulimit -n" in found[READY].message


def test_one_gateway_that_cannot_answer_makes_the_endpoint_not_ready(live: Watched):
    pid = live.world.gateways["g2"]
    live.world.holds[pid] = {("m", "1"): State.FAILED}
    live.world.report()
    found = live.look()
    assert said(found)["Ready"] == ("False", "VersionNotReady")
    assert found[READY].message == "g2 cannot answer with version 1: wrong"
    assert live.server()[READY].message == "not ready: m"


def test_a_memory_limit_that_is_too_low_for_the_model_is_told_until_a_replica_fits(watched: Watched):
    watched.open_gateways()
    limited = msgspec.structs.replace(package(memory_mb=100), digest="1")
    watched.world.fleet.aim("m", Aim((Route(1, 100),), {}, ("1",)), {"1": limited}, watched.world.now)
    watched.world.tick(1)
    watched.settle("m-v1-1")
    watched.world.fleet.measure(lambda pid, limit: 1.3, 1.0)
    watched.world.tick(RECYCLE_PAUSE_S)
    failure = FirstWord(failed=Failure("the model needs more memory to load than its limit"))
    watched.world.process("m-v1-2", ProcessPhase.REFUSING, word=failure)
    watched.world.tick(1)
    found = watched.look()
    assert (said(found)["Ready"], said(found)["Degraded"]) == (("True", "Answers"), ("True", "MemoryLimit"))
    assert found[DEGRADED].message.endswith(
        "none can start in its place: the model needs more memory to load than its limit"
    )
    watched.world.fleet.measure(lambda pid, limit: 0.2, 1.0)
    watched.world.tick(RECYCLE_PAUSE_S)
    assert said(watched.look())["Degraded"] == ("False", "AsSpecified")


def test_a_replica_that_has_died_degrades_the_endpoint_until_it_is_back(live: Watched):
    live.world.died("m-v1-1", -9)
    found = live.look()
    assert said(found)["Degraded"] == ("True", "ReplicasMissing")
    assert found[DEGRADED].message == "version 1: m-v1-1 ended with status -9, and is not back yet"
    live.world.ready("m-v1-1")
    assert said(live.look()) == QUIET


def test_gateways_that_are_gone_or_silent_degrade_the_server(live: Watched):
    live.world.process("g2", ProcessPhase.PAUSED, live.world.gateways["g2"], kind="gateway", status=-9)
    server = live.server()
    assert (said(server)["Ready"], server[DEGRADED].message) == (("True", "Answers"), "g2 is not running")
    live.world.process("g2", ProcessPhase.RUNNING, 1900, kind="gateway")
    live.world.holds[1900] = {("m", "1"): State.READY}
    live.world.report(1900)
    assert said(live.server()) == QUIET
    live.world.now += SILENCE_S + 1
    live.world.report(live.world.gateways["g1"])
    assert live.server()[DEGRADED].message == f"g2 did not report for more than {SILENCE_S:g} s"


def test_a_server_that_is_being_stopped_is_not_degraded(live: Watched, caplog: pytest.LogCaptureFixture):
    live.look()
    for name, pid in live.world.gateways.items():
        live.world.process(name, ProcessPhase.STOPPING, pid, kind="gateway")
        assert said(live.server()) == QUIET
        live.world.process(name, ProcessPhase.ENDED, pid, kind="gateway", status=0)
        assert said(live.server()) == QUIET
    assert not caplog.records


def test_a_gateway_that_is_replaced_in_a_roll_is_not_missing(live: Watched):
    live.world.process("g2", ProcessPhase.RUNNING, 1900, kind="gateway")
    live.world.holds[1900] = {("m", "1"): State.READY}
    live.world.report(1900)
    live.world.process("g2", ProcessPhase.STOPPING, live.world.gateways["g2"], kind="gateway")
    assert said(live.server()) == QUIET
    live.world.process("g2", ProcessPhase.ENDED, live.world.gateways["g2"], kind="gateway", status=0)
    assert said(live.server()) == QUIET


def test_without_an_open_gateway_nothing_is_ready(live: Watched):
    for name, pid in live.world.gateways.items():
        live.world.process(name, ProcessPhase.PAUSED, pid, kind="gateway", status=-9)
    assert said(live.look())["Ready"] == said(live.server())["Ready"] == ("False", "NoGateway")


def test_a_registry_that_cannot_be_followed_makes_everything_stale(live: Watched):
    live.source.problem = "the registry cannot be reached"
    assert said(live.look()) == QUIET | {"Stale": ("True", "RegistryUnavailable")}
    assert said(live.server()) == QUIET | {"Stale": ("True", "RegistryUnavailable")}


def test_a_paused_endpoint_is_not_ready_and_keeps_nothing_else_from_being_so(live: Watched):
    live.world.fleet.aim("m", Aim(), {}, live.world.now, is_paused=True)
    for _ in range(3):
        live.world.tick(1)
        live.world.follow()
    assert said(live.look()) == QUIET | {"Ready": ("False", "Paused"), "Degraded": ("False", "Paused")}
    assert said(live.server()) == QUIET


def test_a_fault_of_the_server_is_its_own_condition(live: Watched):
    live.conditions.faults[ConditionReason.REPLICAS_MISSING] = "the disk is full"
    assert live.server()[DEGRADED].message == "the disk is full"
    live.conditions.faults.clear()
    assert said(live.server()) == QUIET


def test_since_is_when_the_status_became_so_and_outlives_control(live: Watched):
    since = live.look()[READY].since
    live.world.now += 50
    assert live.look()[READY].since == since
    live.begin()
    live.conditions.resume()
    for gateway in live.world.fleet.gateways.values():
        gateway.report = None
    found = live.look()[READY]
    assert (found.status, found.reason) == (ConditionStatus.UNKNOWN, ConditionReason.NOT_REPORTED)
    live.world.report()
    assert live.look()[READY].since == since
    live.source.problem = "away"
    assert live.look()[STALE].since == BEGUN + timedelta(seconds=live.world.now)


def test_what_cannot_be_kept_or_read_only_loses_the_times(live: Watched):
    live.file.write_text("not json")
    live.begin()
    live.conditions.resume()
    assert live.look()[READY].since == BEGUN + timedelta(seconds=live.world.now)
    live.file = live.file / "no" / "folder"
    live.begin()
    assert said(live.look()) == QUIET


def test_a_change_of_status_is_logged_once(live: Watched, caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO")
    live.look()
    live.source.problem = "away"
    live.look()
    live.look()
    assert [r.getMessage() for r in caplog.records if "endpoint m" in r.getMessage()] == [
        "endpoint m: Stale is True after 0 s (RegistryUnavailable): serving the last known state: away"
    ]


def test_a_status_says_in_short_what_its_conditions_say(live: Watched):
    def status() -> EndpointStatus:
        live.look()
        return endpoint_status(live.world.fleet.endpoints["m"], live.conditions.endpoints["m"], 3)

    found = status()
    assert (found.is_ready, found.is_settled, found.problem, found.is_stale) == (True, True, "", False)
    live.source.problems["m"] = "there is no version 9"
    assert (status().is_ready, status().problem) == (True, "there is no version 9")
    live.aim("2")
    assert not status().is_settled
    assert find(status().conditions, PROGRESSING) == live.look()[PROGRESSING]
    nothing = endpoint_status(None, (), 3)
    assert (nothing.is_ready, nothing.is_settled, nothing.conditions) == (False, False, ())
