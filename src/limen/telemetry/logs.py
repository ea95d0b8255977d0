"""The request log: one JSON line per answered request, written off the request's path.

By default only failures are logged. A line never holds inputs, outputs, header values or raw paths: only ids, names that exist,
codes and times.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import sys
import time
from queue import SimpleQueue
from threading import Event, Thread
from typing import IO

import msgspec

from limen.contracts.snapshot import LogLevels


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


def log_to_stderr() -> None:
    """Send warnings and worse to standard error, one line each, without ever waiting for whoever reads it."""
    writer = LineWriter()
    atexit.register(writer.close)
    logging.basicConfig(
        level=logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        handlers=[LineLog(writer)],
    )


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
