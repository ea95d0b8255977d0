"""Python's own work on one request: how many instructions of the interpreter each function runs.

Unlike a time, a count does not depend on what else the machine does, so it shows what a change to the request's path saves or
costs to the last instruction. What C code does is not in it. `python -m benchmarks profile`.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final

import msgspec

from benchmarks import fraud, servers
from benchmarks.loads import PROTOCOLS, ROWS, loads
from benchmarks.whole import Ask, Served

_PLACES: Final = ("site-packages/", "src/", f"{servers.ROOT}/")


class Counted(msgspec.Struct, frozen=True):
    """The work of one call."""

    instructions: Counter[CodeType]
    """Instructions by the code that they belong to."""
    calls: Counter[CodeType]
    """How often that code was entered."""

    @property
    def total(self) -> int:
        """All instructions."""
        return self.instructions.total()


def main(arguments: Sequence[str]) -> int:
    """Print the instructions of every kind of request, or the functions of one."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks profile", description=__doc__)
    names = [f"{protocol}-{rows}" for protocol in PROTOCOLS for rows in ROWS]
    parser.add_argument("load", nargs="?", choices=names, help="show the functions of this one")
    asyncio.run(_profile(parser.parse_args(arguments).load))
    return 0


async def _profile(name: str | None) -> None:
    home = servers.ROOT / ".limen" / "bench"
    home.mkdir(parents=True, exist_ok=True)
    model = fraud.prepare(home)
    served = await Served.start(model)
    print(f"{'Python instructions':<20}{'Limen':>8}{'calls':>7}{'bare':>8}{'calls':>7}")
    for load in loads(model):
        if name not in (None, load.name):
            continue
        limen, bare = await _counted(served.limen(load)), await _counted(served.bare(load))
        print(f"{load.name:<20}" + "".join(f"{found.total:>8}{found.calls.total():>7}" for found in (limen, bare)))
        if name is not None:
            for code, number in limen.instructions.most_common():
                print(f"{number:>28}{limen.calls[code]:>7}  {_place(code.co_filename)}: {code.co_qualname}")
    await served.stop()


async def _counted(ask: Ask) -> Counted:
    # Caches are filled and the model's cost is known before anything counts.
    for _ in range(50):
        await ask()
    return count(lambda: _drive(ask))


def _drive(ask: Ask) -> None:
    """Run a coroutine that answers without waiting."""
    try:
        ask().send(None)
    except StopIteration:
        return
    raise RuntimeError("the model answers on its thread; its instructions cannot be counted from here")


def count(work: Callable[[], Any]) -> Counted:
    """Return the interpreter's instructions during one call, those of this module left out."""
    instructions: Counter[CodeType] = Counter()
    calls: Counter[CodeType] = Counter()

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        code = frame.f_code
        if code.co_filename == __file__:
            return None
        frame.f_trace_opcodes = True
        if event == "call":
            calls[code] += 1
        elif event == "opcode":
            instructions[code] += 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return Counted(instructions, calls)


def _place(file: str) -> str:
    """Return a file's path from its package on."""
    for place in _PLACES:
        _, found, rest = file.rpartition(place)
        if found:
            return rest
    return Path(file).name
