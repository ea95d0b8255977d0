"""What a run leaves: a table for people and a file for programs. Called by `__main__`."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.compare import Figures, Plan, Row
from benchmarks.servers import ROOT

LEAST_RPS: Final = 0.70
"""Aim: at least this share of the bare handler's requests per second."""
MOST_CPU: Final = 1.40
"""Aim: at most this multiple of its CPU per request."""
QUIET: Final = 0.10
"""Share of the machine that other work may take before a row says so."""
_LIBRARIES: Final = (
    *("numpy", "onnxruntime", "msgspec", "orjson", "pysimdjson", "uvloop", "httptools"),
    *("protobuf", "pygrpc-native", "grpcio"),
)
_COLUMNS: Final = f"{'load':<12}{'conns':>6}  {'server':<9}{'requests/s':>11}{'ratio':>7}   {'CPU µs':>9}{'ratio':>7}   {'p50 ms':>8}{'p99 ms':>9}"


class Machine(msgspec.Struct, frozen=True):
    """Where and with what a run was made."""

    at: str
    commit: str
    """Git commit, with a plus sign when the working tree differed."""
    cpu: str
    cores: int
    kernel: str
    python: str
    libraries: dict[str, str]
    load_before: float
    """Load average of the last minute before the run: other work on the machine spoils figures."""


class Results(msgspec.Struct, frozen=True):
    """What is written to the file."""

    machine: Machine
    plan: Plan
    rows: list[Row]


def machine() -> Machine:
    """Return the facts about this machine."""
    return Machine(
        at=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        commit=_commit(),
        cpu=_cpu_model(),
        cores=len(os.sched_getaffinity(0)),
        kernel=platform.release(),
        python=platform.python_version(),
        libraries={name: found for name in _LIBRARIES if (found := _version(name))},
        load_before=round(os.getloadavg()[0], 2),
    )


def write(results: Results, folder: Path) -> Path:
    """Write the results as JSON and return the file."""
    file = folder / f"results-{time.strftime('%Y%m%d-%H%M%S')}.json"
    file.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n")
    return file


def heading(facts: Machine) -> str:
    """Return what stands above the table."""
    libraries = ", ".join(f"{name} {number}" for name, number in facts.libraries.items())
    return (
        f"{facts.cpu}, {facts.cores} cores, Linux {facts.kernel}, Python {facts.python}, commit {facts.commit}, "
        f"load {facts.load_before}\n{libraries}\n"
        f"aims: requests/s ≥ {LEAST_RPS:.2f} and CPU ≤ {MOST_CPU:.2f} of the bare handler (✓ met, ✗ not)\n"
        f"others: what else kept the machine busy, where it was more than {QUIET:.0%} in a round\n\n{_COLUMNS}"
    )


def lines(row: Row) -> str:
    """Return one row of the table, a line for each server."""
    name = f"{row.protocol} {row.rows}"
    if row.invalid:
        return f"{name:<12}{row.connections:>6}  invalid: {row.invalid}"
    found = []
    for number, (server, figures) in enumerate(row.servers.items()):
        left = f"{name:<12}{row.connections:>6}" if number == 0 else " " * 18
        disturbed = f"  others {row.others:.0%}" if number == 0 and row.others > QUIET else ""
        found.append(f"{left}  {server:<9}{_figures(figures, is_first=number == 0)}{disturbed}")
    return "\n".join(found)


def _figures(f: Figures, *, is_first: bool) -> str:
    rps = "" if is_first else f"{f.rps_ratio:.2f} {_mark(is_met=f.rps_ratio >= LEAST_RPS)}"
    cpu = "" if is_first else f"{f.cpu_ratio:.2f} {_mark(is_met=f.cpu_ratio <= MOST_CPU)}"
    return f"{f.rps:>11,.0f}{rps:>9} {f.cpu_us:>9,.1f}{cpu:>9} {f.p50_ms:>8.2f}{f.p99_ms:>9.2f}"


def _mark(*, is_met: bool) -> str:
    return "✓" if is_met else "✗"


def closing(rows: Sequence[Row]) -> str:
    """Return how many rows met the aims, for each server but the first."""
    valid = [row for row in rows if not row.invalid]
    told = []
    for name in list(valid[0].servers)[1:] if valid else ():
        mine = [row.servers[name] for row in valid]
        rps = sum(f.rps_ratio >= LEAST_RPS for f in mine)
        cpu = sum(f.cpu_ratio <= MOST_CPU for f in mine)
        worst = min(mine, key=lambda f: f.rps_ratio).rps_ratio, max(mine, key=lambda f: f.cpu_ratio).cpu_ratio
        told.append(
            f"{name}: requests/s met on {rps} of {len(mine)} rows (lowest {worst[0]:.2f}), "
            f"CPU on {cpu} (highest {worst[1]:.2f})"
        )
    if len(valid) < len(rows):
        told.append(f"{len(rows) - len(valid)} rows are invalid")
    return "\n".join(told)


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _commit() -> str:
    try:
        commit = _git("rev-parse", "--short=12", "HEAD")
        return commit + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()
