"""What the processes of a server know of the secrets of whoever started it."""

import os
from pathlib import Path

import pytest

from tests.services.packages import write_code
from tests.services.process import refused, serving

FIELDS = """\
inputs: [{name: file, type: string, examples: [""]}]
outputs: [{name: found, type: string}]
"""
SPY = """\
import os
import numpy as np


def look(where):
    if not where.startswith("/"):
        return os.environ.get(where, "")
    try:
        return open(where, "rb").read().decode("latin-1").replace("\\0", " ")
    except OSError as exc:
        return type(exc).__name__


class Model:
    def predict(self, inputs):
        return {"found": np.array([look(file) for file in inputs["file"]], object)}
"""
NEEDLE = "needle77"


@pytest.fixture
def spy(tmp_path) -> Path:
    return write_code(tmp_path / "spy", FIELDS, SPY)


def look(server, where: str) -> str:
    return str(server.predict("spy", file=where)["found"])


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")
@pytest.mark.parametrize("placement", ["process", "inline"])
def test_a_model_sees_no_secret_of_the_server(placement, spy, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", NEEDLE)
    options = ("--trust-code", "--placement", placement)
    with serving(spy, *options, announcement=tmp_path / "a.json") as server:
        assert look(server, "AWS_SECRET_ACCESS_KEY") == ""
        assert look(server, "PATH") == os.environ["PATH"]
        assert NEEDLE not in look(server, "/proc/self/environ")
        for kind in ("gateway", "replica"):
            for pid in server.children(kind):
                assert NEEDLE.encode() not in Path(f"/proc/{pid}/environ").read_bytes()
        if placement == "process":
            for pid in (server.pid, *server.children("control")):
                assert look(server, f"/proc/{pid}/environ") == "PermissionError"
        server.stop()


def test_code_is_given_the_variables_it_declares(spy, tmp_path, monkeypatch):
    monkeypatch.setenv("RISK_TABLE", "/data/risk.csv")
    monkeypatch.setenv("OTHER", NEEDLE)
    with (spy / "model.yaml").open("a") as manifest:
        manifest.write("environment: [RISK_TABLE]\n")
    with serving(spy, "--trust-code", announcement=tmp_path / "a.json") as server:
        assert [look(server, name) for name in ("RISK_TABLE", "OTHER")] == ["/data/risk.csv", ""]
        server.stop()


def test_variables_cannot_be_given_to_code_in_the_gateways(spy):
    with (spy / "model.yaml").open("a") as manifest:
        manifest.write("environment: [RISK_TABLE]\n")
    told = refused(
        "serve", spy, "--trust-code", "--placement", "inline", "--http-port", 0, "--grpc-port", 0, "--metrics-port", 0
    )
    assert "environment: RISK_TABLE can only be passed to separate model processes" in told
