"""The protocol's management extensions on a real server: models come and go at the word of a caller, for all workers and for good."""

import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from limen.client import Management
from limen.contracts.endpoint import EndpointSpec
from limen.gateway.grpc._generated import open_inference_pb2 as pb
from limen.gateway.grpc._generated.open_inference_pb2_grpc import GRPCInferenceServiceStub
from limen.packaging.archive.package import build
from tests.services import plain_http
from tests.services.gate import gate_in
from tests.services.packages import write_gate, write_score
from tests.services.process import WAIT_S, Server, limen, serving

SCORE = {"amount": 10, "age": 4}
GONE = ("UNAVAILABLE", "unloaded")


def until(is_so: Callable[[], bool]) -> None:
    """Wait until something is so; other processes make it so, in their own time."""
    end = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.02)


def post(server: Server, path: str, body: Any = None) -> httpx.Response:
    """Ask over a new connection, so that any worker may answer."""
    return plain_http.post(f"{server.http.base_url}{path}", json={} if body is None else body, timeout=WAIT_S)


def index(server: Server) -> dict[tuple[str, str], tuple[str, str]]:
    """Return state and reason of every version, by model and version; nothing while control is away."""
    answer = post(server, "/v2/repository/index")
    if answer.status_code == 503:
        return {}
    assert answer.status_code == 200, answer.text
    return {(e["name"], e.get("version", "")): (e["state"], e["reason"]) for e in answer.json()}


def statuses(server: Server, *models: str) -> dict[str, int]:
    """Return what each model answers a readiness check."""
    found = {
        m: plain_http.get(f"{server.http.base_url}/v2/models/{m}/ready", timeout=WAIT_S).status_code for m in models
    }
    return found | {"": plain_http.get(f"{server.http.base_url}/v2/health/ready", timeout=WAIT_S).status_code}


@contextmanager
def over_grpc(server: Server) -> Iterator[GRPCInferenceServiceStub]:
    with grpc.insecure_channel(server.grpc) as channel:
        yield GRPCInferenceServiceStub(channel)


@pytest.fixture
def server(tmp_path) -> Iterator[Server]:
    packages = write_score(tmp_path / "score"), write_gate(tmp_path / "gate")
    options = ("--trust-code", "--workers", 2, "--home", tmp_path / "home", "--model-control", "explicit")
    with serving(*packages, *options, announcement=tmp_path / "a.json") as server:
        yield server


def test_a_model_is_unloaded_while_it_is_used_and_loaded_again(server, tmp_path):
    assert index(server) == {("score", "1"): ("READY", ""), ("gate", "1"): ("READY", "")}
    with ThreadPoolExecutor() as pool, gate_in(tmp_path) as gate:
        running = [pool.submit(server.predict, "gate", socket=str(gate.path)) for _ in range(4)]
        until(lambda: _in_hand(server) == 4)
        unloaded = pool.submit(post, server, "/v2/repository/models/gate/unload")
        until(lambda: statuses(server, "gate")["gate"] == 503)
        # What is in hand is answered.
        for _ in running:
            gate.wait_for_request()
            gate.open()
        assert [call.result() for call in running] == [{"answer": "done"}] * 4
        assert unloaded.result().status_code == 200
    until(lambda: index(server)["gate", "1"] == GONE)
    until(lambda: len(server.children("replica")) == 1)
    # The server as a whole is ready: what is unloaded is not missed.
    assert statuses(server, "gate", "score") == {"gate": 503, "score": 200, "": 200}
    for path in ("/v1/models/gate", "/v2/models/gate/stats", "/v2/models/gate/config", "/v2/models/gate"):
        assert plain_http.get(f"{server.http.base_url}{path}", timeout=WAIT_S).status_code == 503, path
    counted = plain_http.get(f"{server.http.base_url}/v2/models/stats", timeout=WAIT_S).json()
    assert [m["name"] for m in counted["model_stats"]] == ["score"]
    assert server.predict("score", **SCORE) == {"score": 6.0}
    assert post(server, "/v2/repository/models/gate/unload").status_code == 200
    assert [e["name"] for e in post(server, "/v2/repository/index", {"ready": True}).json()] == ["score"]
    assert "unloaded" in limen("status", "--home", _home(server)).stdout

    assert post(server, "/v2/repository/models/gate/load").status_code == 200
    assert [server.predict("gate", socket="") for _ in range(10)] == [{"answer": "done"}] * 10
    assert index(server) == {("score", "1"): ("READY", ""), ("gate", "2"): ("READY", "")}
    # A model that is loaded is loaded again.
    assert post(server, "/v2/repository/models/gate/load").status_code == 200
    until(lambda: index(server) == {("score", "1"): ("READY", ""), ("gate", "3"): ("READY", "")})


def test_an_unloaded_model_stays_so_when_control_and_gateways_are_replaced(server):
    with over_grpc(server) as stub:
        stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name="score"), timeout=WAIT_S)
        until(lambda: index(server)["score", "1"] == GONE)
        (control,) = server.children("control")
        os.kill(control, signal.SIGKILL)
        until(lambda: server.children("control") not in ([], [control]) and index(server) != {})
        assert index(server)["score", "1"] == GONE
        (gateway, *_) = server.children("gateway")
        os.kill(gateway, signal.SIGKILL)
        until(lambda: len(set(server.children("gateway")) - {gateway}) == 2)
        assert index(server)["score", "1"] == GONE
    with over_grpc(server) as stub:
        stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="score"), wait_for_ready=True, timeout=WAIT_S)

        def ready() -> set[tuple[str, str]]:
            found = stub.RepositoryIndex(pb.RepositoryIndexRequest(ready=True), wait_for_ready=True, timeout=WAIT_S)
            return {(m.name, m.version) for m in found.models}

        # A gateway that has just taken another's place may still be getting a model ready.
        until(lambda: ready() == {("score", "2"), ("gate", "1")})
    assert server.predict("score", **SCORE) == {"score": 6.0}


def test_a_load_that_fails_says_why_and_leaves_everything_as_it_was(server, tmp_path):
    manifest = tmp_path / "score" / "model.yaml"
    good = manifest.read_text()
    manifest.write_text(good.replace("score: 2.0", "score: 3.0"))
    answer = post(server, "/v2/repository/models/score/load")
    assert answer.status_code == 409
    assert "golden" in answer.json()["error"]
    assert server.predict("score", **SCORE) == {"score": 6.0}
    found = index(server)
    assert found["score", "1"] == ("READY", "")
    assert found["score", "2"][0] == "UNAVAILABLE"
    assert "golden" in found["score", "2"][1]

    post(server, "/v2/repository/models/score/unload")
    until(lambda: index(server)["score", "1"] == GONE)
    manifest.write_text("nonsense")
    answer = post(server, "/v2/repository/models/score/load")
    assert answer.status_code == 409
    assert str(tmp_path) not in answer.text
    assert statuses(server, "score")["score"] == 503
    manifest.write_text(good)
    assert post(server, "/v2/repository/models/score/load").status_code == 200
    assert server.predict("score", **SCORE) == {"score": 6.0}


def test_what_is_logged_is_changed_for_all_workers(server):
    def ask_everybody(name: str) -> None:
        workers: set[str] = set()
        until(lambda: workers.add(server.worker()) or len(workers) == 2)  # type: ignore[func-returns-value]
        for _ in range(20):
            plain_http.get(f"{server.http.base_url}/v2/models/{name}", timeout=WAIT_S)

    ask_everybody("quiet")
    changed = post(server, "/v2/logging", {"log_info": True, "log_warning": False})
    assert (changed.json()["log_info"], changed.json()["log_warning"]) == (True, False)
    ask_everybody("not-logged")
    ask_everybody("score")
    status, err = server.stop()
    assert status == 0
    # Names that are none of ours are not logged: what nobody serves may be anything.
    assert len(re.findall(r" limen\.access: http 404 /v2/models/\{m\} code=", err)) == 20
    assert len(re.findall(r" limen\.access: http 200 /v2/models/\{m\} model=score ", err)) == 20


def test_in_a_registry_unloading_pauses_an_endpoint_for_good(tmp_path):
    archive = build(write_score(tmp_path / "score"), tmp_path / "dist").path
    home = ("--home", tmp_path / "home", "--admin-port", "0")

    def state() -> set[tuple[str, str]]:
        return set(index(server).values())

    with serving(*home, "--model-control", "explicit", announcement=tmp_path / "a.json") as server:
        with Management(f"http://{server.announced['admin']}") as management:
            management.publish("score", archive, alias="champion")
            management.apply_endpoint(EndpointSpec(name="score", model="score", traffic={"champion": 100}))
            until(lambda: state() == {("READY", "")})
            assert post(server, "/v2/repository/models/score/unload").status_code == 200
            until(lambda: state() == {GONE})
            assert management.endpoint("score").spec.is_paused
            assert statuses(server, "score") == {"score": 503, "": 200}
        status, err = server.stop()
        assert status == 0, err
    with serving(*home, "--model-control", "explicit", announcement=tmp_path / "b.json") as server:
        with Management(f"http://{server.announced['admin']}") as management:
            assert index(server) == {("score", ""): GONE}
            with over_grpc(server) as stub:
                stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="score"), timeout=WAIT_S)
            assert index(server) == {("score", "1"): ("READY", "")}
            assert not management.endpoint("score").spec.is_paused
            assert [r.spec.is_paused for r in management.endpoint_history("score").items] == [False, True, False]
        assert server.predict("score", **SCORE) == {"score": 6.0}
        config = plain_http.get(f"{server.http.base_url}/v2/models/score@champion/config", timeout=WAIT_S).json()
        assert (config["name"], config["version_policy"]) == ("score", {"specific": {"versions": [1]}})
        status, err = server.stop()
        assert status == 0, err


def _home(server: Server) -> Path:
    command = Path(f"/proc/{server.pid}/cmdline").read_bytes().split(b"\0")
    return Path(os.fsdecode(command[command.index(b"--home") + 1]))


def _status(server: Server) -> dict[str, Any]:
    found: list[dict[str, Any]] = json.loads(limen("status", "--json", "--home", _home(server)).stdout)
    return found[0]


def _in_hand(server: Server) -> int:
    return sum(v["leases"] for m in _status(server)["models"] for v in m["versions"])
