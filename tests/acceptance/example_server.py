"""Runs the real `limen` command for the tests of the examples: to its end, or as a server on ports of the system's choice."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SCRIPTS = Path(sys.executable).parent
TIMEOUT_S = 60
LAST_LINE = "Ctrl-C stops it"


def environment() -> dict[str, str]:
    """Return the environment of somebody who has activated ours, and whose terminal is a plain one."""
    return {**os.environ, "PATH": f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}", "NO_COLOR": "1"}


def run(command: Sequence[str | Path], folder: Path) -> str:
    """Run a program, ours if it is one of ours, in a folder and return what it prints; it must end well."""
    program, *arguments = map(str, command)
    done = subprocess.run(
        [shutil.which(program, path=str(SCRIPTS)) or program, *arguments],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return done.stdout


@contextmanager
def serving(*arguments: str, folder: Path) -> Iterator[dict[str, Any]]:
    """Run `limen serve` in a folder until the block ends; yield its announcement, and the file that it prints to as `log`."""
    announcement, log = folder / "announcement.json", folder / "serve.log"
    announcement.unlink(missing_ok=True)
    ports = ("--http-port", "0", "--grpc-port", "0", "--metrics-port", "0", "--announce", str(announcement))
    with log.open("wb") as output, (folder / "serve-stderr.log").open("wb") as errors:
        command = [str(SCRIPTS / "limen"), "serve", *arguments, *ports]
        server = subprocess.Popen(command, cwd=folder, env=environment(), stdout=output, stderr=errors)
    try:
        deadline = time.monotonic() + TIMEOUT_S
        while not announcement.exists():
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < deadline, f"not ready after {TIMEOUT_S} s: {log.read_text()}"
            time.sleep(0.02)
        yield json.loads(announcement.read_text()) | {"log": log}
        server.terminate()
        assert server.wait(timeout=TIMEOUT_S) == 0, log.read_text()
    finally:
        server.kill()
        server.wait()


def printed(log: Path) -> str:
    """Return what a server has printed, once it has said everything: it announces itself before it does."""
    deadline = time.monotonic() + TIMEOUT_S
    while LAST_LINE not in (text := log.read_text()):
        assert time.monotonic() < deadline, text
        time.sleep(0.02)
    return text


def post(url: str, body: Any) -> Any:
    """POST JSON and return the JSON answer."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
        return json.load(response)
