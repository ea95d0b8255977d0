"""The request log: one JSON line per answered request, written off the request's path.

By default only failures are logged. A line never holds inputs, outputs, header values or raw paths: only ids, names that exist,
codes and times.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import sys
import time
import traceback
from collections.abc import Iterator
from queue import SimpleQueue
from threading import Event, Thread
from typing import IO, Any, Final

import msgspec

from limen.contracts.printable import printable
from limen.contracts.snapshot import LogLevels
from limen.telemetry.repeats import Repeats


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
    ms: float = 0.0
    """Milliseconds from the decoded request to the answer."""
    cause: str = ""
    """Type of the unexpected exception behind an INTERNAL error; its text may hold data and is not kept."""


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
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._shows_text = shows_text or bool(os.environ.get("LIMEN_DEBUG"))

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the name is the library's
        """Return where an exception came from and what it is, with those that caused it."""
        return "\n".join(_traces(ei[1]))

    def format(self, record: logging.LogRecord) -> str:
        """Return one record."""
        if record.exc_info and (self._shows_text or getattr(record, SHOWS_TEXT, False)):
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
    """Send warnings and worse to standard error, one line each and none twice a minute, without ever waiting for whoever reads it.

    Args:
        shows_text: whether the text of exceptions is shown, as `PlainFormatter` takes it.
    """
    writer = LineWriter()
    atexit.register(writer.close)
    handler = LineLog(writer)
    handler.setFormatter(PlainFormatter(shows_text=shows_text))
    handler.addFilter(Repeats())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])


class RequestLog:
    """Collects lines and has them written in one go."""

    MAX_BUFFERED = 1000

    def __init__(self, stream: IO[str] | None = None, *, successes: bool = False) -> None:
        """Write to a text stream (standard error by default); `successes` logs every request and not only failures."""
        self._encode = msgspec.json.Encoder().encode
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
        if line.status >= 400 and not (self._failures if line.status >= 500 else self._refusals):
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


def now() -> float:
    """Return the wall-clock time of a log line."""
    return round(time.time(), 3)
