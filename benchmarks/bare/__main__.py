"""Serve the bare handler: `python -m benchmarks.bare MODEL --announce FILE`. Ends with SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
from pathlib import Path

import uvloop

from benchmarks.bare.grpc import serve_grpc
from benchmarks.bare.http import serve_http
from benchmarks.bare.model import open_model

# The same memory and garbage settings as Limen's workers, so that they do not count as its merit.
from limen.app import freeze_garbage
from limen.runtime.sandbox.allocator import keep_buffers

HOST = "127.0.0.1"


async def _serve(model: Path, announce: Path) -> None:
    keep_buffers()
    score = open_model(model)
    freeze_garbage()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    http, http_port = await serve_http(score, HOST)
    grpc, grpc_port = await serve_grpc(score, HOST)
    staging = announce.with_suffix(".part")
    staging.write_text(json.dumps({"http": f"{HOST}:{http_port}", "grpc": f"{HOST}:{grpc_port}", "pid": os.getpid()}))
    staging.rename(announce)
    await stop.wait()
    http.close()
    await grpc.stop(0)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bare", description=__doc__)
    parser.add_argument("model", type=Path, help="the ONNX file")
    parser.add_argument("--announce", type=Path, required=True, help="where to write the real addresses")
    arguments = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(arguments.model, arguments.announce))


if __name__ == "__main__":
    main()
