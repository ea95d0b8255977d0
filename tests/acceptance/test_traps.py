"""Limen runs no code of the folder it is started in, in any of its processes, whatever that folder holds."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from sklearn.linear_model import LogisticRegression

from limen.runtime.sandbox.child import model_environment, start
from tests.acceptance.test_operations import until
from tests.services.packages import write_code, write_iris, write_score, write_weights
from tests.services.process import WAIT_S, serving
from tests.services.traps import STARTUP, set_traps

SCRIPT = Path(sys.executable).parent / "limen"
COMMANDS = {"script": [str(SCRIPT)], "module": [sys.executable, "-m", "limen"]}
ECHO = """\
import sys


class Model:
    def predict(self, inputs):
        return {"y": inputs["x"] * (0 if "" in sys.path else 1)}
"""
FIELDS = "inputs: [{name: x, type: float32, minimum: 0, maximum: 9}]\noutputs: [{name: y, type: float32}]\n"


class Traps:
    """A folder of traps as the working directory, and what has run of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._marks = folder.parent / "marks"
        set_traps(folder, self._marks)

    def sprung(self) -> str:
        return self._marks.read_text() if self._marks.exists() else ""


@pytest.fixture
def traps(tmp_path, monkeypatch) -> Traps:
    found = Traps(tmp_path / "traps")
    monkeypatch.chdir(found.folder)
    monkeypatch.setenv("PYTHONSTARTUP", str(found.folder / STARTUP))
    return found


def run(command: list[str], *arguments: object) -> str:
    done = subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_no_command_imports_from_the_working_directory(command, traps, tmp_path):
    package = write_iris(tmp_path / "iris")
    data = pickle.dumps(LogisticRegression().fit([[0.0, 1.0], [1.0, 0.0]], [0, 1]))
    (tmp_path / "m.pkl").write_bytes(data)

    assert run(command, "--version").startswith("limen ")
    run(command, "import", tmp_path / "m.pkl", "--dir", tmp_path / "made", "--trust-pickle")
    assert traps.sprung() == ""
    if command == COMMANDS["script"]:
        for verb in ("inspect", "check", "publish"):
            run(command, verb, package)
        assert traps.sprung() == ""


@pytest.mark.parametrize("placement", ["process", "inline"])
def test_no_process_of_a_server_imports_from_the_working_directory(placement, traps, tmp_path):
    code = write_code(tmp_path / "echo", FIELDS, ECHO)
    score = write_score(tmp_path / "score", examples="examples: [{inputs: {amount: 1, age: 1}}]")
    options = ("--trust-code", "--watch", "--placement", placement)
    with serving(code, score, *options, announcement=tmp_path / "a.json") as server:
        assert server.predict("echo", x=2) == {"y": 2.0}
        write_weights(score, [[1.0], [1.0]])
        until(lambda: server.predict("score", amount=1, age=1) == {"score": 2.0})
        server.stop()
    assert traps.sprung() == ""


def test_no_process_that_serves_a_registry_imports_from_the_working_directory(traps, tmp_path):
    package = write_iris(tmp_path / "iris")
    with serving("--admin-port", 0, announcement=tmp_path / "a.json") as server:
        run(COMMANDS["script"], "publish", package, "--alias", "champion")
        server.stop()
    assert traps.sprung() == ""


def test_an_empty_entry_of_pythonpath_does_not_lead_children_to_the_working_directory(traps, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep + "/nowhere")
    command = [sys.executable, "-P", "-c", "import json, numpy, selectors, sys; print(sys.path)"]
    for environment in (None, model_environment(1)):
        said, _ = start(command, environment).communicate(timeout=WAIT_S)
        assert "/nowhere" in said.decode()
        assert str(traps.folder) not in said.decode()
    assert traps.sprung() == ""


def test_a_folder_that_pythonpath_names_is_searched(tmp_path, monkeypatch):
    (tmp_path / "of_the_operator.py").write_text("print('found')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    said, _ = start([sys.executable, "-P", "-c", "import of_the_operator"], model_environment(1)).communicate()
    assert said == b"found\n"
