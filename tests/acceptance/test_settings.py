"""A server is started with a file, variables and flags, follows its file while it runs, and survives a broken one."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec

from tests.services.packages import write_score
from tests.services.process import WAIT_S, limen, serving

RECORD = {"amount": 3, "age": 2}


def status(home: Path) -> dict:
    done = limen("status", "--home", home, "--json")
    assert done.returncode == 0, done.stderr
    [found] = msgspec.json.decode(done.stdout.encode())
    return found


def until(is_so) -> None:
    end = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.1)


def test_a_server_takes_its_settings_from_everywhere_and_follows_the_file(tmp_path, limen_home, monkeypatch):
    write_score(tmp_path / "score")
    file, log = tmp_path / "limen.toml", tmp_path / "log"
    text = '[serve]\npackages = ["score"]\nworkers = 2\n[http]\nmax_body_bytes = {}\nmax_headers = 20\n'
    file.write_text(text.format(1000))
    monkeypatch.setenv("LIMEN_CONFIG", str(file))
    monkeypatch.setenv("LIMEN_HTTP_MAX_HEADERS", "30")
    body = {"instances": [RECORD] * 100}
    with serving("--workers", "1", announcement=tmp_path / "a.json", log=log) as server:
        # The file names the package, a flag goes before its workers and a variable before its headers.
        assert len(server.children("gateway")) == 1
        assert server.http.get("/v2/health/live", headers={f"x-{i}": "1" for i in range(22)}).status_code == 200
        assert server.http.post("/v1/models/score:predict", json=body).status_code == 413

        file.write_text(text.format(100_000) + "drain_s = 1\n")
        until(lambda: server.http.post("/v1/models/score:predict", json=body).status_code == 200)
        until(lambda: status(limen_home)["settings"]["needs_restart"] == ["http.drain_s"])
        assert "settings     " in limen("status", "--home", limen_home).stdout

        file.write_text(text.format('"hunter2"'))
        until(lambda: "max_body_bytes" in status(limen_home)["settings"]["problem"])
        degraded = next(c for c in status(limen_home)["conditions"] if c["type"] == "Degraded")
        assert (degraded["status"], degraded["reason"]) == ("True", "SettingsInvalid")
        assert f"{file}:5" in degraded["message"]
        assert server.http.post("/v1/models/score:predict", json=body).status_code == 200

        file.write_text(text.format(2000))
        until(lambda: server.http.post("/v1/models/score:predict", json=body).status_code == 413)
        assert status(limen_home)["settings"]["problem"] == ""
        assert server.stop()[0] == 0
    told = log.read_text()
    assert "need a restart of the server: http.drain_s" in told
    assert "hunter2" not in told


def test_a_server_does_not_start_with_a_mistake_in_its_settings(tmp_path):
    file = tmp_path / "limen.toml"
    file.write_text("[serve]\nworkers = 1000\n[htpp]\n")
    done = limen("serve", "--config", file)
    assert done.returncode == 1
    assert f"serve.workers: must be a whole number from 1 to 256 ({file}:2)" in done.stderr
    assert f"htpp: is not a section; did you mean http? ({file}:3)" in done.stderr
