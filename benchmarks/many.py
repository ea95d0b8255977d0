"""What grows with the number of endpoints.

    python -m benchmarks many [N ...]

A server of a registry is filled with N endpoints of one tiny ONNX model, each with a replica of its own, and started again. Measured are:
start until the first endpoint and until the last one answers, memory (PSS, so that shared pages count once), `apply` of one more endpoint
until it answers, CPU of control and of the gateway while nobody calls, latency of one endpoint that is called, and open descriptors. The
ratio compares with the smallest N of the same run; figures of different machines do not compare.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import httpx
import msgspec
import numpy as np

from benchmarks.processes import read_stat
from benchmarks.servers import ROOT
from benchmarks.swap import quantile

HOME: Final = ROOT / ".limen" / "bench" / "many"
COUNTS: Final = (1, 10, 50, 100, 200)
WAIT_S: Final = 900.0
IDLE_S: Final = 10.0
CALLS: Final = 400
MODEL: Final = "tiny"
MANIFEST: Final = """\
name: tiny
backend: onnx
artifact: model.onnx
inputs: [{name: x, type: float32, shape: [4]}]
outputs: [{name: y, type: float32, shape: [4]}]
examples: [{inputs: {x: [1, 2, 3, 4]}, outputs: {y: [1, 2, 3, 4]}}]
"""
_BODY: Final = b'{"instances":[{"x":[1,2,3,4]}]}'


class Figures(NamedTuple):
    """What was measured of a server with so many endpoints."""

    endpoints: int
    first_s: float
    """From the start until an endpoint answers."""
    all_s: float
    """From the start until every endpoint answers."""
    memory_mb: float
    """PSS of the whole server."""
    apply_s: float
    """From applying one more endpoint until it answers."""
    control_cpu: float
    """Share of a core that control takes while nobody calls, in percent."""
    gateway_cpu: float
    p50_ms: float
    p99_ms: float
    control_files: int
    gateway_files: int


def main(arguments: Sequence[str]) -> int:
    """Measure servers with each number of endpoints."""
    counts = tuple(int(text) for text in arguments) or COUNTS
    print(
        "endpoints  first s   all s  memory MiB (per endpoint)  apply s  control %  gateway %  p50 ms  ratio  p99 ms  ratio  files: control  gateway"
    )
    base: Figures | None = None
    for count in counts:
        found = measure(count)
        base = base or found
        print(row(found, base), flush=True)
    return 0


def row(found: Figures, base: Figures) -> str:
    """Return one line of the table; ratios and the growth of memory are against `base`."""
    more = found.endpoints - base.endpoints
    growth = f"{(found.memory_mb - base.memory_mb) / more:14.1f}" if more else f"{'–':>14}"
    return (
        f"{found.endpoints:9}{found.first_s:9.1f}{found.all_s:8.1f}{found.memory_mb:12.0f}{growth}{found.apply_s:9.2f}"
        f"{found.control_cpu:11.1f}{found.gateway_cpu:11.1f}{found.p50_ms:8.2f}{found.p50_ms / base.p50_ms:7.2f}"
        f"{found.p99_ms:8.2f}{found.p99_ms / base.p99_ms:7.2f}{found.control_files:16}{found.gateway_files:9}"
    )


def measure(count: int) -> Figures:
    """Fill a registry with so many endpoints, start its server, and measure it."""
    shutil.rmtree(HOME, ignore_errors=True)
    HOME.mkdir(parents=True)
    write_package(HOME / MODEL)
    with running() as (_, where):
        publish(where["admin"])
        for i in range(count):
            apply(where["admin"], f"e{i}")
    begun = time.monotonic()
    with running() as (pid, where), httpx.Client(base_url=f"http://{where['http']}", timeout=60) as http:
        until(lambda: answers(http, "e0"))
        first_s = time.monotonic() - begun
        for i in range(count):
            until(lambda name=f"e{i}": answers(http, name))  # type: ignore[misc]  # bound at once
        all_s = time.monotonic() - begun
        memory_mb = sum(pss_mb(found) for found in tree(pid))
        times = [timed(lambda: answers(http, "e0")) for _ in range(CALLS)]
        kinds = {
            kind: next(p for p in tree(pid) if f"limen.app.{kind} " in command(p)) for kind in ("control", "gateway")
        }
        before = {kind: cpu_s(found) for kind, found in kinds.items()}
        time.sleep(IDLE_S)
        idle = {kind: 100 * (cpu_s(found) - before[kind]) / IDLE_S for kind, found in kinds.items()}
        files = {kind: len(list(Path(f"/proc/{found}/fd").iterdir())) for kind, found in kinds.items()}
        apply_s = timed(lambda: (apply(where["admin"], "more"), until(lambda: answers(http, "more"))))
    p50, p99 = (1000 * quantile(times, q) for q in (0.5, 0.99))
    return Figures(
        *(count, first_s, all_s, memory_mb, apply_s, idle["control"], idle["gateway"], p50, p99),
        *(files["control"], files["gateway"]),
    )


@contextlib.contextmanager
def running() -> Iterator[tuple[int, dict[str, str]]]:
    """Serve the registry of the home while the block runs; give the process id and the addresses."""
    announced = HOME / "ready.json"
    announced.unlink(missing_ok=True)
    ports = [word for port in ("http", "grpc", "metrics", "admin") for word in (f"--{port}-port", "0")]
    command = [
        sys.executable,
        "-m",
        "limen",
        "serve",
        "--home",
        str(HOME / "home"),
        "--announce",
        str(announced),
        *ports,
    ]
    with (HOME / "log").open("w") as log:
        server = subprocess.Popen([*command, "--log-level", "warning"], stdout=subprocess.DEVNULL, stderr=log)
        try:
            until(announced.exists)
            yield server.pid, msgspec.json.decode(announced.read_bytes(), type=dict)
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(120)


def publish(admin: str) -> None:
    """Publish the model with the alias that the endpoints follow."""
    url = ("--server", f"http://{admin}")
    command = (sys.executable, "-m", "limen", "publish", str(HOME / MODEL), "--alias", "champion", *url)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def apply(admin: str, name: str) -> None:
    """Want one more endpoint."""
    spec = {"name": name, "model": MODEL, "traffic": {"champion": 100}}
    httpx.put(f"http://{admin}/api/v1/endpoints/{name}", json=spec, timeout=60).raise_for_status()


def answers(http: httpx.Client, name: str) -> bool:
    """Whether an endpoint gives the right answer."""
    headers = {"content-type": "application/json"}
    try:
        found = http.post(f"/v1/models/{name}:predict", content=_BODY, headers=headers)
    except httpx.TransportError:
        return False
    return found.status_code == 200 and found.json()["predictions"][0]["y"] == [1, 2, 3, 4]


def until(is_so: object) -> None:
    """Wait until something is so."""
    by = time.monotonic() + WAIT_S
    while not is_so():  # type: ignore[operator]
        if time.monotonic() > by:
            raise TimeoutError(f"not within {WAIT_S:g} s; {HOME / 'log'} may say why")
        time.sleep(0.05)


def timed(work: object) -> float:
    """Return how long something takes, in seconds."""
    begun = time.perf_counter()
    work()  # type: ignore[operator]
    return time.perf_counter() - begun


def write_package(folder: Path) -> None:
    """Write a model that gives back what it gets."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    folder.mkdir()
    (folder / "model.yaml").write_text(MANIFEST)
    shape = ["n", 4]
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        MODEL,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(np.eye(4, dtype=np.float32), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "model.onnx")


def tree(root: int) -> list[int]:
    """Return a process and everything it has started."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parents[int(entry.name)] = read_stat((entry / "stat").read_text())[0]
    found = [root]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found


def pss_mb(pid: int) -> float:
    """Return the memory of a process, with its part of what it shares."""
    return memory_mb(pid, "Pss")


def memory_mb(pid: int, name: str) -> float:
    """Return one of the sums that the system keeps of a process's memory."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    return 0.0


def cpu_s(pid: int) -> float:
    """Return the CPU time that one process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / 100


def command(pid: int) -> str:
    """Return the command of a process."""
    return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
