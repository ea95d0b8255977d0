"""The log of a real server: with JSON every line of every process is an object, and nothing is written beside them."""

import os
import signal
import subprocess
import time
from pathlib import Path

import msgspec

from limen.client import Client
from tests.services import plain_http
from tests.services.packages import write_score
from tests.services.process import LIMEN, WAIT_S

SCORE = {"amount": 3, "age": 2}
BAD = {"instances": [{"amount": -1, "age": 2}]}


def test_every_line_of_every_process_is_an_object_and_says_what_happened(tmp_path: Path):
    package, announced = write_score(tmp_path / "score"), tmp_path / "ready.json"
    command = [*LIMEN, "serve", str(package), "--home", str(tmp_path / "home"), "--announce", str(announced)]
    command += ["--http-port", "0", "--grpc-port", "0", "--metrics-port", "0", "--log-format", "json", "--access-log"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        until(announced.exists)
        where = msgspec.json.decode(announced.read_bytes())
        url = f"http://{where['http']}/v1/models/score:predict"
        assert plain_http.post(url, json={"instances": [SCORE]}, timeout=WAIT_S).status_code == 200
        assert plain_http.post(url, json=BAD, headers={"x-request-id": "bad-1"}, timeout=WAIT_S).status_code == 400
        with Client(f"grpc://{where['grpc']}") as client:
            client.predict("score", SCORE)
        os.kill(replica_of(process.pid), signal.SIGKILL)
        until(lambda: plain_http.post(url, json={"instances": [SCORE]}, timeout=WAIT_S).status_code == 200)
    finally:
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=WAIT_S)
    assert (process.returncode, out) == (0, "")
    lines = [msgspec.json.decode(line) for line in err.splitlines()]
    assert all(list(line)[:5] == ["ts", "level", "process", "pid", "logger"] for line in lines), err
    events = [(f["event"], f["version"], f["actor"]) for f in lines if f["logger"] == "limen.events"]
    assert events[:2] == [("loading", "1", "local"), ("live", "1", "local")]
    calls = [f for f in lines if f["logger"] == "limen.access"]
    assert {(f["protocol"], f["status"], f.get("version")) for f in calls} >= {
        ("http", 200, "1"),
        ("http", 400, None),
        ("grpc", 0, "1"),
    }
    assert all(f["ms"] > 0 for f in calls)
    assert [f["code"] for f in calls if f["request_id"] == "bad-1"] == ["VALUE"]
    ended = [f["message"] for f in lines if f["logger"] == "limen.supervisor"]
    assert any("score-v1-1 ended with status -9" in text for text in ended), ended


def replica_of(server: int) -> int:
    children = Path(f"/proc/{server}/task/{server}/children").read_text().split()
    return next(int(pid) for pid in children if "limen replica" in Path(f"/proc/{pid}/cmdline").read_text())


def until(is_so) -> None:
    by = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < by
        time.sleep(0.05)
