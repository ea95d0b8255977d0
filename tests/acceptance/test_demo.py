"""`make demo` says what it does, ends well, and stops what it started."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests.acceptance.example_server import TIMEOUT_S, environment, run

WAYS = ("REST records", "OIP JSON", "OIP binary", "gRPC")


@pytest.fixture
def demo(repository: Path, tmp_path: Path) -> list[str]:
    """Return the demo's command, with a home of its own."""
    return [sys.executable, str(repository / "examples" / "credit" / "demo.py"), "--home", str(tmp_path / "demo")]


def test_the_demo_answers_in_four_ways_as_the_model_does(demo: list[str], tmp_path: Path) -> None:
    """`run` also sees that it ends with status 0 and that no library prints a warning."""
    printed = run([*demo, "--once"], tmp_path)
    for way in WAYS:
        assert re.search(rf"^ +{way} .* the same$", printed, re.MULTILINE), printed
    assert "all answers are those of the model" in printed
    assert "instances[0].loan_amount      must be ≥ 500" in printed
    assert "instances[0].inquiries_6m     is required" in printed
    announced = json.loads((tmp_path / "demo" / "server.json").read_text())
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(announced["http"].split(":"), timeout=5)


@pytest.mark.parametrize("ending", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_the_demo_serves_until_it_is_ended(demo: list[str], tmp_path: Path, ending: signal.Signals) -> None:
    """The addresses it prints answer; afterwards nobody listens there. A port in use is explained."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):  # somebody else has it, which is as good
            taken.bind(("127.0.0.1", 8000))
            taken.listen()
        log = tmp_path / "demo.log"
        with log.open("wb") as output:
            process = subprocess.Popen(demo, cwd=tmp_path, env=environment(), stdout=output, stderr=subprocess.STDOUT)
        try:
            printed = _wait_for("Ctrl-C stops it.", process, log)
            assert "Port 8000 is taken by another program" in printed
            for url in re.findall(r"^ +(?:docs|OpenAPI|contract|typed \.proto) +(http://\S+)$", printed, re.MULTILINE):
                with urllib.request.urlopen(url, timeout=10) as response:
                    assert response.status == 200
            server = json.loads((tmp_path / "demo" / "server.json").read_text())
            process.send_signal(ending)
            assert process.wait(timeout=TIMEOUT_S) == 0
        finally:
            process.terminate()  # which also stops its server
            process.wait(timeout=TIMEOUT_S)
    assert log.read_text().rstrip().endswith("Stopped.")
    with pytest.raises(ProcessLookupError):
        os.kill(server["pid"], 0)


def _wait_for(text: str, process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + TIMEOUT_S
    while text not in (printed := log.read_text()):
        assert process.poll() is None, printed
        assert time.monotonic() < deadline, printed
        time.sleep(0.05)
    return printed


def test_without_the_libraries_the_demo_says_what_to_do(demo: list[str], tmp_path: Path) -> None:
    """A Python without site-packages has none of them."""
    bare = [demo[0], "-S", *demo[1:], "--once"]
    done = subprocess.run(bare, cwd=tmp_path, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 1
    assert re.search(r"needs the Python package \w+\. Run `make setup` first\.", done.stderr)
    assert "Traceback" not in done.stderr
