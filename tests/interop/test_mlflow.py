"""A real MLflow server with its registry: what was logged there is imported, served, and answers as mlflow.pyfunc does."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.services.process import LIMEN, serving

ENVIRONMENT = Path(__file__).parents[2] / ".venv-mlflow"
"""MLflow pins libraries of its own, so it lives in an environment of its own; the test makes it when it is not there."""
LOG = Path(__file__).parent / "clients" / "log_to_mlflow.py"
WAIT_S = 240
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "GIT_PYTHON_REFRESH": "quiet"}

pytestmark = [pytest.mark.slow, pytest.mark.interop, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def python() -> Path:
    """Return the interpreter of an environment with MLflow and the same scikit-learn and XGBoost as here."""
    found = ENVIRONMENT / "bin" / "python"
    if not found.exists():
        uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
        if uv is None:
            pytest.skip("needs uv, to install MLflow")
        same = [f"{name}=={version(name)}" for name in ("scikit-learn", "xgboost-cpu")]
        subprocess.run([uv, "venv", "--python", sys.executable, ENVIRONMENT], check=True, capture_output=True)
        install = [uv, "pip", "install", "--python", found, "mlflow>=3.4,<4", *same]
        if subprocess.run(install, check=False, capture_output=True).returncode:
            shutil.rmtree(ENVIRONMENT)
            pytest.skip("MLflow cannot be installed here")
    return found


@pytest.fixture(scope="module")
def server(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A tracking server over SQLite that hands out artifacts itself."""
    folder = tmp_path_factory.mktemp("mlflow")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [python, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += [
        "--backend-store-uri",
        f"sqlite:///{folder}/mlflow.db",
        "--artifacts-destination",
        str(folder / "artifacts"),
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=os.environ | QUIET, stdout=log, stderr=log, start_new_session=True
        )
    try:
        _wait_healthy(f"http://127.0.0.1:{port}", process, folder / "log")
        yield f"http://127.0.0.1:{port}"
    finally:
        # It starts workers of its own, in its session.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait_healthy(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()[-4000:]
        with suppress(httpx.HTTPError):
            if httpx.get(f"{url}/health").status_code == 200:
                return
        time.sleep(0.2)
    pytest.fail(f"MLflow did not start: {log.read_text()[-4000:]}")


@pytest.fixture(scope="module")
def rows() -> list[dict[str, object]]:
    random = np.random.default_rng(3)
    homes = ("rent", "own", "other")
    return [
        {"age": int(random.integers(18, 80)), "income": round(float(random.normal(3000, 900)), 2), "home": homes[i % 3]}
        for i in range(60)
    ]


@pytest.fixture(scope="module")
def answers(python: Path, server: str, rows, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list]:
    """Log the models and return what MLflow itself answers."""
    file = tmp_path_factory.mktemp("rows") / "rows.json"
    file.write_text(json.dumps({"rows": rows}))
    done = subprocess.run(
        [python, "-W", "ignore", LOG, file],
        env=os.environ | QUIET | {"MLFLOW_TRACKING_URI": server},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_logged_models_are_imported_from_the_registry_and_answer_as_pyfunc_does(server, answers, rows, tmp_path):
    credit, boosted = tmp_path / "credit", tmp_path / "boosted"
    environment = os.environ | {"MLFLOW_TRACKING_URI": server}
    for source, folder, options in (
        ("mlflow:models:/credit@champion", credit, ["--trust-pickle"]),
        ("mlflow:models:/boosted/1", boosted, []),
    ):
        command = [*LIMEN, "import", source, "--dir", str(folder), *options]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    assert not list(tmp_path.rglob("*.pkl"))
    origin = json.loads((credit / "origin.json").read_text())
    assert origin["source"] == "mlflow:models:/credit/1"
    assert origin["parity"]["rows"] > 8

    with serving(credit, boosted, "--home", tmp_path / "home", announcement=tmp_path / "a.json") as limen:
        found = {
            name: limen.http.post(f"/v1/models/{name}:predict", json={"instances": instances}).json()["predictions"]
            for name, instances in (
                ("credit", rows),
                ("boosted", [{"age": row["age"], "income": row["income"]} for row in rows]),
            )
        }
    assert [row["label"] for row in found["credit"]] == answers["credit"]
    assert [row["label"] for row in found["boosted"]] == answers["boosted"]
    chances = [row["probabilities"] for row in found["credit"]]
    np.testing.assert_allclose(chances, answers["credit_chances"], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(
        [row["probabilities"][1] for row in found["boosted"]], answers["boosted_chances"], rtol=1e-6
    )


def test_what_the_registry_does_not_have_is_said(server, answers, tmp_path):
    for source in ("mlflow:models:/credit/99", "mlflow:models:/nothing@champion"):
        command = [*LIMEN, "import", source, "--tracking-uri", server, "--dir", str(tmp_path / "x")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
        assert (done.returncode, done.stdout) == (1, "")
        assert "the MLflow server has no such model, version or alias" in done.stderr
    assert not (tmp_path / "x").exists()
