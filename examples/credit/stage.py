"""What the demo needs of the machine: words with the time, real `limen` commands, and a server that is stopped in the end."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

STARTED = time.perf_counter()
LIMEN = str(Path(sys.executable).with_name("limen"))
START_TIMEOUT_S = 60.0
HOME = "LIMEN_HOME"
PORTS = {"http": 8000, "grpc": 8001, "admin": 8002, "metrics": 8003}


class Failed(Exception):
    """The demo cannot go on; the text says why and what to do."""


class Server(NamedTuple):
    """A running `limen serve`."""

    process: subprocess.Popen[bytes]
    log: Path
    http: str
    """host:port, as the others."""
    grpc: str
    admin: str


@contextlib.contextmanager
def served(announcement: Path) -> Iterator[Server]:
    """Run `limen serve` and yield it with its addresses; stop it on the way out, whatever happens."""
    log = announcement.with_name("serve.log")
    announcement.unlink(missing_ok=True)
    command = ["serve", "--announce", str(announcement)]
    for name, wanted in PORTS.items():
        command += [] if is_free(wanted) else [f"--{name}-port", "0"]
    print_command(*command)
    with log.open("wb") as output:
        # A session of its own: Ctrl-C reaches the demo, which then stops the server.
        process = subprocess.Popen([LIMEN, *command], stdout=output, stderr=output, start_new_session=True)
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not announcement.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                said = log.read_text(errors="replace").strip() or "nothing"
                raise Failed(f"the server did not start; it said:\n{said}")
            time.sleep(0.02)
        found = json.loads(announcement.read_text())
        yield Server(process, log, found["http"], found["grpc"], found["admin"])
    finally:
        process.terminate()
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def is_free(port: int) -> bool:
    """Return whether a port is free; say so if it is not."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            print(f"   Port {port} is taken by another program, so the system chooses one.")
            return False
    return True


def run(*command: str, status: int = 0, shown: int | None = None) -> None:
    """Run the real `limen` command and show what it prints.

    Args:
        command: without the program.
        status: the exit status that it must have.
        shown: show only so many lines: the first ones, or when it is negative the last ones.
    """
    print_command(*command)
    done = subprocess.run([LIMEN, *command], capture_output=True, text=True, check=False)
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line]
    if shown and done.returncode == status:
        lines = [*lines[:shown], "…"] if shown > 0 else ["…", *lines[shown:]]
    print(textwrap.indent("\n".join(lines), "   "))
    if done.returncode != status:
        raise Failed(f"`limen {command[0]}` ended with status {done.returncode}")


def append(line: str, file: Path) -> None:
    """Add a line to a file, and show the command that does."""
    print(f"   $ echo '{line}' >> {file}")
    with file.open("a") as text:
        text.write(line + "\n")


def set_home(folder: Path) -> None:
    """Have all commands work on the registry in a folder."""
    print(f"   $ export {HOME}={folder}")
    os.environ[HOME] = str(folder)


def median_ms(work: Callable[[], object], times: int) -> float:
    """Return the median time of some work in milliseconds."""
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return sorted(taken)[times // 2] * 1e3


def seconds() -> float:
    """Return how long the demo has run."""
    return time.perf_counter() - STARTED


def say(text: str) -> None:
    """Begin a step, after the seconds since the start."""
    print(f"\n{seconds():5.1f} s  {text}")


def note(name: str, text: str, width: int = 14) -> None:
    """Print one fact of the present step."""
    print(f"   {name:<{width}}{text}")


def print_command(*command: str) -> None:
    """Print a command of the `limen` program as people type it."""
    print(f"   $ limen {' '.join(command)}")
