"""Latency at half of what a server can do, and streams: what callers see of a server that is not at its limit.

    python -m benchmarks steady [paced|stream]

`paced` measures the capacity at 64 connections and then asks at half that rate, each request when it is due. `stream` lets 1 and 16
callers read a model's parts over gRPC and as server-sent events. Needs h2load and wrk.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import grpc

from benchmarks import fraud, loads, servers
from benchmarks.compare import Plan, measure
from benchmarks.processes import Conditions
from limen.gateway.grpc._generated import open_inference_pb2 as pb


class Answer(NamedTuple):
    """One good answer."""

    began_at: float
    """When it was asked for, in seconds since the epoch."""
    ms: float


Read = Callable[[servers.Running], Awaitable[float]]
"""Reads one stream to its end and returns the seconds until its first part."""
HOME: Final = servers.ROOT / ".limen" / "bench"
CONDITIONS: Final = Conditions(-10, "free")
CONNECTIONS: Final = 64
PACED_S: Final = 5
PARTS: Final = 500
CALLERS: Final = (1, 16)
_MODEL: Final = """\
import numpy as np


class Model:
    def predict(self, inputs):
        return {"value": inputs["n"]}

    def stream(self, inputs):
        for value in range(int(inputs["n"][0])):
            yield {"value": np.array([value], np.int32)}
"""
_MANIFEST: Final = """\
name: parts
backend: python
artifact: model.py:Model
inputs: [{name: n, type: int32, minimum: 0, maximum: 100000}]
outputs: [{name: value, type: int32}]
"""


def main(arguments: Sequence[str]) -> int:
    """Measure what was asked for, or both."""
    HOME.mkdir(parents=True, exist_ok=True)
    for name in arguments or tuple(_PARTS):
        _PARTS[name]()
    return 0


def paced() -> None:
    """Print the latency of single rows in JSON at half of each server's capacity."""
    model = fraud.prepare(HOME)
    load = next(found for found in loads.loads(model) if (found.protocol, found.rows) == ("json", 1))
    print("at half of capacity     requests/s   p50 ms   p95 ms   p99 ms")
    for name in ("limen", "limen-2w", "process", "process-2w"):
        with servers.running(servers.SERVERS[name], model, HOME, CONDITIONS) as server:
            row = measure(load, CONNECTIONS, [server], Plan(1, 2, CONDITIONS, is_traced=False))
            rate = row.servers[name].rps / 2
            found = sorted(answer.ms for answer in answers_at(server.http, load, rate, PACED_S))
        shown = "  ".join(f"{found[min(len(found) - 1, int(len(found) * q))]:7.2f}" for q in (0.5, 0.95, 0.99))
        print(f"{name:20}  {rate:12,.0f}  {shown}", flush=True)


def answers_at(
    address: str, load: loads.Load, rate: float, seconds: int, connections: int = CONNECTIONS
) -> list[Answer]:
    """Ask at a rate over some connections and return the answers; one that is not good ends the program.

    Whatever is due at one moment is sent on all connections together: the more there are, the larger the bursts.
    """
    with tempfile.TemporaryDirectory() as folder:
        body, log = Path(folder) / "body", Path(folder) / "log"
        body.write_bytes(load.body)
        command = ["h2load", "--h1", "-c", str(connections), "-t", "1", "-D", str(seconds)]
        command += [f"--rps={max(1, round(rate / connections))}", "-d", str(body), f"--log-file={log}"]
        command += [f"-H{name}: {value}" for name, value in load.headers.items()]
        subprocess.run([*command, f"http://{address}{loads.PATH}"], stdout=subprocess.DEVNULL, check=True)
        lines = [line.split() for line in log.read_text().splitlines()]
    if any(status != "200" for _, status, _ in lines):
        raise SystemExit("some requests were not answered")
    return [Answer(int(began) / 1e6, int(took) / 1000) for began, _, took in lines]


def stream() -> None:
    """Print how many parts a second callers get."""
    folder = HOME / "parts"
    folder.mkdir(exist_ok=True)
    (folder / "model.yaml").write_text(_MANIFEST)
    (folder / "model.py").write_text(_MODEL)
    print("streams               callers      parts/s   first part ms")
    for placement in ("inline", "process"):
        command = (sys.executable, "-m", "limen", "serve", str(folder), "--trust-code", "--placement", placement)
        ports = ("--http-port", "0", "--grpc-port", "0", "--metrics-port", "0", "--home", "{home}")
        server = servers.Server(f"parts-{placement}", (*command, *ports))
        with servers.running(server, fraud.prepare(HOME), HOME, CONDITIONS) as running:
            for kind, read in (("grpc", _read_grpc), ("sse", _read_sse)):
                for callers in CALLERS:
                    begun = time.perf_counter()
                    firsts = asyncio.run(_together(read, running, callers))
                    rate = callers * PARTS / (time.perf_counter() - begun)
                    print(
                        f"{placement:8} {kind:12}{callers:8}{rate:13,.0f}{statistics.median(firsts) * 1e3:16.2f}",
                        flush=True,
                    )


async def _together(read: Read, server: servers.Running, callers: int) -> list[float]:
    return list(await asyncio.gather(*(read(server) for _ in range(callers))))


async def _read_grpc(server: servers.Running) -> float:
    request = pb.ModelInferRequest(model_name="parts")
    request.inputs.add(name="n", datatype="INT32", shape=[1]).contents.int_contents.append(PARTS)

    async def once() -> object:
        yield request

    begun, first, count = time.perf_counter(), 0.0, 0
    async with grpc.aio.insecure_channel(server.grpc) as channel:
        call = channel.stream_stream(
            "/inference.GRPCInferenceService/ModelStreamInfer",
            pb.ModelInferRequest.SerializeToString,
            pb.ModelStreamInferResponse.FromString,
        )
        async for _ in call(once()):
            first = first or time.perf_counter() - begun
            count += 1
    assert count == PARTS, count
    return first


async def _read_sse(server: servers.Running) -> float:
    host, _, port = server.http.rpartition(":")
    body = b'{"instances": [{"n": %d}]}' % PARTS
    begun, first, count = time.perf_counter(), 0.0, 0
    reader, writer = await asyncio.open_connection(host, int(port))
    head = "POST /v1/models/parts:stream HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nconnection: close\r\n"
    writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
    while line := await reader.readline():
        if line.startswith(b'data: {"predictions"'):
            first = first or time.perf_counter() - begun
            count += 1
    writer.close()
    assert count == PARTS, count
    return first


_PARTS: Final = {"paced": paced, "stream": stream}
