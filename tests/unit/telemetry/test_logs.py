"""The request log: nothing it writes to may hold up or end the server."""

import io
import logging
import os
import threading

import pytest

from limen.contracts.snapshot import LogLevels
from limen.telemetry.logs import (
    ABOUT_A_PACKAGE,
    MAX_CAUSES,
    LineLog,
    LineWriter,
    PlainFormatter,
    RequestLine,
    RequestLog,
)


@pytest.fixture(autouse=True)
def _json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMEN_LOG_FORMAT", "json")


def line(request_id: str) -> RequestLine:
    return RequestLine(1.0, request_id, "http", 400)


def test_lines_are_written_in_order_when_flushed():
    stream = io.StringIO()
    log = RequestLog(stream)
    for i in range(3):
        log.add(line(f"r{i}"))
    log.close()
    assert [text.split('"request_id":"')[1][:2] for text in stream.getvalue().splitlines()] == ["r0", "r1", "r2"]


@pytest.mark.parametrize(
    ("levels", "kept"),
    [
        (LogLevels(), [400, 499, 500, 503]),
        (LogLevels(warning=False), [500, 503]),
        (LogLevels(error=False), [400, 499]),
        (LogLevels(warning=False, error=False), []),
    ],
)
def test_the_callers_mistakes_and_our_own_are_switched_off_apart(levels, kept):
    stream = io.StringIO()
    log = RequestLog(stream, successes=True)
    log.set_levels(levels)
    assert log.successes is levels.info is False
    for status in (400, 499, 500, 503):
        log.add(RequestLine(1.0, "r", "http", status))
    log.close()
    assert [int(text.split('"status":')[1][:3]) for text in stream.getvalue().splitlines()] == kept


def test_a_pipe_that_nobody_reads_costs_lines_and_not_time():
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as stream:
        log = RequestLog(stream)
        for i in range(100_000):
            log.add(line(f"request-{i}"))
        log.close(timeout_s=0.01)
        assert log.dropped > 0
        # Let the writer's thread end its write, so that the stream can be closed.
        threading.Thread(target=_drain, args=(reader,), daemon=True).start()
        log.close(timeout_s=30)


def _drain(reader: int) -> None:
    while os.read(reader, 1 << 20):
        pass
    os.close(reader)


def test_a_closed_stream_is_no_error():
    stream = io.StringIO()
    stream.close()
    log = RequestLog(stream)
    log.add(line("r"))
    log.close()
    assert log.dropped == 0


def test_the_library_of_logging_waits_for_nobody_either():
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as stream:
        written = LineWriter(stream)
        logger = logging.getLogger("limen.test.pipe")
        logger.propagate = False
        logger.addHandler(LineLog(written))
        for i in range(20_000):
            logger.warning("a line that nobody reads, number %d, with something behind it to fill the pipe sooner", i)
        assert not written.offer("no room\n")
        threading.Thread(target=_drain, args=(reader,), daemon=True).start()
        written.close(timeout_s=30)


def formatted(exc: BaseException, **options: object) -> str:
    """Return what a log line says of an exception."""
    extra = options.pop("extra", None)
    record = logging.getLogger("limen.model").makeRecord(
        "limen.model", logging.WARNING, __file__, 1, "it failed", (), (type(exc), exc, exc.__traceback__), extra=extra
    )
    return PlainFormatter(**options).format(record)


def failure(cause: str = "4711 is no amount") -> Exception:
    try:
        try:
            raise KeyError("4711")
        except KeyError as exc:
            raise ValueError(cause) from exc
    except ValueError as exc:
        return exc


def test_the_text_of_an_exception_stays_out_of_the_log_and_where_it_came_from_is_there():
    told = formatted(failure())
    assert "4711" not in told.replace('KeyError("4711")', "")
    assert "ValueError" in told
    assert "KeyError\nwhich led to\n" in told
    assert "raise ValueError(cause) from exc" in told


def test_the_text_is_shown_about_a_package_to_its_author_and_to_whoever_debugs(monkeypatch):
    for options in ({"extra": ABOUT_A_PACKAGE}, {"shows_text": True}):
        assert "ValueError: 4711 is no amount" in formatted(failure(), **options)
    monkeypatch.setenv("LIMEN_DEBUG", "1")
    assert "ValueError: 4711 is no amount" in formatted(failure())


def test_an_exception_that_caused_itself_ends():
    exc = failure()
    exc.__cause__.__cause__ = exc
    assert formatted(exc).count("which led to") <= MAX_CAUSES


def test_nothing_in_a_log_acts_on_a_terminal():
    assert "\x1b" not in formatted(failure("\x1b[2J"), shows_text=True)
