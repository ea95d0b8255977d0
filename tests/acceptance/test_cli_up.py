"""`limen up`: one command from a trained model to an answer, and again whenever the model is trained again."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.services.packages import write_score, write_weights
from tests.services.process import WAIT_S, Server, refused, serving

SAMPLE = "amount,age\n3,2\n10,40\n"
CODE = """\
class Model:
    def predict(self, inputs):
        return {"prediction": inputs["amount"] * FACTOR}


FACTOR = 2.0
"""


def test_a_trained_model_answers_after_one_command_and_again_when_it_is_trained_again(tmp_path: Path):
    package = write_score(tmp_path / "score")
    model, sample, home = package / "model.onnx", tmp_path / "sample.csv", tmp_path / "home"
    sample.write_text(SAMPLE)
    arguments = (model, "--sample", sample, "--name", "score", "--home", home)
    with serving(*arguments, announcement=tmp_path / "ready.json", command_name="up") as server:
        assert "is fit to serve." in server.summary
        assert "/v1/models/score:predict" in server.summary
        assert _answers(server) == 2.0
        write_weights(package, [[1.0], [0.25]])
        _until(lambda: _answers(server) == 3.5)
        manifest = home / "up/score/model.yaml"
        manifest.write_text(manifest.read_text().replace("# title: a short name for people", "title: Mine"))
        _until(lambda: "Mine" in server.http.get("/v1/models/score/openapi.json").text)
        write_weights(package, [[2.0], [0.25]])
        _until(lambda: _answers(server) == 6.5)
        assert "title: Mine" in manifest.read_text()


def test_a_model_that_cannot_be_taken_leaves_the_one_before_it(tmp_path: Path):
    package = write_score(tmp_path / "score")
    model, sample = package / "model.onnx", tmp_path / "sample.csv"
    sample.write_text(SAMPLE)
    arguments = (model, "--sample", sample, "--name", "score", "--home", tmp_path / "home")
    with serving(*arguments, announcement=tmp_path / "ready.json", command_name="up") as server:
        model.write_bytes(b"not a model at all")
        assert server.process.stdout is not None
        line = next(line for line in server.process.stdout if "cannot be used" in line)
        assert str(model) in line
        assert _answers(server) == 2.0
        write_weights(package, [[1.0], [0.25]])
        _until(lambda: _answers(server) == 3.5)


def test_an_edited_contract_outlives_the_command(tmp_path: Path):
    package = write_score(tmp_path / "score")
    model, sample, home = package / "model.onnx", tmp_path / "sample.csv", tmp_path / "home"
    sample.write_text(SAMPLE)
    arguments = (model, "--sample", sample, "--name", "score", "--home", home)
    with serving(*arguments, announcement=tmp_path / "ready.json", command_name="up"):
        manifest = home / "up/score/model.yaml"
        manifest.write_text(manifest.read_text().replace("# title: a short name for people", "title: Mine"))
    with serving(*arguments, announcement=tmp_path / "ready.json", command_name="up") as server:
        assert "model.yaml has been edited and is kept" in server.summary
        assert "Mine" in server.summary


def test_a_package_is_served_as_it_is(tmp_path: Path):
    package = write_score(tmp_path / "score")
    with serving(
        package, "--home", tmp_path / "home", announcement=tmp_path / "ready.json", command_name="up"
    ) as server:
        assert server.predict("score", amount=3, age=2) == {"score": 2.0}
        assert not (tmp_path / "home/up").exists()


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("nothing.onnx",), "error: nothing found at nothing.onnx"),
        (("notes.txt",), "error: notes.txt is "),
        (("double.py", "--sample", "sample.csv"), "error: double.py is Python code and runs with your permissions"),
        (("double.py", "--name", "Bad Name"), "error: --name: must be 1 to 63"),
    ],
)
def test_what_cannot_be_served_is_said_in_a_line(arguments: tuple[str, ...], what: str, tmp_path: Path):
    (tmp_path / "notes.txt").write_text("remember the milk")
    (tmp_path / "double.py").write_text(CODE)
    (tmp_path / "sample.csv").write_text("amount\n3.5\n")
    assert refused("up", *arguments, cwd=tmp_path).startswith(what)


def _answers(server: Server) -> float:
    (value,) = server.predict("score", amount=3, age=2).values()
    return value[0] if isinstance(value, list) else value


def _until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < end, "the server did not follow"
        time.sleep(0.1)
