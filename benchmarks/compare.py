"""The comparison: every row is measured on all servers in turn, round after round, so that drift hits them alike.

`measure` runs the rounds; `summarise` is pure. Called by `__main__`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from statistics import median

import msgspec

from benchmarks.ask import WrongAnswerError, ask
from benchmarks.generators import GeneratorError, Shot, fire
from benchmarks.loads import Load, Protocol
from benchmarks.processes import Conditions, machine_seconds, reaped_seconds
from benchmarks.servers import Running

WARM_UP = 50
"""Requests before a row is measured, each of them checked."""


class Plan(msgspec.Struct, frozen=True):
    """How long and how carefully to measure."""

    rounds: int
    seconds: int
    conditions: Conditions
    is_traced: bool = False
    """Whether every HTTP request had a head of its own."""


class Sample(msgspec.Struct, frozen=True):
    """One server in one round."""

    shot: Shot
    cpu_us: float
    """CPU of the server's processes for each request, in microseconds."""
    others: float = 0.0
    """Share of the machine that neither this server nor the load generator took."""

    @property
    def rps(self) -> float:
        return self.shot.requests / self.shot.seconds


class Figures(msgspec.Struct, frozen=True):
    """One server in one row: medians over the rounds, and ratios to the first server of the row."""

    rps: float
    cpu_us: float
    p50_ms: float
    p99_ms: float
    rps_ratio: float
    """Median over the rounds of the ratio within a round, which is steadier than the ratio of the medians."""
    cpu_ratio: float
    rps_rounds: list[float]
    cpu_us_rounds: list[float]


class Row(msgspec.Struct, frozen=True):
    """One line of the table."""

    protocol: Protocol
    rows: int
    connections: int
    servers: dict[str, Figures] = {}
    """By name, the one that is compared with first; empty when the row is invalid."""
    others: float = 0.0
    """Share of the machine that was busy with something else, in the worst sample."""
    invalid: str = ""
    """Why the row counts for nothing: a wrong answer or an error."""
    seconds: float = 0.0
    """How long the row took in all."""


def measure(load: Load, connections: int, servers: Sequence[Running], plan: Plan) -> Row:
    """Measure one row; the first server is the one the others are compared with."""
    started = time.monotonic()
    row = Row(load.protocol, load.rows, connections)
    try:
        samples = _rounds(load, connections, servers, plan)
    except _InvalidRowError as reason:
        return msgspec.structs.replace(row, invalid=str(reason))
    figures = summarise(samples)
    others = max(sample.others for mine in samples.values() for sample in mine)
    return msgspec.structs.replace(row, servers=figures, others=others, seconds=time.monotonic() - started)


class _InvalidRowError(Exception):
    """The row cannot count."""


def _rounds(load: Load, connections: int, servers: Sequence[Running], plan: Plan) -> dict[str, list[Sample]]:
    sizes = {server.name: _checked(server, load, WARM_UP) for server in servers}
    samples: dict[str, list[Sample]] = {server.name: [] for server in servers}
    for number in range(plan.rounds):
        # Each goes first as often as last.
        for server in servers if number % 2 == 0 else reversed(servers):
            samples[server.name].append(_sample(server, load, connections, plan, sizes[server.name]))
    for server in servers:
        _checked(server, load, 1)
    return samples


def _sample(server: Running, load: Load, connections: int, plan: Plan, answer_bytes: int) -> Sample:
    """Load a server once and read the clocks around it."""
    started, mine, generator, machine = time.monotonic(), server.cpu_seconds(), reaped_seconds(), machine_seconds()
    try:
        shot = fire(server, load, connections, plan.seconds, answer_bytes=answer_bytes, conditions=plan.conditions)
    except GeneratorError as error:
        raise _InvalidRowError(f"{server.name}: {error}") from error
    mine, generator = server.cpu_seconds() - mine, reaped_seconds() - generator
    others = machine_seconds() - machine - mine - generator
    if shot.errors or not shot.requests:
        raise _InvalidRowError(f"{server.name}: {shot.errors} errors in {shot.requests} answers")
    whole = (time.monotonic() - started) * (os.cpu_count() or 1)
    return Sample(shot, mine / shot.requests * 1e6, max(0.0, others / whole))


def _checked(server: Running, load: Load, times: int) -> int:
    try:
        return ask(server, load, times)
    except WrongAnswerError as error:
        raise _InvalidRowError(f"{server.name}: {error}") from error


def summarise(samples: dict[str, list[Sample]]) -> dict[str, Figures]:
    """Return the medians of each server and its ratios to the first one, round by round."""
    first = next(iter(samples.values()))
    found = {}
    for name, mine in samples.items():
        pairs = list(zip(mine, first, strict=True))
        found[name] = Figures(
            rps=median(s.rps for s in mine),
            cpu_us=median(s.cpu_us for s in mine),
            p50_ms=median(s.shot.p50_ms for s in mine),
            p99_ms=median(s.shot.p99_ms for s in mine),
            rps_ratio=median(s.rps / bare.rps for s, bare in pairs),
            cpu_ratio=median(s.cpu_us / bare.cpu_us for s, bare in pairs),
            rps_rounds=[s.rps for s in mine],
            cpu_us_rounds=[s.cpu_us for s in mine],
        )
    return found
