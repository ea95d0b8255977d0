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

from tests.acceptance.example_server import environment

DEMO_S = 240
pytestmark = pytest.mark.timeout(3 * DEMO_S)
WAYS = ("REST records", "OIP JSON", "OIP binary", "gRPC", "typed gRPC")
ANSWERED = {
    "credit +REST records": "1",
    "credit/versions/2 +OIP JSON": "2",
    "credit@challenger +gRPC": "2",
    "credit, version 2 +typed gRPC": "2",
    "credit.v2 +REST records": "3",
}
BROKEN = (
    "inputs.revolving_utilization.maximum: The maximum changes from 200 to 150",
    "inputs.employment_length: It was removed",
    "inputs.installment_limit.default: The default was removed",
)


@pytest.fixture
def demo(repository: Path, tmp_path: Path) -> list[str]:
    """Return the demo's command, with a home of its own."""
    return [sys.executable, str(repository / "examples" / "credit" / "demo.py"), "--home", str(tmp_path / "demo")]


def check_answers(printed: str) -> None:
    """See that the first half says that all is well."""
    for way in WAYS:
        assert re.search(rf"^ +{way} .* the same$", printed, re.MULTILINE), printed
    assert "all answers are those of the model" in printed
    assert "instances[0].loan_amount      must be ≥ 500" in printed
    assert "instances[0].inquiries_6m     is required" in printed


def check_evolution(printed: str) -> None:
    """See that versions came and went, and that the caller who asked all the time noticed nothing."""
    assert "credit is version 1, credit@champion  (major 1" in printed
    assert "credit/2 does not break callers of credit/1." in printed
    for asked, version in ANSWERED.items():
        assert re.search(rf"^ +{asked} +{version} +0\.\d{{4}}$", printed, re.MULTILINE), printed
    for version in ("2", "1"):
        switched = (
            rf"^ +\d+ ms later credit answers with version {version}; [1-9][\d,]* requests meanwhile, none failed$"
        )
        assert re.search(switched, printed, re.MULTILINE), printed
    refused = printed.partition("error: the contract breaks callers of version 2")[2]
    assert all(f"- {reason}" in refused for reason in BROKEN), printed
    assert re.search(r"by version 1, [1-9][\d,]* by version 2; none failed$", printed, re.MULTILINE), printed


def _run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=DEMO_S, check=False
    )


@pytest.mark.slow
def test_the_demo_can_be_run_again_and_again(demo: list[str], tmp_path: Path) -> None:
    """Each time it ends well, no library prints a warning, and nobody listens afterwards."""
    for _ in range(2):
        done = _run([*demo, "--once"], tmp_path)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
        check_answers(done.stdout)
        check_evolution(done.stdout)
        announced = json.loads((tmp_path / "demo" / "server.json").read_text())
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(announced["http"].split(":"), timeout=5)


@pytest.mark.parametrize("ending", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_the_demo_tells_its_story_and_serves_until_it_is_ended(
    demo: list[str], tmp_path: Path, ending: signal.Signals
) -> None:
    """The addresses it prints answer; afterwards nobody listens there. A port in use is explained, and so is a home in use."""
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
            check_answers(printed)
            check_evolution(printed)
            titles = r"docs|OpenAPI|contract|typed \.proto|management"
            urls = re.findall(rf"^ +(?:{titles}) +(http://\S+)$", printed, re.MULTILINE)
            assert len(urls) == 5
            for url in urls:
                with urllib.request.urlopen(url, timeout=10) as response:
                    assert response.status == 200
            second = _run([*demo, "--once"], tmp_path)
            assert (second.returncode, second.stdout) == (1, "")
            assert "a demo is running with this home" in second.stderr
            server = json.loads((tmp_path / "demo" / "server.json").read_text())
            process.send_signal(ending)
            assert process.wait(timeout=DEMO_S) == 0
        finally:
            process.terminate()  # which also stops its server
            process.wait(timeout=DEMO_S)
    assert log.read_text().rstrip().endswith("Stopped.")
    with pytest.raises(ProcessLookupError):
        os.kill(server["pid"], 0)


def _wait_for(text: str, process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + DEMO_S
    while text not in (printed := log.read_text()):
        assert process.poll() is None, printed
        assert time.monotonic() < deadline, printed
        time.sleep(0.05)
    return printed


def test_without_the_libraries_the_demo_says_what_to_do(demo: list[str], tmp_path: Path) -> None:
    """A Python without site-packages has none of them."""
    done = _run([demo[0], "-S", *demo[1:], "--once"], tmp_path)
    assert done.returncode == 1
    assert re.search(r"needs the Python package \w+\. Run `make setup` first\.", done.stderr)
    assert "Traceback" not in done.stderr
