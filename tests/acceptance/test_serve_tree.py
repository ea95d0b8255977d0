"""The processes of one server: what `limen status` shows of them, and that each can be lost."""

import json
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import grpc
import pytest

from limen.gateway.grpc._generated import open_inference_pb2 as pb
from limen.gateway.grpc._generated.open_inference_pb2_grpc import GRPCInferenceServiceStub
from tests.services import plain_http
from tests.services.packages import write_iris, write_score
from tests.services.process import WAIT_S, Server, command_line, limen, refused, serving, wait_gone

SCORE = {"amount": 10, "age": 4}


def until(is_so: Callable[[], bool]) -> None:
    """Wait until something is so; other processes make it so, in their own time."""
    end = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.05)


def status_of(server: Server) -> dict:
    """Return what `limen status --json` says of a server."""
    done = limen("status", "--json")
    assert done.returncode == 0, done.stderr
    return next(s for s in json.loads(done.stdout) if s["pid"] == server.pid)


def processes_of(server: Server, kind: str) -> list[dict]:
    return [p for p in status_of(server)["processes"] if p["kind"] == kind]


@pytest.fixture
def server(tmp_path):
    package = write_score(tmp_path / "score")
    with serving(package, "--workers", 2, announcement=tmp_path / "a.json") as server:
        yield server


def test_the_status_shows_the_tree_and_the_versions(server, tmp_path):
    server.predict("score", **SCORE)
    done = limen("status")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[1].startswith(f"  Limen server {server.pid}, ready, up ")
    assert lines[2].startswith(f"  REST http://{server.announced['http']}  gRPC {server.grpc}  metrics http://")
    assert lines[3].startswith("  Ready        True     since 2")
    tree = [line.split() for line in lines[5:11]]
    names = [words[0] if words[0][0] not in "├└" else words[1] for words in tree]
    assert names == ["supervisor", "control", "gateway-1", "gateway-2", "template-onnx", "score-v1-1"]
    assert all("running" in words and "MiB" in words for words in tree)
    assert lines[12].startswith("  score  1 request, 0 errors, p50 ")
    assert lines[13].startswith("    in the last ")
    assert ": 1 request, 0 errors, p50 " in lines[13]
    assert lines[14] == f"    version 1  READY     1 replica, from {tmp_path / 'score'}"
    assert "Traceback" not in done.stdout

    found = status_of(server)
    pids = {p["pid"] for p in found["processes"]}
    assert pids == {server.pid, *server.children()}
    assert found["is_ready"] is True
    assert found["models"][0]["versions"][0]["state"] == "READY"
    assert server.stop() == (0, "")
    assert refused("status").startswith(f"error: no server is running with the home {tmp_path / '.limen'}\nhint: ")


def test_control_can_be_killed_and_nobody_who_calls_notices(server):
    (control,) = server.children("control")
    others = set(server.children()) - {control}
    os.kill(control, signal.SIGKILL)
    assert [server.predict("score", **SCORE) for _ in range(50)] == [{"score": 6.0}] * 50
    until(lambda: server.children("control") not in ([], [control]))
    (shown,) = processes_of(server, "control")
    assert (shown["phase"], shown["restarts"]) == ("running", 1)
    assert others < set(server.children())

    # The new one goes on from where the old one was.
    done = limen("reload", "score")
    assert done.stdout.startswith("version 2 of score answers instead of version 1"), done.stderr
    until(lambda: len(server.children("replica")) == 1)
    status, err = server.stop()
    assert status == 0
    assert len([line for line in err.splitlines() if "control ended with status -9" in line]) == 1


def test_a_gateway_that_hangs_is_replaced_and_the_status_says_so(server):
    stopped, goes_on = server.children("gateway")
    os.kill(stopped, signal.SIGSTOP)
    wait_gone([stopped])
    until(lambda: len([p for p in processes_of(server, "gateway") if p["phase"] == "running"]) == 2)
    hung = {p["name"]: p["hangs"] for p in processes_of(server, "gateway")}
    assert sorted(hung.values()) == [0, 1]
    assert goes_on in server.children("gateway")
    assert "killed 1× because it hung" in limen("status").stdout
    metrics = plain_http.get(f"http://{server.announced['metrics']}/metrics", timeout=WAIT_S).text
    (name,) = [name for name, count in hung.items() if count]
    assert f'limen_process_hangs_total{{process="{name}"}} 1' in metrics
    for _ in range(8):
        server.predict("score", **SCORE)


def test_control_that_hangs_is_replaced_and_nobody_who_calls_notices(server):
    (control,) = server.children("control")
    others = set(server.children()) - {control}
    os.kill(control, signal.SIGSTOP)
    asked = 0

    def is_replaced() -> bool:
        nonlocal asked
        assert server.predict("score", **SCORE) == {"score": 6.0}
        asked += 1
        return server.children("control") not in ([], [control])

    until(is_replaced)
    assert asked > 10
    assert others < set(server.children())
    (shown,) = processes_of(server, "control")
    assert (shown["phase"], shown["restarts"]) == ("running", 1)
    assert limen("reload", "score").stdout.startswith("version 2 of score answers instead of version 1")
    assert [server.predict("score", **SCORE) for _ in range(20)] == [{"score": 6.0}] * 20
    status, err = server.stop()
    assert status == 0
    assert "control does not go on and is killed" in err


def test_a_gateway_that_starts_without_control_serves_what_was_served_last(server):
    (control,) = server.children("control")
    before = set()
    until(lambda: before.add(server.worker()) or len(before) == 2)
    os.kill(control, signal.SIGSTOP)
    try:
        os.kill(server.children("gateway")[0], signal.SIGKILL)
        until(lambda: server.worker() not in before)
    finally:
        # On a slow machine it may have been found to hang, and replaced.
        with suppress(ProcessLookupError):
            os.kill(control, signal.SIGCONT)
    assert [server.predict("score", **SCORE) for _ in range(20)] == [{"score": 6.0}] * 20
    until(lambda: {p["phase"] for p in processes_of(server, "gateway")} == {"running"})
    assert server.stop()[0] == 0


def test_f02_a_killed_replica_comes_back_and_other_models_do_not_notice(tmp_path):
    packages = write_score(tmp_path / "score"), write_iris(tmp_path / "iris")
    with serving(*packages, announcement=tmp_path / "a.json") as server:
        victim = next(p["pid"] for p in processes_of(server, "replica") if p["model"] == "score")
        os.kill(victim, signal.SIGKILL)
        assert len([server.predict("iris", x=[1, 0, 0, 0]) for _ in range(20)]) == 20

        # It waits for the replica, or is told to come again.
        def answers() -> bool:
            answer = server.http.post("/v1/models/score:predict", json={"instances": [SCORE]})
            assert answer.status_code in (200, 503), answer.text
            return answer.status_code == 200

        until(answers)
        replicas = {p["model"]: p for p in processes_of(server, "replica")}
        assert (replicas["score"]["restarts"], replicas["iris"]["restarts"]) == (1, 0)
        assert server.stop()[0] == 0


def test_a_template_that_is_killed_is_replaced_and_its_replicas_go_on(server):
    (template,), (replica,) = server.children("template"), server.children("replica")
    os.kill(template, signal.SIGKILL)
    assert [server.predict("score", **SCORE) for _ in range(20)] == [{"score": 6.0}] * 20
    until(lambda: server.children("template") not in ([], [template]))
    assert server.children("replica") == [replica]
    # The next replica is forked from the new one, and is watched like the one before.
    os.kill(replica, signal.SIGKILL)
    until(lambda: server.children("replica") not in ([], [replica]))
    (shown,) = processes_of(server, "replica")
    assert (shown["pid"], shown["restarts"]) == (server.children("replica")[0], 1)
    assert command_line(shown["pid"]).startswith("limen replica score-v1-1")
    until(lambda: processes_of(server, "replica")[0]["phase"] == "running")
    assert server.predict("score", **SCORE) == {"score": 6.0}
    status, err = server.stop()
    assert status == 0
    assert "template-onnx ended with status -9" in err
    assert "is started without" not in err


def test_nothing_is_left_of_a_server_that_is_killed(server):
    started = server.children()
    assert {*server.children("template"), *server.children("replica")} < set(started)
    assert server.stop(signal.SIGKILL)[0] == -signal.SIGKILL
    wait_gone(started)


def test_f26_an_idle_model_is_let_go_and_a_herd_starts_it_once(tmp_path):
    package = write_score(tmp_path / "score")
    manifest = package / "model.yaml"
    manifest.write_text(manifest.read_text() + "serving: {replicas: {min: 0, max: 4, idle_s: 1}}\n")
    with serving(package, "--workers", 2, announcement=tmp_path / "a.json") as server:
        until(lambda: not server.children("replica"))
        assert server.http.get("/v2/models/score/ready").status_code == 200
        with ThreadPoolExecutor(8) as threads:
            answers = list(threads.map(lambda _: server.predict("score", **SCORE), range(8)))
        assert answers == [{"score": 6.0}] * 8
        (replica,) = processes_of(server, "replica")
        # The second one that was ever started.
        assert (replica["name"], replica["restarts"]) == ("score-v1-2", 0)
        assert server.stop() == (0, "")


def test_two_servers_share_a_home_and_are_shown_apart(tmp_path):
    score, iris = write_score(tmp_path / "score"), write_iris(tmp_path / "iris")
    with (
        serving(score, announcement=tmp_path / "a.json") as one,
        serving(iris, announcement=tmp_path / "b.json") as other,
    ):
        found = json.loads(limen("status", "--json").stdout)
        assert [(s["pid"], [m["name"] for m in s["models"]]) for s in found] == [
            (one.pid, ["score"]),
            (other.pid, ["iris"]),
        ]
        assert limen("reload", "iris").returncode == 0
        assert other.stop() == (0, "")
        # One that was killed leaves its files; they are not taken for a server.
        started = one.children()
        assert one.stop(signal.SIGKILL)[0] == -signal.SIGKILL
        wait_gone(started)
        refused("status")
        assert list((tmp_path / ".limen" / "run").iterdir()) == []


def test_the_metrics_of_all_processes_are_on_a_port_of_their_own(server):
    server.predict("score", **SCORE)
    text = plain_http.get(f"http://{server.announced['metrics']}/metrics", timeout=WAIT_S).text
    counted = [line for line in text.splitlines() if line.startswith("limen_gateway_requests_total{")]
    assert sum(float(line.rpartition(" ")[2]) for line in counted) == 1.0
    assert 'limen_process_state{process="gateway-1",state="running"} 1.0' in text
    assert server.stop() == (0, "")


def test_the_statistics_extension_counts_over_all_workers_and_both_transports(server):
    """Requests over connections of their own reach both gateways; each of them knows the numbers of both."""
    for _ in range(8):
        assert server.predict("score", **SCORE) == {"score": 6.0}

    def counted() -> int:
        (found,) = server.http.get("/v2/models/score/versions/1/stats").json()["model_stats"]
        assert found["latency"]["p99_ms"] > 0
        return found["inference_count"]

    until(lambda: counted() == 8)
    assert "statistics" in server.http.get("/v2").json()["extensions"]
    with grpc.insecure_channel(server.grpc) as channel:
        asked = pb.ModelStatisticsRequest(name="score")
        (told,) = GRPCInferenceServiceStub(channel).ModelStatistics(asked, timeout=WAIT_S).model_stats
    assert (told.name, told.version, told.inference_count) == ("score", "1", 8)
    assert told.inference_stats.success.count == 8
