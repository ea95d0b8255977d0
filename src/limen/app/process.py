"""Set-up shared by all processes of a server: event loop, signals, logging and memory."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from limen.serving.messages.lines import Beat, FirstWord, line

BEAT_S = 1.0
_BEAT = line(Beat())


def run_loop(main: Any) -> None:
    """Run a coroutine on the fastest event loop there is."""
    try:
        import uvloop  # not on every platform
    except ImportError:
        asyncio.run(main)
        return
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main)


def stop_on_signals(stop: Callable[[], None], kill: Callable[[], None]) -> None:
    """Call `stop` at the first SIGINT or SIGTERM; the second one calls `kill` and ends the process on the spot."""
    is_stopping = False

    def stop_or_die(number: int) -> None:
        nonlocal is_stopping
        if is_stopping:
            kill()
            os._exit(128 + number)
        is_stopping = True
        stop()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop_or_die, number)


def end_by(seconds: float) -> None:
    """End this process at the latest then, whatever it waits for: it was told to end, and nobody may be left to kill it."""
    asyncio.get_running_loop().call_later(seconds, os._exit, 1)


def say(data: bytes) -> None:
    """Say a line to the supervisor, which always listens."""
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def say_first(word: FirstWord) -> None:
    """Say the first word of a process."""
    say(line(word))


async def beat() -> None:
    """Tell the supervisor every second that this process's loop turns, without ever waiting for it to hear that, until cancelled."""
    os.set_blocking(sys.stdout.fileno(), False)
    while True:
        with contextlib.suppress(OSError):
            os.write(sys.stdout.fileno(), _BEAT)
        await asyncio.sleep(BEAT_S)


def freeze_garbage() -> None:
    """Keep what is loaded out of every later garbage collection, and collect the rest less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def allowed_hosts(host: str) -> frozenset[str]:
    """Return the names a server on loopback may be addressed by."""
    return frozenset({"localhost", "127.0.0.1", "::1", host.lower()})
