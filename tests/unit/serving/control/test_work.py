"""What control does again and again takes work that grows with the number of endpoints, and not with its square."""

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from limen.contracts.endpoint import Route
from limen.runtime.versions.lifecycle import VersionLoad
from limen.serving.control.conditions import Conditions
from limen.serving.control.config import ControlConfig
from limen.serving.control.metrics_text import readings
from limen.serving.control.status import status_of
from limen.serving.control.traffic import Traffic
from limen.serving.fleet.records import Aim
from limen.serving.messages.lines import ProcessPhase, ProcessState, Status
from limen.telemetry.metrics.exposition import exposition
from limen.telemetry.metrics.series import Metrics
from limen.telemetry.metrics.statistics import model_statistics
from limen.telemetry.metrics.totals import Totals, read_folder
from limen.testing.fleet import FakeFleet
from tests.unit.serving.control.test_conditions import Source
from tests.unit.serving.fleet.test_fleet import package

FEW = 6
CONFIG = ControlConfig(run="/run", watch=False, http="", grpc="", metrics="", server_pid=1, started_at=0.0)


class Server:
    """A fleet with so many live endpoints, and what was counted of them."""

    def __init__(self, endpoints: int, folder: Path) -> None:
        self.world = FakeFleet(is_all_or_nothing=False)
        self.world.start_gateways()
        for name, pid in self.world.gateways.items():
            self.world.process(name, ProcessPhase.RUNNING, pid, kind="gateway")
        names = [f"m{i}" for i in range(endpoints)]
        for name in names:
            self.world.fleet.aim(name, Aim((Route(1, 100),), {}, ("1",)), {"1": package(name)}, self.world.now)
        while any(e.good is None for e in self.world.fleet.endpoints.values()):
            self.world.tick(1)
            self.world.ready(*self.world.replicas())
            self.world.tick(1)
            self.world.follow()
            self.world.tick(1)
        self.loads = [VersionLoad(name, "1", 0, 1, 0, 0.0) for name in names]
        self.world.report(loads=self.loads)
        self.conditions = Conditions(self.world.fleet, Source(), folder / "conditions", lambda: datetime.now(UTC))
        metrics = Metrics(folder / "g.metrics")
        for name in names:
            metrics.series(name, "1", "rest").answered(0.001, 1)
        self.totals = read_folder(folder)
        self.traffic = Traffic()
        self.traffic.note(Totals(), 0.0)
        self.states = [
            ProcessState(name, "replica", ProcessPhase.RUNNING, pid) for name, pid in self.world.pids.items()
        ]

    def status(self) -> Status:
        self.conditions.look(self.world.now)
        traffic = self.traffic.views(self.totals, self.world.now)
        return status_of(CONFIG, self.world.fleet, self.conditions, self.states, traffic, 0.0, self.world.now)

    def metrics(self) -> bytes:
        return exposition(self.totals, list(readings(self.status())))

    def tick(self) -> None:
        self.world.report(loads=self.loads)
        self.world.tick(0.1)

    def statistics(self) -> object:
        return model_statistics(self.totals, [(name, "1") for name in self.world.fleet.endpoints])


def steps(work: Callable[[], object]) -> int:
    """Return how many steps of the interpreter some work takes."""
    count = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("work", ["status", "metrics", "tick", "statistics"])
def test_work_grows_with_the_number_of_endpoints_and_not_with_its_square(work: str, tmp_path: Path):
    found = []
    for times in (1, 2, 3):
        folder = tmp_path / str(times)
        folder.mkdir()
        server = Server(FEW * times, folder)
        getattr(server, work)()  # what is computed once is
        found.append(steps(getattr(server, work)))
    one, two, three = found
    # Each further dozen costs what the one before did; a square would show as twice its own part.
    assert abs((three - two) - (two - one)) <= 0.02 * (two - one) + 50, found
