"""Logs: the logging library's lines and one line per answered request, written off the request path.

All lines of all processes of a server have one form, text or JSON, which the `[log]` settings choose; a process learns it from its
environment, so that its very first line has it. By default only requests that fail are logged. A line about a request never holds inputs,
outputs, header values or raw paths: only ids, names that exist, codes and times.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from threading import Event, Thread
from typing import IO, Any, Final

import msgspec

from limen.contracts.snapshot import LogLevels
from limen.contracts.strict.printable import printable
from limen.telemetry.form import LEVEL_VARIABLE, is_json, process_name
from limen.telemetry.repeats import Repeats

ACCESS: Final = "limen.access"
"""What the lines about requests are named in place of a logger."""
FIELDS: Final = "limen_fields"
"""The attribute of a record that holds what JSON shows as keys of their own."""


class RequestLine(msgspec.Struct, omit_defaults=True):
    """One answered request."""

    ts: float
    """Seconds since the epoch."""
    request_id: str
    protocol: str
    """http or grpc."""
    status: int
    """HTTP status, or gRPC status number."""
    route: str = ""
    """Path template or method."""
    model: str = ""
    version: str = ""
    code: str = ""
    """Catalogue reason of an error."""
    outcome: str = ""
    """Who has to act on an error, as `contracts.outcomes` says."""
    ms: float = 0.0
    """Milliseconds from the request, when it was there, to the answer."""
    cause: str = ""
    """Type of the unexpected exception behind an INTERNAL error; its text may hold data and is not kept."""

    @property
    def level(self) -> int:
        """How serious it is: answered, refused through a fault of the caller, or failed."""
        if self.protocol == "grpc":
            return logging.INFO if not self.status else logging.WARNING if self.status in _REFUSALS else logging.ERROR
        return logging.INFO if self.status < 400 else logging.WARNING if self.status < 500 else logging.ERROR


_REFUSALS: Final = frozenset({1, 3, 5, 6, 7, 8, 9, 10, 11, 12, 16})
"""The gRPC statuses that stand for 4xx."""


class LineWriter:
    """Has lines written by a thread: a pipe that nobody reads must not hold up a server."""

    MAX_WAITING = 64
    """Pieces that may wait for a slow stream; what comes on top is dropped."""

    def __init__(self, stream: IO[str] | None = None) -> None:
        """Write to a text stream, standard error by default."""
        self._stream = stream or sys.stderr
        self._pieces: SimpleQueue[str | Event] = SimpleQueue()
        self._thread: Thread | None = None

    def offer(self, text: str) -> bool:
        """Have whole lines written soon, without waiting; return False when there is no room for them."""
        if self._pieces.qsize() >= self.MAX_WAITING:
            return False
        if self._thread is None:
            self._thread = Thread(target=self._write, name="limen-log", daemon=True)
            self._thread.start()
        self._pieces.put(text)
        return True

    def close(self, timeout_s: float = 1.0) -> None:
        """Wait that long until everything is written."""
        if self._thread is not None:
            written = Event()
            self._pieces.put(written)
            written.wait(timeout_s)

    def _write(self) -> None:
        while True:
            piece = self._pieces.get()
            if isinstance(piece, Event):
                piece.set()
                continue
            # A closed or full log must not take the service down.
            with contextlib.suppress(OSError, ValueError):
                self._stream.write(piece)
                self._stream.flush()


class LineLog(logging.Handler):
    """Writes the records of the logging library without ever waiting for whoever reads them."""

    def __init__(self, writer: LineWriter) -> None:
        """Hand every record to a writer."""
        super().__init__()
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record; it is dropped when nobody reads."""
        try:
            self._writer.offer(self.format(record) + "\n")
        except Exception:  # noqa: BLE001  what cannot be formatted must not break what was to be told
            self.handleError(record)


class PlainFormatter(logging.Formatter):
    """Records for a log that others read: no text of an exception, which may hold a caller's values, and nothing that acts on a terminal.

    An exception is shown as its type and the lines of code it passed. With `LIMEN_DEBUG` in the environment its text is shown, too.
    A record with `ABOUT_A_PACKAGE` is about loading one and not about a request: there the text is the package's own.
    """

    def __init__(self, *, shows_text: bool = False) -> None:
        """Show the text of every exception, if told so: for a log that only the author of a package reads."""
        process = process_name().replace("%", "%%")
        super().__init__(f"%(asctime)s %(levelname)s {process + ' ' if process else ''}%(name)s: %(message)s")
        self.shows_text = shows_text or bool(os.environ.get("LIMEN_DEBUG"))

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the name is the library's
        """Return where an exception came from and what it is, with those that caused it."""
        return "\n".join(_traces(ei[1]))

    def format(self, record: logging.LogRecord) -> str:
        """Return one record."""
        if record.exc_info and (self.shows_text or getattr(record, SHOWS_TEXT, False)):
            # What the library keeps is taken before it asks `formatException`.
            record.exc_text = super().formatException(record.exc_info)
        return printable(super().format(record))


MAX_CAUSES: Final = 10
"""How many exceptions that caused each other are shown."""
SHOWS_TEXT: Final = "limen_shows_text"
ABOUT_A_PACKAGE: Final = {SHOWS_TEXT: True}
"""The `extra` of a record about loading a package: the text of its exception is for the author, and no request is in it."""


def _traces(exc: BaseException | None, depth: int = 0) -> Iterator[str]:
    if exc is None or depth >= MAX_CAUSES:
        return
    cause = exc.__cause__ or (None if exc.__suppress_context__ else exc.__context__)
    if cause is not None:
        yield from _traces(cause, depth + 1)
        yield "which led to"
    yield "".join(traceback.format_tb(exc.__traceback__)).rstrip("\n")
    yield f"{type(exc).__module__}.{type(exc).__qualname__}".removeprefix("builtins.")


def log_to_stderr(*, shows_text: bool = False) -> None:
    """Send what is logged to standard error, one line each and none twice a minute, without ever waiting for whoever reads it.

    Of libraries these are warnings and worse, of Limen what the `[log]` settings say. Exceptions that nothing catches are logged, too.

    Args:
        shows_text: whether the text of exceptions is shown, as `PlainFormatter` takes it.
    """
    writer = LineWriter()
    _writers[:] = [writer]
    atexit.register(writer.close)
    handler = LineLog(writer)
    kind = JsonFormatter if is_json() else PlainFormatter
    handler.setFormatter(kind(shows_text=shows_text))
    handler.addFilter(Repeats())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("limen").setLevel(os.environ.get(LEVEL_VARIABLE, "warning").upper())
    _tell_uncaught()


class JsonFormatter(PlainFormatter):
    """Records as JSON objects, one on a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one record."""
        found: dict[str, Any] = {
            "ts": round(record.created, 3),
            "level": record.levelname,
            "process": process_name(),
            "pid": os.getpid(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, FIELDS, {}),
        }
        if record.exc_info:
            shows = self.shows_text or getattr(record, SHOWS_TEXT, False)
            found["exception"] = (
                logging.Formatter.formatException(self, record.exc_info)
                if shows
                else self.formatException(record.exc_info)
            )
        return msgspec.json.encode(found, enc_hook=str).decode()


_writers: list[LineWriter] = []
"""What the log of this process is written with, once there is one."""


def pass_on(line: str) -> None:
    """Write a line of another process as it is; it is lost when nobody takes the lines in time."""
    for writer in _writers:
        writer.offer(line + "\n")


def wrapped_line(process: str, pid: int, text: str) -> str:
    """Return a line that something else than this log has written, in the form of this log; JSON that is one of ours stays."""
    if not is_json() or text.startswith('{"ts":'):
        return text
    head = {"ts": now(), "level": "WARNING", "process": process, "pid": pid, "logger": "stderr", "message": text}
    return msgspec.json.encode(head).decode()


def _tell_uncaught() -> None:
    """Have exceptions that nothing catches, and warnings of Python, logged like everything else."""
    log = logging.getLogger("limen.process")

    def uncaught(kind: type[BaseException], exc: BaseException, trace: Any) -> None:
        if issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, exc, trace)
            return
        log.critical("the process is ending: uncaught exception", exc_info=(kind, exc, trace))

    def uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None and not issubclass(args.exc_type, SystemExit):
            name = args.thread.name if args.thread is not None else "?"
            told = (args.exc_type, args.exc_value, args.exc_traceback)
            log.critical("the thread %s is ending: uncaught exception", name, exc_info=told)

    def unraisable(args: Any) -> None:
        if args.exc_value is not None:
            told = (args.exc_type, args.exc_value, args.exc_traceback)
            log.error("ignored an exception: %s", args.err_msg or "in a finaliser", exc_info=told)

    sys.excepthook, threading.excepthook, sys.unraisablehook = uncaught, uncaught_in_thread, unraisable
    logging.captureWarnings(capture=True)


class RequestLog:
    """Collects lines and has them written in one go."""

    MAX_BUFFERED = 1000

    def __init__(self, stream: IO[str] | None = None, *, successes: bool = False) -> None:
        """Write to a text stream (standard error by default); `successes` logs every request and not only failures."""
        self._encode = _as_json() if is_json() else _as_text
        self._lines: list[bytes] = []
        self._writer = LineWriter(stream)
        self.successes = successes
        self._refusals = self._failures = True
        self.dropped = 0
        """Lines that were not written because the stream did not take them in time."""

    def set_levels(self, levels: LogLevels) -> None:
        """Say which requests are logged from now on."""
        self.successes, self._refusals, self._failures = levels.info, levels.warning, levels.error

    def add(self, line: RequestLine) -> None:
        """Take one line; it is written after the next flush, unless such lines are not wanted."""
        level = line.level
        if level > logging.INFO and not (self._failures if level == logging.ERROR else self._refusals):
            return
        self._lines.append(self._encode(line))
        if len(self._lines) >= self.MAX_BUFFERED:
            self.flush()

    def flush(self) -> None:
        """Hand what has been collected to the writer, without waiting for it."""
        if self._lines:
            lines, self._lines = self._lines, []
            if not self._writer.offer(b"\n".join(lines).decode() + "\n"):
                self.dropped += len(lines)

    def close(self, timeout_s: float = 1.0) -> None:
        """Flush, and wait that long until everything is written."""
        self.flush()
        self._writer.close(timeout_s)


def _as_json() -> Callable[[RequestLine], bytes]:
    """Return what encodes lines; all begin with what every line of this process begins with."""
    encode = msgspec.json.Encoder().encode
    names = {level: logging.getLevelName(level) for level in (logging.INFO, logging.WARNING, logging.ERROR)}
    rest = f',"process":"{process_name()}","pid":{os.getpid()},"logger":"{ACCESS}",'

    def encoded(line: RequestLine) -> bytes:
        ts, _, fields = encode(line).partition(b",")
        return b'%s,"level":"%s"%s%s' % (ts, names[line.level].encode(), rest.encode(), fields)

    return encoded


def _as_text(line: RequestLine) -> bytes:
    parts = [f"{line.protocol} {line.status} {line.route}".rstrip()]
    shown = (
        *(("model", line.model), ("version", line.version), ("code", line.code)),
        *(("outcome", line.outcome), ("cause", line.cause)),
    )
    parts += [f"{name}={value}" for name, value in shown if value]
    if line.ms:
        parts.append(f"ms={line.ms:g}")
    whole = int(line.ts)
    moment = f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(whole))},{int((line.ts - whole) * 1000):03d}"
    process = f"{process_name()} ".lstrip()
    level = logging.getLevelName(line.level)
    return printable(f"{moment} {level} {process}{ACCESS}: {' '.join(parts)} id={line.request_id}").encode()


def now() -> float:
    """Return the wall-clock time of a log line."""
    return round(time.time(), 3)
