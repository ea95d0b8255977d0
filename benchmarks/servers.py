"""The servers that are compared: how each is started, where it answers, and how it is stopped.

A new variant (more workers, another placement) is one more entry of `SERVERS`. Called by `__main__`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.fraud import Fraud
from benchmarks.processes import Conditions, cpu_seconds, settle

ROOT: Final = Path(__file__).resolve().parent.parent
START_S: Final = 60.0
STOP_S: Final = 15.0


class Server(msgspec.Struct, frozen=True):
    """A program that serves the model on loopback.

    It takes `--announce FILE` and writes `{"http": "host:port", "grpc": "host:port", "pid": 1}` there when it is ready.
    """

    name: str
    command: tuple[str, ...]
    """What to run; {model}, {package} and {unbatched} stand for the ONNX file, the package folder and its form without batches, {home} for a
    scratch folder."""


_LIMEN: Final = (
    sys.executable,
    "-m",
    "limen",
    "serve",
    "{package}",
    "--http-port",
    "0",
    "--grpc-port",
    "0",
    "--metrics-port",
    "0",
    "--home",
    "{home}",
)
SERVERS: Final = {
    s.name: s
    for s in (
        Server("bare", (sys.executable, "-m", "benchmarks.bare", "{model}")),
        # The bare handler holds the model itself, so the one that is held against it does too.
        Server("limen", (*_LIMEN, "--placement", "inline")),
        Server("limen-2w", (*_LIMEN, "--placement", "inline", "--workers", "2")),
        Server("process", _LIMEN),
        Server("process-2w", (*_LIMEN, "--workers", "2")),
        Server("unbatched-2w", (*(p.replace("{package}", "{unbatched}") for p in _LIMEN), "--workers", "2")),
    )
}


class Announcement(msgspec.Struct, frozen=True):
    """What a server writes when it is ready."""

    http: str
    grpc: str
    pid: int


class Running(msgspec.Struct, frozen=True):
    """A server that answers."""

    name: str
    http: str
    grpc: str
    pid: int

    def cpu_seconds(self) -> float:
        """Return the CPU time of all its processes so far."""
        return cpu_seconds(self.pid)


class StartError(Exception):
    """A server did not start; the text says where its log is."""


@contextlib.contextmanager
def running(server: Server, fraud: Fraud, scratch: Path, conditions: Conditions) -> Iterator[Running]:
    """Start a server in a session of its own and stop it, with everything it started, however the block ends.

    Raises:
        StartError: it ended or did not announce itself in time.
    """
    folder = scratch / server.name
    folder.mkdir(parents=True, exist_ok=True)
    announce = folder / "announce.json"
    announce.unlink(missing_ok=True)
    places = {"model": fraud.model, "package": fraud.package, "unbatched": fraud.unbatched, "home": folder / "home"}
    command = [part.format_map(places) for part in (*server.command, "--announce", str(announce))]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
    settle(process.pid, conditions.nice, conditions.of_servers())
    try:
        found = _wait(process, announce, folder)
        yield Running(server.name, found.http, found.grpc, process.pid)
    finally:
        _stop(process)


def _wait(process: subprocess.Popen[bytes], announce: Path, folder: Path) -> Announcement:
    end = time.monotonic() + START_S
    while not announce.exists():
        if process.poll() is not None:
            raise StartError(f"it ended with status {process.returncode}; see {folder / 'server.log'}")
        if time.monotonic() > end:
            raise StartError(f"it is not ready after {START_S:.0f} s; see {folder / 'server.log'}")
        time.sleep(0.02)
    return msgspec.json.decode(announce.read_bytes(), type=Announcement)


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_S)
    # Its session is its own, so this reaches what it left behind and nothing else.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
