"""The request log: one JSON line per answered request, written off the request's path.

By default only failures are logged. A line never holds inputs, outputs, header values or raw paths: only ids, names that exist,
codes and times.
"""

from __future__ import annotations

import contextlib
import sys
import time
from queue import SimpleQueue
from threading import Event, Thread
from typing import IO

import msgspec


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


class RequestLog:
    """Collects lines and has them written by a thread: a pipe that nobody reads must not hold up a server."""

    MAX_BUFFERED = 1000
    MAX_WAITING = 64
    """Pieces that may wait for a slow stream; what comes on top is dropped and counted."""

    def __init__(self, stream: IO[str] | None = None, *, successes: bool = False) -> None:
        """Write to a text stream (standard error by default); `successes` logs every request and not only failures."""
        self._stream = stream or sys.stderr
        self._encode = msgspec.json.Encoder().encode
        self._lines: list[bytes] = []
        self._pieces: SimpleQueue[list[bytes] | Event] = SimpleQueue()
        self._writer: Thread | None = None
        self.successes = successes
        self.dropped = 0
        """Lines that were not written because the stream did not take them in time."""

    def add(self, line: RequestLine) -> None:
        """Take one line; it is written after the next flush."""
        self._lines.append(self._encode(line))
        if len(self._lines) >= self.MAX_BUFFERED:
            self.flush()

    def flush(self) -> None:
        """Hand what has been collected to the writer, without waiting for it."""
        if not self._lines:
            return
        lines, self._lines = self._lines, []
        if self._pieces.qsize() >= self.MAX_WAITING:
            self.dropped += len(lines)
            return
        if self._writer is None:
            self._writer = Thread(target=self._write, name="limen-log", daemon=True)
            self._writer.start()
        self._pieces.put(lines)

    def close(self, timeout_s: float = 1.0) -> None:
        """Flush, and wait that long until everything is written."""
        self.flush()
        if self._writer is not None:
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
                self._stream.write(b"\n".join(piece).decode() + "\n")
                self._stream.flush()


def now() -> float:
    """Return the wall-clock time of a log line."""
    return round(time.time(), 3)
