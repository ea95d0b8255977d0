"""Triton's load tool measures the real server over both transports, and reads its configuration and statistics for that."""

import csv
import subprocess
from pathlib import Path

import pytest

from tests.interop.conftest import BIN, Peer

pytestmark = [pytest.mark.interop, pytest.mark.slow, pytest.mark.timeout(300)]
PROGRAM = BIN.parent / "perf-analyzer" / "run"
MEASUREMENT = ("--measurement-interval", "500", "--stability-percentage", "999", "--max-trials", "3")
"""Short, and content with any number: it is not the speed that is tested."""


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_it_measures_a_model_and_what_the_server_counts(peer: Peer, protocol: str, tmp_path: Path):
    if not PROGRAM.exists():
        pytest.skip("`make interop` could not fetch perf_analyzer")
    address = {"http": peer.server.announced["http"], "grpc": peer.server.grpc}[protocol]
    report = tmp_path / "report.csv"
    command = [PROGRAM, "-m", "iris", "-i", protocol, "-u", address, "--concurrency-range", "2"]
    command += ["--input-data", "zero", *MEASUREMENT, "-f", report]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    [row] = csv.DictReader(report.read_text().splitlines())
    assert (row["Concurrency"], float(row["Inferences/Second"]) > 0) == ("2", True)
    # Whatever the server counts is read from the statistics extension.
    assert {"Server Queue", "Server Compute Infer"} <= row.keys()
    assert "Server: " in done.stdout
