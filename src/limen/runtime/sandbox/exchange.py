"""Queries a possibly hostile child process: its output is bounded in size and time, and it ends afterwards.

One question, then lines or bytes until it ends. What it writes to standard error is read as well, so that it can fill neither a log nor
the memory of whoever asks; the end of it is kept. Blocking; `Stop` ends a wait from another thread.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
from enum import StrEnum
from typing import Final, NamedTuple

from limen.contracts.errors import Cancelled

END_S: Final = 2.0
"""How long a child may take to end those that it has started."""
KEPT_COMPLAINTS: Final = 8 << 10
"""How much is kept of what a child writes to standard error."""
_PIECE: Final = 1 << 16


class Fault(StrEnum):
    """Why a child was not listened to until its end."""

    TOO_LONG = "too long"
    TOO_MUCH = "too much"
    STOPPED = "stopped"


class Heard(NamedTuple):
    """What came of a child."""

    said: bytes
    """Standard output."""
    complaints: bytes
    """The end of standard error."""
    status: int
    """Its exit status; negative when a signal ended it."""
    fault: Fault | None = None


class Stop:
    """Something that ends waits: set once, from any thread."""

    def __init__(self) -> None:
        """Begin unset."""
        self._read, self._write = os.pipe()

    def set(self) -> None:
        """End every wait that heeds it, now and later; idempotent."""
        if self._write >= 0:
            os.close(self._write)
            self._write = -1

    def check(self) -> None:
        """Raise `Cancelled` when it was set."""
        if self._write < 0:
            raise Cancelled

    def close(self) -> None:
        """Give it back; nobody waits any more."""
        self.set()
        if self._read >= 0:
            os.close(self._read)
            self._read = -1

    def fileno(self) -> int:
        """Return a descriptor that becomes readable when it is set."""
        return self._read


def ask(
    process: subprocess.Popen[bytes],
    question: bytes,
    *,
    timeout_s: float,
    max_bytes: int,
    stop: Stop | None = None,
    stays_open: bool = False,
) -> Heard:
    """Write a question to a child, hear it out, and see it gone.

    Args:
        process: its standard streams are pipes.
        question: what it reads first, before it does anything that is not ours.
        timeout_s: how long all of it may take.
        max_bytes: the most that it may say.
        stop: ends it early.
        stays_open: whether its standard input stays open until it has ended.
    """
    said, complaints = bytearray(), bytearray()
    fault: Fault | None
    try:
        with contextlib.suppress(BrokenPipeError):
            _write(process, question, stays_open=stays_open)
        fault = _listen(process, said, complaints, time.monotonic() + timeout_s, max_bytes, stop)
    finally:
        end(process)
    return Heard(bytes(said), bytes(complaints), process.returncode, fault)


def end(process: subprocess.Popen[bytes]) -> None:
    """See a child gone, with whatever it has started."""
    # Asked first: it ends its descendants itself, which a signal from here might not reach.
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(END_S)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


def _write(process: subprocess.Popen[bytes], question: bytes, *, stays_open: bool) -> None:
    if process.stdin is None:
        return
    process.stdin.write(question)
    process.stdin.flush()
    if not stays_open:
        process.stdin.close()


def _listen(
    process: subprocess.Popen[bytes],
    said: bytearray,
    complaints: bytearray,
    until: float,
    max_bytes: int,
    stop: Stop | None,
) -> Fault | None:
    with selectors.DefaultSelector() as selector:
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                selector.register(pipe, selectors.EVENT_READ)
        if stop is not None:
            selector.register(stop, selectors.EVENT_READ)
        # Standard output says when it has ended: something that it started may hold the other one open.
        while process.stdout is not None:
            ready = selector.select(max(0.0, until - time.monotonic()))
            if not ready or time.monotonic() > until:
                return Fault.TOO_LONG
            for key, _ in ready:
                if key.fileobj is stop:
                    return Fault.STOPPED
                piece = os.read(key.fd, _PIECE)
                if not piece:
                    selector.unregister(key.fileobj)
                    if key.fileobj is process.stdout:
                        return _ended(process, until)
                elif key.fileobj is process.stdout:
                    said += piece
                    if len(said) > max_bytes:
                        return Fault.TOO_MUCH
                else:
                    complaints += piece
                    del complaints[:-KEPT_COMPLAINTS]
    return None


def _ended(process: subprocess.Popen[bytes], until: float) -> Fault | None:
    try:
        process.wait(max(0.0, until - time.monotonic()))
    except subprocess.TimeoutExpired:
        return Fault.TOO_LONG
    return None
