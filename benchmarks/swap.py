"""What callers notice while another version is loaded, warmed and put in the place of the live one.

    python -m benchmarks swap

Each server is asked at a steady rate while its package is loaded again several times. The answers are those of one run, apart by whether
a reload was under way when they were asked for; the ratio is what loading costs. Needs h2load.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from benchmarks import fraud, loads, servers
from benchmarks.processes import Conditions
from benchmarks.steady import Answer, answers_at

HOME: Final = servers.ROOT / ".limen" / "bench"
CONDITIONS: Final = Conditions(-10, "free")
RATE: Final = 512.0
"""Requests per second: a small part of what any of the servers can do, so that what is late is late because of the reload."""
CONNECTIONS: Final = 4
SECONDS: Final = 20
RELOADS: Final = 4
QUANTILES: Final = (0.5, 0.95, 0.99)


def main(_: Sequence[str]) -> int:
    """Measure every way to hold a model."""
    HOME.mkdir(parents=True, exist_ok=True)
    model = fraud.prepare(HOME)
    load = next(found for found in loads.loads(model) if (found.protocol, found.rows) == ("json", 1))
    print(
        "while a version loads    reload s   p50 ms  ratio   p95 ms  ratio   p99 ms  ratio   (ratio to the rest of the run)"
    )
    for name in ("limen-2w", "process", "process-2w"):
        with servers.running(servers.SERVERS[name], model, HOME, CONDITIONS) as server, ThreadPoolExecutor() as pool:
            answers = pool.submit(answers_at, server.http, load, RATE, SECONDS, CONNECTIONS)
            spans = [_reload(HOME / name / "home") for _ in range(RELOADS)]
            during, rest = split(answers.result(), spans)
        pairs = [(quantile(during, q), quantile(during, q) / quantile(rest, q)) for q in QUANTILES]
        shown = "  ".join(f"{ms:7.2f}{ratio:7.2f}" for ms, ratio in pairs)
        print(f"{name:24}{max(end - begin for begin, end in spans):9.2f}  {shown}", flush=True)
    return 0


def split(answers: Sequence[Answer], spans: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    """Return the milliseconds of the answers that were asked for within the spans (seconds since the epoch), and of the others."""
    during: list[float] = []
    rest: list[float] = []
    for answer in answers:
        is_during = any(begin <= answer.began_at < end for begin, end in spans)
        (during if is_during else rest).append(answer.ms)
    return during, rest


def quantile(values: Sequence[float], q: float) -> float:
    """Return a quantile of values in any order."""
    found = sorted(values)
    return found[min(len(found) - 1, int(len(found) * q))]


def _reload(home: Path) -> tuple[float, float]:
    """Have the package loaded again after a quiet moment; return from when until when that took."""
    time.sleep(SECONDS / RELOADS / 3)
    begin = time.time()
    command = (sys.executable, "-m", "limen", "reload", fraud.NAME, "--home", str(home))
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return begin, time.time()
