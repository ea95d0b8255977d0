"""What `limen serve` does on its way up: what it serves, what it says and what it refuses."""

import json
import socket
import stat
from pathlib import Path

import grpc
import numpy as np
import pytest

from limen import __version__
from limen.gateway.grpc._generated import open_inference_pb2 as pb
from limen.gateway.grpc._generated.open_inference_pb2_grpc import GRPCInferenceServiceStub
from tests.services.packages import write_code, write_countdown, write_gate, write_iris, write_score
from tests.services.process import limen, refused, serving

ANY_PORTS = ("--http-port", 0, "--grpc-port", 0, "--metrics-port", 0)
"""Other servers may run on this machine."""


def test_folders_and_archives_are_served_side_by_side_over_rest_and_grpc(tmp_path):
    score, iris = write_score(tmp_path / "score"), write_iris(tmp_path / "iris")
    built = limen("build", iris, "--output", tmp_path / "dist")
    archive = Path(built.stdout.split()[0])

    with serving(score, archive, announcement=tmp_path / "a.json") as server:
        assert server.http.get("/v2/models").json() == {"models": ["score", "iris"]}
        assert server.predict("score", amount=10, age=4) == {"score": 6.0}
        chances = server.predict("iris", x=[1, 0, 0, 0])["y"]
        assert np.argmax(chances) == 1

        with grpc.insecure_channel(server.grpc) as channel:
            request = pb.ModelInferRequest(model_name="iris")
            request.inputs.add(name="x", datatype="FP32", shape=[1, 4])
            request.raw_input_contents.append(np.array([1, 0, 0, 0], np.float32).tobytes())
            answer = GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=30)
        assert np.frombuffer(answer.raw_output_contents[0], np.float32).tolist() == pytest.approx(chances)

        status, err = server.stop()
    assert (status, err) == (0, "")


def test_the_summary_says_what_is_served_where_and_what_to_type(tmp_path):
    score, iris = write_score(tmp_path / "score"), write_iris(tmp_path / "iris")
    with serving(score, iris, announcement=tmp_path / "a.json") as server:
        http, rpc = server.announced["http"], server.announced["grpc"]
        expected = f"""  Starting: {score}, {iris}

  Limen {__version__} is ready, 1 worker

    score  onnx  2 inputs, 1 output  Score
    iris   onnx  1 input, 1 output

  docs   http://{http}/docs
  REST   http://{http}
  gRPC   {rpc}

  Try it:
    curl http://{http}/v1/models/score:predict -H 'content-type: application/json' \\
      -d '{{"instances":[{{"amount":3,"age":2}}]}}'

  Ctrl-C stops it after in-flight requests are answered.
"""
        assert server.summary == expected
        page = server.http.get("/docs")
        assert page.status_code == 200
        assert page.headers["content-type"].startswith("text/html")
        assert server.stop()[0] == 0


def test_the_announcement_is_exact_and_replaces_an_earlier_one_as_a_whole(tmp_path):
    announcement = tmp_path / "a.json"
    announcement.write_text('{"http": "127.0.0.1:1", "of": "an earlier server"}')
    with announcement.open() as earlier, serving(write_score(tmp_path / "score"), announcement=announcement) as server:
        # Whoever had the old file open still reads the old one: it was replaced, never written into.
        assert "earlier" in earlier.read()
        assert server.announced.keys() == {"http", "grpc", "metrics", "pid", "admin"}
        assert server.announced["pid"] == server.pid
        assert not [p for p in tmp_path.iterdir() if p.name.startswith(".a.json")]
        for address in (server.announced["http"], server.announced["grpc"], server.announced["metrics"]):
            host, _, port = address.rpartition(":")
            assert host == "127.0.0.1"
            socket.create_connection((host, int(port)), timeout=30).close()
        server.stop()


def test_a_failed_start_leaves_no_announcement_of_an_earlier_server(tmp_path):
    announcement = tmp_path / "a.json"
    announcement.write_text('{"http": "127.0.0.1:1"}')
    wrong = write_score(tmp_path / "score", golden=3.0)
    refused("serve", wrong, *ANY_PORTS, "--announce", announcement)
    assert not announcement.exists()


@pytest.mark.parametrize("where", ["missing/a.json", "folder"])
def test_an_announcement_that_cannot_be_written_is_told_before_anything_is_loaded(tmp_path, where):
    (tmp_path / "folder").mkdir()
    told = refused("serve", write_score(tmp_path / "score"), *ANY_PORTS, "--announce", tmp_path / where)
    assert f"cannot announce the addresses in {tmp_path / where}: " in told
    assert "hint: --announce takes a file" in told


def test_two_packages_of_one_name_are_refused(tmp_path):
    one, other = write_score(tmp_path / "one"), write_score(tmp_path / "other")
    assert refused("serve", one, other, *ANY_PORTS) == (
        f"error: two packages are named score: {one} and {other}\n"
        "hint: Each package is served under its own name; change `name` in one model.yaml, or use separate servers.\n"
    )


@pytest.mark.parametrize("option", ["--http-port", "--grpc-port", "--metrics-port"])
def test_a_port_in_use_is_named_with_a_way_out(tmp_path, option):
    package = write_score(tmp_path / "score")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        told = refused("serve", package, *ANY_PORTS, option, port)
    assert told == (
        f"error: cannot listen on 127.0.0.1:{port} ({option}): Address already in use\n"
        f"hint: Another program listens there; choose another port with {option}, or 0 for a free one.\n"
    )


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.20", "example.org"])
def test_listening_beyond_loopback_is_refused_with_an_explanation(tmp_path, host):
    told = refused("serve", write_score(tmp_path / "score"), "--host", host)
    assert f"refusing to listen on {host}: anyone who can reach this machine could call the models" in told
    assert (
        "hint: Use --host 127.0.0.1 and put a reverse proxy that authenticates in front; it must send `Host: localhost`."
        in told
    )


def test_a_path_without_a_package_is_named(tmp_path):
    nothing, empty, text = tmp_path / "nothing", tmp_path / "empty", tmp_path / "notes.txt"
    empty.mkdir()
    text.write_text("hello")
    assert f"error: nothing found at {nothing}\nhint: Give a folder" in refused("serve", nothing, *ANY_PORTS)
    assert f"error: {empty} is not a package: it has no model.yaml\nhint: `limen init" in refused(
        "serve", empty, *ANY_PORTS
    )
    assert f"error: {text}: the archive is refused: it is not a package" in refused("serve", text, *ANY_PORTS)


def test_every_mistake_in_a_manifest_is_listed_at_once(tmp_path):
    (tmp_path / "model.yaml").write_text(
        "name: Bad Name\nbackend: onnx\ncolour: red\ninputs: [{name: a, type: floot}]\n"
    )
    told = refused("serve", tmp_path, *ANY_PORTS)
    assert told.startswith(f"error: {tmp_path}: model.yaml has 5 mistakes\n")
    listed = [line.split(":")[0] for line in told.splitlines() if line.startswith("  - ")]
    assert sorted(listed) == ["  - artifact", "  - colour", "  - inputs[0].type", "  - name", "  - outputs"]


def test_a_pickle_is_refused_whatever_it_is_called(tmp_path):
    package = write_score(tmp_path / "score")
    (package / "model.onnx").write_bytes(b"\x80\x04cos\nsystem\n(S'touch /tmp/pwned'\ntR.")
    told = refused("serve", package, *ANY_PORTS)
    assert f"error: {package}: the package holds unsafe files: model.onnx: is a pickle" in told
    assert "hint: Save the model in a format without code: ONNX, skops" in told


def test_code_runs_only_when_it_is_trusted(tmp_path):
    package = write_countdown(tmp_path / "countdown")
    assert refused("serve", package, *ANY_PORTS) == (
        f"error: {package}: the package contains code (model.py), which runs only with --trust-code\n"
        "hint: Read the code first: it runs with all your permissions.\n"
    )
    with serving(package, "--trust-code", announcement=tmp_path / "a.json") as server:
        assert server.http.get("/v2/models/countdown/ready").status_code == 200
        assert server.stop()[0] == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_a_model_that_gives_another_answer_than_its_golden_one_is_not_served(tmp_path, workers):
    wrong = write_score(tmp_path / "score", golden=3.0)
    told = refused("serve", wrong, *ANY_PORTS, "--workers", workers)
    assert told == (
        "error: score: the answer to an example differs from the recorded one: "
        "golden.score: expected 3.0, got 2.0 (difference 1)\n"
        "hint: `limen check PACKAGE` shows everything that is wrong with a package.\n"
    )


def test_an_artifact_that_is_cut_short_is_refused_by_its_content(tmp_path):
    package = write_score(tmp_path / "score")
    whole = (package / "model.onnx").read_bytes()
    (package / "model.onnx").write_bytes(whole[: len(whole) // 2])
    told = refused("serve", package, *ANY_PORTS)
    assert told.startswith("error: score: the artifact cannot be loaded: model.onnx: must be onnx for this backend")


def test_a_model_whose_code_fails_is_not_served_and_its_owner_sees_where(tmp_path):
    manifest = "inputs: [{name: a, type: int32}]\noutputs: [{name: b, type: int32}]\n"
    code = "class Model:\n    def predict(self, inputs):\n        raise ValueError('for the owner')\n"
    package = write_code(tmp_path / "failing", manifest, code)
    done = limen("serve", package, "--trust-code", *ANY_PORTS)
    assert done.returncode == 1
    # The owner starts the server: the model's own traceback is what helps, once, above the sentence.
    assert done.stderr.count("raise ValueError('for the owner')") == 1
    assert "ValueError\n" in done.stderr
    # What the exception says may hold a caller's values: it is for whoever checks the package, and whoever debugs.
    assert "ValueError: for the owner" not in done.stderr
    assert "ValueError: for the owner" in limen("check", package, "--trust-code").stderr
    assert "error: failing: no right answer to a record made from the contract: The model failed" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["x", "--http-port", "70000"], "Invalid value for '--http-port'"),
        (["x", "--workers", "0"], "Invalid value for '--workers'"),
        (["x", "--workers", "two"], "Invalid value for '--workers'"),
        (["x", "--placement", "moon"], "Invalid value for '--placement'"),
        (["x", "--fast"], "No such option"),
    ],
)
def test_wrong_usage_ends_with_status_2_and_names_the_argument(arguments, told):
    assert told in refused("serve", *arguments, status=2)


def test_the_announcement_and_the_archive_cache_are_where_they_should_be(tmp_path, limen_home):
    package = write_gate(tmp_path / "gate")
    archive = Path(limen("build", package, "-o", tmp_path / "dist").stdout.split()[0])
    with serving(archive, "--trust-code", announcement=tmp_path / "a.json") as server:
        assert server.predict("gate", socket="") == {"answer": "done"}
        server.stop()
    assert limen_home.is_dir()
    assert json.loads((tmp_path / "a.json").read_text())["pid"] == server.pid
    assert not stat.S_IMODE(archive.stat().st_mode) & stat.S_IXUSR
