"""The request log: one JSON line per answered request, written off the request's path.

By default only failures are logged. A line never holds inputs, outputs, header values or raw paths: only ids, names that exist,
codes and times.
"""

from __future__ import annotations

import sys
import time
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
    """Collects lines and writes them in one go."""

    MAX_BUFFERED = 1000

    def __init__(self, stream: IO[str] | None = None, *, successes: bool = False) -> None:
        """Write to a text stream (standard error by default); `successes` logs every request and not only failures."""
        self._stream = stream or sys.stderr
        self._encode = msgspec.json.Encoder().encode
        self._lines: list[bytes] = []
        self.successes = successes

    def add(self, line: RequestLine) -> None:
        """Take one line; it is written at the next flush."""
        self._lines.append(self._encode(line))
        if len(self._lines) >= self.MAX_BUFFERED:
            self.flush()

    def flush(self) -> None:
        """Write what has been collected."""
        if self._lines:
            lines, self._lines = self._lines, []
            try:
                self._stream.write(b"\n".join(lines).decode() + "\n")
                self._stream.flush()
            except (OSError, ValueError):
                # A closed or full log must not take the service down.
                return


def now() -> float:
    """Return the wall-clock time of a log line."""
    return round(time.time(), 3)
