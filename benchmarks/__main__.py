"""Measure what Limen costs.

python -m benchmarks [load]    Limen against a bare handler on the same stack: real servers, wrk and h2load
python -m benchmarks steady    latency at half of capacity, and streams
python -m benchmarks swap      latency while another version is loaded and put in the place of the live one
python -m benchmarks many      what grows with the number of endpoints: start, memory, changes, idle CPU, files
python -m benchmarks footprint memory of each process of a server, and the modules that cost most
python -m benchmarks placement what the process placement costs: CPU, round trips, large tensors
python -m benchmarks micro     single steps of a request in this process
python -m benchmarks typed     the typed service of a model next to ModelInfer
python -m benchmarks client    the Python client on top of httpx and grpc as they are
python -m benchmarks profile   instructions of the Python interpreter on a request, by function
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import get_args

from benchmarks import (
    client,
    footprint,
    fraud,
    generators,
    loads,
    many,
    micro,
    placement,
    profile,
    report,
    servers,
    steady,
    swap,
    typed,
)
from benchmarks.compare import Plan, Row, measure
from benchmarks.processes import Conditions, Cores

HOME = servers.ROOT / ".limen" / "bench"


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit status."""
    command, rest = (
        (arguments[0], arguments[1:]) if arguments[:1] and arguments[0] in _COMMANDS else ("load", arguments)
    )
    # So that the servers that were started are stopped.
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return _COMMANDS[command](rest)
    except KeyboardInterrupt:
        return 130


def _load(arguments: Sequence[str]) -> int:
    options = _parser().parse_args(arguments)
    if missing := generators.missing_programs():
        return _fail(f"wrk and h2load make the load. Install what is missing:\n    apt-get install {' '.join(missing)}")
    if not Path("/proc/self/stat").exists():
        return _fail("CPU times are read from /proc: this needs Linux")
    rounds, seconds = (1, 1) if options.quick else (options.rounds, options.seconds)
    plan = Plan(rounds, seconds, Conditions(options.nice, options.cores), options.traced)
    HOME.mkdir(parents=True, exist_ok=True)
    model = fraud.prepare(HOME)
    table = loads.loads(model, is_traced=options.traced)
    chosen = [load for load in table if load.protocol in options.protocol and load.rows in options.rows]
    rows: list[Row] = []
    with contextlib.ExitStack() as stack:
        stack.enter_context(_alone())
        try:
            running = [
                stack.enter_context(servers.running(servers.SERVERS[name], model, HOME, plan.conditions))
                for name in options.servers
            ]
        except servers.StartError as error:
            return _fail(str(error))
        facts = report.machine()
        print(report.heading(facts), flush=True)
        for load in chosen:
            for connections in options.connections:
                rows.append(measure(load, connections, running, plan))
                print(report.lines(rows[-1]), flush=True)
    print(f"\n{report.closing(rows)}\n{report.write(report.Results(facts, plan, rows), HOME)}")
    return 1 if any(row.invalid for row in rows) else 0


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Hold the machine: a second run waits, because two at once would measure each other."""
    with (HOME / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("waiting for another run to end …", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one round of one second: a look, not a measurement")
    parser.add_argument("--rounds", type=_positive, default=3, help="rounds a row; its figures are medians (default 3)")
    parser.add_argument("--seconds", type=_positive, default=2, help="seconds a server and round (default 2)")
    parser.add_argument(
        "--protocol", nargs="+", choices=loads.PROTOCOLS, default=loads.PROTOCOLS, metavar="NAME",
        help=f"only these: {', '.join(loads.PROTOCOLS)}",
    )  # fmt: skip
    parser.add_argument("--rows", nargs="+", type=int, choices=loads.ROWS, default=loads.ROWS, help="only these")
    parser.add_argument(
        "--connections", nargs="+", type=_positive, default=loads.CONNECTIONS, metavar="N", help="default: 1 16 64"
    )
    parser.add_argument(
        "--servers", nargs="+", choices=servers.SERVERS, default=("bare", "limen"), metavar="NAME",
        help=f"compared with the first; of {', '.join(servers.SERVERS)} (default: bare limen)",
    )  # fmt: skip
    parser.add_argument(
        "--cores", choices=get_args(Cores), default="free",
        help="free: the kernel decides; apart: the load generator on a core of its own; one: all on one core",
    )  # fmt: skip
    parser.add_argument("--traced", action="store_true", help="give every HTTP request a traceparent of its own")
    parser.add_argument(
        "--nice", type=int, default=-10, help="priority of servers and load generators, where allowed (default -10)"
    )
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def _fail(text: str) -> int:
    print(text, file=sys.stderr)
    return 2


def _interrupt(_: int, __: FrameType | None) -> None:
    raise KeyboardInterrupt


_COMMANDS = {
    "load": _load,
    "micro": micro.main,
    "placement": placement.main,
    "typed": typed.main,
    "client": client.main,
    "profile": profile.main,
    "steady": steady.main,
    "swap": swap.main,
    "many": many.main,
    "footprint": footprint.main,
}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
