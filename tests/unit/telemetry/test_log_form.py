"""One form for all lines: text for people, or JSON objects with nothing between them."""

import asyncio
import io
import logging
import subprocess
import sys
import threading

import msgspec
import pytest

from limen.serving.supervision.relay import relay
from limen.telemetry import logs
from limen.telemetry.config import LogConfig
from limen.telemetry.form import choose
from limen.telemetry.logs import (
    FIELDS,
    JsonFormatter,
    LineWriter,
    PlainFormatter,
    RequestLine,
    RequestLog,
    wrapped_line,
)


@pytest.fixture(params=["text", "json"])
def form(request, monkeypatch) -> str:
    monkeypatch.setenv("LIMEN_LOG_FORMAT", request.param)
    monkeypatch.setenv("LIMEN_PROCESS", "gateway-1")
    return request.param


def request_line(protocol: str, status: int, **more: object) -> RequestLine:
    return RequestLine(1.5, "r-1", protocol, status, "/v2/models/{m}/infer", "credit", "3", ms=1.25, **more)


def written(line: RequestLine) -> str:
    stream = io.StringIO()
    log = RequestLog(stream, successes=True)
    log.add(line)
    log.close()
    return stream.getvalue()


def record(level: int = logging.WARNING, **more: object) -> logging.LogRecord:
    return logging.getLogger("limen.test").makeRecord(
        "limen.test", level, __file__, 1, "%s fell", ("it",), None, **more
    )


def test_a_request_has_version_and_duration_in_either_form(form):
    text = written(request_line("grpc", 0))
    if form == "json":
        found = msgspec.json.decode(text)
        assert list(found)[:6] == ["ts", "level", "process", "pid", "logger", "request_id"]
        assert (found["level"], found["process"], found["logger"]) == ("INFO", "gateway-1", "limen.access")
        assert (found["protocol"], found["status"], found["version"], found["ms"]) == ("grpc", 0, "3", 1.25)
    else:
        said = "INFO gateway-1 limen.access: grpc 0 /v2/models/{m}/infer model=credit version=3 ms=1.25 id=r-1\n"
        assert text.endswith(said)
        assert "," in text.partition(" INFO")[0]


@pytest.mark.parametrize(
    ("protocol", "status", "level"),
    [("http", 200, 20), ("http", 499, 30), ("http", 503, 40), ("grpc", 0, 20), ("grpc", 3, 30), ("grpc", 14, 40)],
)
def test_the_level_of_a_request_says_whose_fault_it_was(protocol, status, level):
    assert request_line(protocol, status).level == level


def test_a_record_is_one_object_with_its_fields_and_its_exception(monkeypatch):
    monkeypatch.setenv("LIMEN_PROCESS", "control")
    try:
        raise ValueError("4711 is a caller's")
    except ValueError as exc:
        told = record(extra={FIELDS: {"event": "failed", "version": "4"}})
        told.exc_info = (type(exc), exc, exc.__traceback__)
    text = JsonFormatter().format(told)
    assert "\n" not in text
    found = msgspec.json.decode(text)
    assert (found["message"], found["process"], found["event"], found["version"]) == (
        "it fell",
        "control",
        "failed",
        "4",
    )
    assert "ValueError" in found["exception"]
    assert "4711" not in found["exception"].replace('raise ValueError("4711', "")


def test_text_names_the_process_where_there_are_several(monkeypatch):
    monkeypatch.setenv("LIMEN_PROCESS", "gateway-2")
    assert PlainFormatter().format(record()).endswith(" WARNING gateway-2 limen.test: it fell")
    monkeypatch.delenv("LIMEN_PROCESS")
    assert PlainFormatter().format(record()).endswith(" WARNING limen.test: it fell")


def test_what_something_else_writes_becomes_a_line_and_our_own_lines_stay(form):
    assert msgspec.json.decode(wrapped_line("r", 7, "boom"))["message"] == "boom" if form == "json" else True
    ours = '{"ts":1.5,"level":"INFO"}'
    assert wrapped_line("r", 7, ours) == ours
    if form == "text":
        assert wrapped_line("r", 7, "boom") == "boom"


async def test_the_standard_error_of_a_process_is_passed_on_line_by_line(monkeypatch):
    monkeypatch.setenv("LIMEN_LOG_FORMAT", "json")
    stream = io.StringIO()
    writer = LineWriter(stream)
    monkeypatch.setattr(logs, "_writers", [writer])
    said = asyncio.StreamReader()
    said.feed_data(b"Fatal Python error: Aborted\n\n" + b'{"ts":1.0,"level":"INFO"}\n' + b"\xff\x1b[2J")
    said.feed_eof()
    await relay("score-v1-1", 4711, said)
    writer.close(timeout_s=30)
    first, second, third = map(msgspec.json.decode, stream.getvalue().splitlines())
    assert (first["process"], first["pid"], first["logger"]) == ("score-v1-1", 4711, "stderr")
    assert (first["message"], second) == ("Fatal Python error: Aborted", {"ts": 1.0, "level": "INFO"})
    assert "\x1b" not in third["message"]


PROGRAM = """
import logging, sys, threading, warnings
from limen.telemetry.logs import log_to_stderr
log_to_stderr()
logging.getLogger("limen.some").info("of ours")
logging.getLogger("library").info("not written")
logging.getLogger("library").warning("of a library")
warnings.warn("of Python")
def fail(): raise KeyError("in a thread")
thread = threading.Thread(target=fail, name="worker"); thread.start(); thread.join()
raise ValueError("at the end")
"""


def test_a_process_writes_nothing_but_objects_whatever_happens_in_it():
    environment = {"LIMEN_LOG_FORMAT": "json", "LIMEN_LOG_LEVEL": "info", "LIMEN_PROCESS": "p", "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False, env=environment
    )
    found = [msgspec.json.decode(line) for line in done.stderr.splitlines()]
    assert [(f["level"], f["logger"]) for f in found] == [
        ("INFO", "limen.some"),
        ("WARNING", "library"),
        ("WARNING", "py.warnings"),
        ("CRITICAL", "limen.process"),
        ("CRITICAL", "limen.process"),
    ]
    assert "thread worker" in found[3]["message"]
    assert "ValueError" in found[4]["exception"]
    assert done.returncode == 1


def test_the_form_is_handed_down(monkeypatch):
    for name in ("LIMEN_LOG_FORMAT", "LIMEN_LOG_LEVEL", "LIMEN_PROCESS"):
        monkeypatch.setenv(name, "")
    choose(LogConfig(format="json", level="error"), "supervisor")
    done = subprocess.run(
        [sys.executable, "-c", "import os; print(os.environ['LIMEN_LOG_FORMAT'], os.environ['LIMEN_LOG_LEVEL'])"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "json error\n"
    assert threading.excepthook is not None
