"""The programs that load a server: wrk for HTTP, h2load for gRPC. Traffic goes to loopback only and ends by itself.

`parse_wrk` and `parse_h2load` are pure; the rest starts processes. Called by `compare`.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from benchmarks.loads import METHOD, PATH, Load
from benchmarks.processes import Conditions, settle
from benchmarks.servers import ROOT, Running

PACKAGES: Final = {"wrk": "wrk", "h2load": "nghttp2-client"}
"""Program to Debian package."""
_SCRIPT: Final = ROOT / "benchmarks" / "post.lua"
_GRACE_S: Final = 30.0


class Shot(msgspec.Struct, frozen=True):
    """What one run of a load generator saw."""

    requests: int
    seconds: float
    errors: int
    p50_ms: float
    p99_ms: float


class GeneratorError(Exception):
    """A load generator failed or said something unexpected."""


def missing_programs() -> list[str]:
    """Return the Debian packages of the programs that are not installed."""
    return [package for program, package in PACKAGES.items() if shutil.which(program) is None]


def fire(
    server: Running, load: Load, connections: int, seconds: int, *, answer_bytes: int, conditions: Conditions
) -> Shot:
    """Load a server for some seconds with that many connections, each with one request in flight.

    Args:
        server: where to.
        load: what.
        connections: how many, all on one thread.
        seconds: how long.
        answer_bytes: size of the right answer.
        conditions: priority and cores of the load generator.

    Raises:
        GeneratorError: the load generator failed.
    """
    with tempfile.TemporaryDirectory(prefix="limen-bench-") as folder:
        given = Path(folder) / "request"
        if not load.is_grpc:
            headers = "".join(f"{name}: {value}\n" for name, value in load.headers.items())
            given.write_bytes(headers.encode() + b"\n" + load.body)
            command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(_SCRIPT)]
            command += [f"http://{server.http}{PATH}", "--", str(given), *(("traced",) if load.is_traced else ())]
            return parse_wrk(_run(command, seconds, conditions))
        given.write_bytes(load.body)
        log = Path(folder) / "log"
        command = ["h2load", "-t1", f"-c{connections}", "-m1", f"-D{seconds}", f"-d{given}", f"--log-file={log}"]
        for name, value in load.headers.items():
            command += ["-H", f"{name}: {value}"]
        said = _run([*command, f"http://{server.grpc}{METHOD}"], seconds, conditions)
        return parse_h2load(said, log.read_text(), seconds, answer_bytes)


def parse_wrk(said: str) -> Shot:
    """Return what `post.lua` reports.

    Raises:
        GeneratorError: there is no report.
    """
    for line in said.splitlines():
        if line.startswith("RESULT "):
            told = msgspec.json.decode(line.removeprefix("RESULT "))
            requests = told["requests"] - told["bad_statuses"]
            errors = told["bad_statuses"] + told["broken"]
            return Shot(requests, told["seconds"], errors, told["p50_ms"], told["p99_ms"])
    raise GeneratorError("wrk gave no report")


def parse_h2load(said: str, log: str, seconds: float, answer_bytes: int) -> Shot:
    """Return what h2load tells in its summary and its log (start, status and microseconds of each request).

    A call that fails has HTTP status 200 and no message, and its gRPC status is not reported: what is missing from the
    bytes of that many right answers counts as errors.

    Raises:
        GeneratorError: the summary is not one, or nothing was answered.
    """
    outcome = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", said)
    traffic = re.search(r"\((\d+)\) data", said)
    times = [int(line.split()[2]) for line in log.splitlines() if line.split()[1] == "200"]
    if outcome is None or traffic is None or not times:
        raise GeneratorError("h2load gave no report")
    succeeded, failed, errored, timed_out = map(int, outcome.groups())
    empty = max(0, succeeded - round(int(traffic.group(1)) / answer_bytes))
    p50, p99 = np.percentile(times, (50, 99)) / 1000
    return Shot(succeeded - empty, seconds, failed + errored + timed_out + empty, float(p50), float(p99))


def _run(command: list[str], seconds: int, conditions: Conditions) -> str:
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    settle(process.pid, conditions.nice, conditions.of_generators())
    try:
        said, _ = process.communicate(timeout=seconds + _GRACE_S)
    except subprocess.TimeoutExpired:
        raise GeneratorError(f"{command[0]} did not end in time") from None
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    if process.returncode:
        raise GeneratorError(f"{command[0]} failed: {said.strip()[-300:]}")
    return said
