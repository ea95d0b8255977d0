"""grpcurl knows nothing of Limen: what it finds and calls, it finds through reflection."""

import html
import json
import re

import pytest

from tests.interop.conftest import Peer

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]
SERVICE = "inference.GRPCInferenceService"


def call(peer: Peer, method: str, message: object) -> object:
    return json.loads(peer.run("grpcurl", "-plaintext", "-d", json.dumps(message), peer.server.grpc, method))


def test_the_services_are_listed_and_described(peer: Peer):
    listed = peer.run("grpcurl", "-plaintext", peer.server.grpc, "list").split()
    assert {SERVICE, "grpc.health.v1.Health"} <= set(listed)
    described = peer.run("grpcurl", "-plaintext", peer.server.grpc, "describe", SERVICE)
    assert "rpc ModelInfer ( .inference.ModelInferRequest ) returns ( .inference.ModelInferResponse );" in described
    assert "rpc ModelStreamInfer ( stream .inference.ModelInferRequest )" in described
    message = peer.run("grpcurl", "-plaintext", peer.server.grpc, "describe", "inference.ModelInferRequest")
    assert "repeated bytes raw_input_contents = 7;" in message


def test_health_is_answered_for_the_server_and_for_a_model(peer: Peer):
    for service in ("", "score", SERVICE):
        assert call(peer, "grpc.health.v1.Health/Check", {"service": service}) == {"status": "SERVING"}


def test_typed_tensors_are_answered_in_kind(peer: Peer):
    inputs = [
        {"name": "amount", "datatype": "FP32", "shape": [1], "contents": {"fp32_contents": [10]}},
        {"name": "age", "datatype": "INT32", "shape": [1], "contents": {"int_contents": [4]}},
    ]
    answer = call(peer, f"{SERVICE}/ModelInfer", {"model_name": "score", "id": "mine-1", "inputs": inputs})
    assert answer == {
        "model_name": "score",
        "model_version": "1",
        "id": "mine-1",
        "outputs": [{"name": "score", "datatype": "FP32", "shape": ["1"], "contents": {"fp32_contents": [6]}}],
    }


def test_the_command_of_the_docs_page_works(peer: Peer):
    """What the page offers to copy is run as it stands, by a shell."""
    page = peer.server.http.get("/docs").text
    commands = [html.unescape(code) for code in re.findall(r"<code>(grpcurl .*?)</code>", page, re.DOTALL)]
    assert len(commands) == 14
    for command in commands:
        word = "predictions" if "limen.models." in command else "outputs"
        assert word in peer.run("../../.venv-interop/bin/python", "-c", _SHELL, command), command


_SHELL = """
import os, subprocess, sys
os.environ["PATH"] = os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"]
sys.exit(subprocess.run(sys.argv[1], shell=True, timeout=60).returncode)
"""
