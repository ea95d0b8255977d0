"""What the process placement costs: CPU of the gateway and of the replica on top of the model, round trips, and large tensors.

    python -m benchmarks.placement [requests|trips|large]

Linux only: the CPU time of a replica is read from /proc. Figures of a machine that does something else are too high, never too low, so
the best of several rounds counts.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final
from unittest import mock

import numpy as np
import uvloop

from benchmarks import fraud, servers
from limen.contracts.inference import NO_DEADLINE, InferenceRequest, InferenceResponse, Outcome
from limen.packaging.archive.package import Package, open_package
from limen.runtime.execution import load, run
from limen.runtime.placement.process.own import OwnPool, OwnReplicas
from limen.runtime.placement.process.wire import handshake
from limen.runtime.placement.process.wire import layout as layouts
from limen.runtime.sandbox.allocator import keep_buffers

ROUNDS: Final = 5
ROUND_S: Final = 0.4
SIZES: Final = (1, 16, 64)
LARGE: Final = tuple(1 << n for n in range(13, 23))
_ECHO = """\
import numpy as np

class Echo:
    def predict(self, inputs, parameters):
        return {"y": inputs["x"][:, : parameters["width"]]}
"""
_ECHO_MANIFEST = """\
name: echo
backend: python
artifact: model.py:Echo
inputs: [{name: x, type: float32, shape: [-1]}]
outputs: [{name: y, type: float32, shape: [-1]}]
"""


def main(arguments: Sequence[str]) -> int:
    """Measure what was asked for, or everything."""
    keep_buffers()
    for name in arguments or tuple(_PARTS):
        uvloop.run(_PARTS[name]())
    return 0


async def requests() -> None:
    """Print the CPU time of a request on both sides, next to the model's own."""
    home = servers.ROOT / ".limen" / "bench"
    home.mkdir(parents=True, exist_ok=True)
    model = fraud.prepare(home)
    package = open_package(model.package, home)
    pool = await OwnReplicas().start(package, "1")
    loaded, binding = load(package.root, package.manifest)
    print(
        f"{'batch':>6}{'gateway µs':>12}{'replica µs':>12}{'model µs':>10}{'overhead µs':>13}{'requests/s':>12}   (each per request)"
    )
    for size in SIZES:
        matrix = model.matrix(size)
        batch = [InferenceRequest(fraud.NAME, {fraud.INPUT: matrix[i : i + 1].copy()}, rows=1) for i in range(size)]
        own = _best(lambda: run(loaded, binding, {fraud.INPUT: matrix}, {}, size, 256)) / size  # noqa: B023
        found = [await _cost(pool, batch) for _ in range(ROUNDS)]
        gateway, replica, rate = min(f[0] for f in found), min(f[1] for f in found), max(f[2] for f in found)
        print(f"{size:>6}{gateway:>12.2f}{replica:>12.2f}{own:>10.2f}{gateway + replica - own:>13.2f}{rate:>12.0f}")
    await pool.close()


async def trips() -> None:
    """Print how long one request alone takes there and back."""
    home = servers.ROOT / ".limen" / "bench"
    model = fraud.prepare(home)
    pool = await OwnReplicas().start(open_package(model.package, home), "1")
    request = InferenceRequest(fraud.NAME, {fraud.INPUT: model.matrix(1)}, rows=1)
    times = []
    for _ in range(2_000):
        began = time.perf_counter()
        await _ask(pool, [request])
        times.append((time.perf_counter() - began) * 1e6)
    await pool.close()
    print(f"one request alone: p50 {statistics.median(times):.0f} µs, p99 {sorted(times)[-20]:.0f} µs")


async def large() -> None:
    """Print what one large tensor costs by socket and by shared memory: on its way in, and there and back."""
    print(f"{'':>14}{'KiB':>6}{'socket µs':>11}{'shared µs':>11}{'socket CPU µs':>15}{'shared CPU µs':>15}")
    with TemporaryDirectory() as folder:
        package = Path(folder) / "echo"
        package.mkdir()
        (package / "model.py").write_text(_ECHO)
        (package / "model.yaml").write_text(_ECHO_MANIFEST)
        opened = open_package(package, Path(folder))
        for size in LARGE:
            await _compare(opened, size, "in", lambda is_shared: _threshold(0 if is_shared else 1 << 62))
        for size in (layouts.SHARED_MIN, 1 << 20, 1 << 22):
            await _compare(opened, size, "there and back", _arenas)


async def _compare(
    package: Package, size: int, name: str, choose: Callable[[bool], AbstractContextManager[object]]
) -> None:
    tensor = np.arange(size // 4, dtype=np.float32).reshape(1, -1)
    request = InferenceRequest("echo", {"x": tensor}, parameters={"width": 1 if name == "in" else size}, rows=1)
    wall, cpu = [], []
    for is_shared in (False, True):
        with choose(is_shared):
            pool = await OwnReplicas(trust_code=True).start(package, "1")
            found = [await _cost(pool, [request]) for _ in range(ROUNDS)]
            await pool.close()
        wall.append(1e6 / max(f[2] for f in found))
        cpu.append(min(f[0] + f[1] for f in found))
    print(f"{name:>14}{size >> 10:>6}{wall[0]:>11.0f}{wall[1]:>11.0f}{cpu[0]:>15.0f}{cpu[1]:>15.0f}", flush=True)


def _threshold(size: int) -> AbstractContextManager[object]:
    return mock.patch.object(layouts, "SHARED_MIN", size)


def _arenas(is_shared: bool) -> AbstractContextManager[object]:
    return nullcontext() if is_shared else mock.patch.object(handshake, "create_memory", side_effect=OSError)


async def _cost(pool: OwnPool, batch: list[InferenceRequest]) -> tuple[float, float, float]:
    """Return the CPU microseconds of a request here and in the replica, and requests a second."""
    loop = asyncio.get_running_loop()
    over: asyncio.Future[None] = loop.create_future()
    (pid,) = pool.pids
    until = time.perf_counter() + ROUND_S
    runs = 0

    def done(outcomes: Sequence[Outcome]) -> None:
        nonlocal runs
        runs += 1
        if not isinstance(outcomes[0], InferenceResponse):
            over.set_exception(outcomes[0])
        elif time.perf_counter() >= until:
            over.set_result(None)
        else:
            pool.send(batch, NO_DEADLINE, done)

    began, cpu, other = time.perf_counter(), time.process_time(), _cpu_s(pid)
    pool.send(batch, NO_DEADLINE, done)
    await over
    count = runs * len(batch)
    here, there = time.process_time() - cpu, _cpu_s(pid) - other
    return here / count * 1e6, there / count * 1e6, count / (time.perf_counter() - began)


async def _ask(pool: OwnPool, batch: list[InferenceRequest]) -> Sequence[Outcome]:
    answer: asyncio.Future[Sequence[Outcome]] = asyncio.get_running_loop().create_future()
    pool.send(batch, NO_DEADLINE, answer.set_result)
    return await answer


def _cpu_s(pid: int) -> float:
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def _best(work: Callable[[], object]) -> float:
    """Return the microseconds of one call."""
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for _ in range(500):
            work()
        best = min(best, (time.perf_counter() - began) / 500)
    return best * 1e6


_PARTS: Final = {"requests": requests, "trips": trips, "large": large}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
