"""Entry point of the disposable process that tests a package."""

from __future__ import annotations

import asyncio
import os
import signal

import msgspec

from limen.contracts.contract import Json
from limen.publishing.probe import Order, Said
from limen.publishing.trial import try_out
from limen.runtime.sandbox.parent import die_with, read_line, take_streams
from limen.runtime.sandbox.room import enter
from limen.telemetry.logs import log_to_stderr


def main() -> None:
    """Try a package out: `Order` comes on standard input, and what happened goes to standard output."""
    # A Ctrl-C on the terminal is for the parent, which ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    log_to_stderr()
    parent, voice = take_streams()
    order = msgspec.json.decode(read_line(parent), type=Order)
    inputs = msgspec.json.decode(_read(parent, order.inputs_bytes), type=list[dict[str, Json]])
    held = enter(order.room)
    die_with(parent)

    def say(word: Said) -> None:
        left = msgspec.json.encode(word) + b"\n"
        while left:
            left = left[os.write(voice, left) :]

    asyncio.run(try_out(order, held, inputs, say))
    # The model's own clean-up is nobody's loss.
    os._exit(0)


def _read(descriptor: int, count: int) -> bytes:
    data = bytearray()
    while len(data) < count and (piece := os.read(descriptor, count - len(data))):
        data += piece
    return bytes(data)
