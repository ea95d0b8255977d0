"""A log that does not repeat itself."""

from __future__ import annotations

import logging

from limen.telemetry.repeats import EVENTS, LINES_PER_PLACE, MAX_REMEMBERED, WINDOW_S, Repeats


class Log:
    """A logger whose lines are kept, and a clock that is set."""

    def __init__(self) -> None:
        self.now = 0.0
        self.lines: list[str] = []
        self.filter = Repeats(lambda: self.now)

    def say(self, text: str, *args: object, level: int = logging.WARNING, line: int = 1, exc: object = None) -> None:
        record = logging.LogRecord("limen.test", level, "place.py", line, text, args, exc)  # type: ignore[arg-type]
        if self.filter.filter(record):
            self.lines.append(record.getMessage())


def test_a_line_is_written_once_a_minute_however_often_it_is_said():
    log = Log()
    for _ in range(10_000):
        log.say("no room for %s", "a caller")
    log.now = WINDOW_S - 0.001
    log.say("no room for %s", "a caller")
    assert log.lines == ["no room for a caller"]


def test_the_next_line_tells_how_many_were_left_out():
    log = Log()
    for _ in range(5):
        log.say("no room")
    log.now = WINDOW_S
    log.say("no room")
    log.now = 2 * WINDOW_S
    log.say("no room")
    assert log.lines == ["no room", "no room (repeated 4× before)", "no room"]


def test_lines_that_differ_are_all_written():
    log = Log()
    log.say("%s is loaded", "a")
    log.say("%s is loaded", "b")
    log.say("%s is loaded", "a", level=logging.ERROR)
    log.say("%s is loaded", "a", exc=(ValueError, ValueError("x"), None))
    assert len(log.lines) == 4


def test_one_place_cannot_fill_the_log_with_lines_that_differ_in_a_number():
    log = Log()
    for number in range(1000):
        log.say("request %d failed", number)
    log.say("something else", line=2)
    assert len(log.lines) == LINES_PER_PLACE + 1
    log.now = WINDOW_S
    log.say("request %d failed", 1000)
    assert log.lines[-1] == f"request 1000 failed (and {1000 - LINES_PER_PLACE} similar lines before)"


def test_what_is_remembered_is_bounded():
    log = Log()
    for number in range(3 * MAX_REMEMBERED):
        log.say("line %d", number, line=number)
    assert len(log.lines) == 3 * MAX_REMEMBERED
    assert len(log.filter._seen) <= MAX_REMEMBERED + 1


def test_text_with_a_percent_sign_is_written_as_it_is():
    log = Log()
    for _ in range(2):
        log.say("at 90 %% of %s", "its memory")
    log.now = WINDOW_S
    log.say("at 90 %% of %s", "its memory")
    assert log.lines[-1] == "at 90 % of its memory (repeated 1× before)"


def test_events_are_never_left_out():
    repeats = Repeats(lambda: 0.0)
    event = logging.getLogger(EVENTS).makeRecord(EVENTS, logging.INFO, __file__, 1, "m: version 1 is live", (), None)
    assert all(repeats.filter(event) for _ in range(100))
