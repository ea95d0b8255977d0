"""When a process that speaks every second is taken for hung."""

from typing import Any, cast

import pytest

from limen.serving.messages.lines import ProcessPhase, ProcessSpec, ProcessState
from limen.serving.supervision import pulse
from limen.serving.supervision.child import Keeper
from limen.serving.supervision.pulse import FIRST_CPU_S, FIRST_SILENCE_S, STARVED_S, STOPPED_S, STUCK_CPU_S, Pulse


class Watched:
    """A gateway whose beats, state and CPU a test sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.keeper = Keeper(ProcessSpec("g", "gateway", (), silence_s=6.0), lambda _: None)
        self.keeper.beats = 1
        self.become(ProcessPhase.RUNNING)
        self.effort: tuple[str, float] | None = ("S", 1.0)
        self.pulse = Pulse()
        monkeypatch.setattr(pulse, "effort_of", lambda pid: self.effort)
        self.looks(1)

    def become(self, phase: ProcessPhase, pid: int = 7) -> None:
        self.keeper.state = ProcessState("g", "gateway", phase, pid)

    def looks(self, seconds: float) -> bool:
        """Return whether it is taken for hung within so many looks, one a second."""
        return any(self.pulse.look([self.keeper]) for _ in range(int(seconds)))


@pytest.fixture
def watched(monkeypatch):
    return Watched(monkeypatch)


@pytest.mark.parametrize("effort", [("S", 1.0), ("T", 1.0), ("D", 1.0), ("R", 1.0 + STUCK_CPU_S), None])
def test_one_that_waits_is_stopped_or_is_stuck_hangs_when_its_silence_is_too_long(watched, effort):
    watched.effort = effort
    assert not watched.looks(5)
    assert watched.looks(1)


def test_one_that_speaks_in_time_goes_on(watched):
    for _ in range(20):
        assert not watched.looks(5)
        watched.keeper.beats += 1


def test_one_that_the_machine_gives_no_time_to_is_slow_and_does_not_hang(watched):
    watched.effort = ("R", 1.5)
    assert not watched.looks(STARVED_S - 1)
    assert watched.looks(1)


def test_one_that_is_stopped_before_it_has_spoken_hangs_at_once(watched):
    watched.keeper.beats = 0
    watched.become(ProcessPhase.STARTING, pid=8)
    watched.looks(1)
    watched.effort = ("T", 1.0)
    assert not watched.looks(STOPPED_S - 1)
    assert watched.looks(1)


def test_one_that_starts_on_a_slow_machine_may_take_the_processor_time_that_it_needs(watched):
    watched.keeper.beats = 0
    watched.become(ProcessPhase.STARTING, pid=8)
    watched.looks(1)
    watched.effort = ("R", FIRST_CPU_S)
    assert not watched.looks(2 * FIRST_SILENCE_S)
    watched.effort = ("R", 1.0 + FIRST_CPU_S)
    assert watched.looks(1)


def test_one_that_has_not_spoken_yet_may_import_for_longer(watched):
    watched.keeper.beats = 0
    watched.become(ProcessPhase.STARTING, pid=8)
    assert not watched.looks(FIRST_SILENCE_S)
    assert watched.looks(1)


def test_its_successor_begins_anew(watched):
    assert watched.looks(6)
    watched.become(ProcessPhase.RUNNING, pid=8)
    assert not watched.looks(6)


@pytest.mark.parametrize("phase", [ProcessPhase.STOPPING, ProcessPhase.PAUSED, ProcessPhase.REFUSING])
def test_one_that_is_ending_is_passed_over(watched, phase):
    watched.become(phase)
    assert not watched.looks(2 * FIRST_SILENCE_S)


def test_one_that_never_speaks_is_passed_over(watched):
    watched.keeper.spec = cast("Any", ProcessSpec("r", "replica", ()))
    assert not watched.looks(2 * FIRST_SILENCE_S)
