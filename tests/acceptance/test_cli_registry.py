"""`limen publish`, `model`, `alias` and `endpoint` as people have them, and as programs do with `--json`."""

import io
import json
import os
import pty
import signal
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from limen.cli import main
from limen.packaging.archive.package import inspect
from tests.services.packages import write_score, write_weights
from tests.services.process import LIMEN, WAIT_S

NOBODY = "http://127.0.0.1:9"


class Desk:
    """A folder with a package in it, and a registry. Commands run in this process: each costs a second of imports otherwise."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.package = write_score(folder / "score")
        self._monkeypatch = monkeypatch

    def run(self, *arguments: object) -> tuple[int, str, str]:
        """Run a command as the `limen` script does; return its exit status, what it printed and what it complained of."""
        out, err = io.StringIO(), io.StringIO()
        self._monkeypatch.chdir(self.folder)
        self._monkeypatch.setattr(sys, "argv", ["limen", *map(str, arguments), "--home", "home"])
        status = 0
        with redirect_stdout(out), redirect_stderr(err):
            try:
                main()
            except SystemExit as ended:
                status = int(ended.code or 0)
        return status, out.getvalue(), err.getvalue()

    def says(self, *arguments: object) -> str:
        """Run a command that must do what it is told."""
        status, out, err = self.run(*arguments)
        assert (status, err) == (0, "")
        return out

    def gives(self, *arguments: object) -> object:
        return json.loads(self.says(*arguments, "--json"))

    def refuses(self, *arguments: object) -> list[str]:
        """Run a command that must fail, and return what it told people, which is never a traceback."""
        status, out, err = self.run(*arguments)
        assert status == 1, out + err
        assert "Traceback" not in out + err
        assert "failed unexpectedly" not in err
        return err.splitlines()

    def edit(self, old: str, new: str) -> None:
        manifest = self.package / "model.yaml"
        assert old in manifest.read_text()
        manifest.write_text(manifest.read_text().replace(old, new))

    def write(self, text: str) -> str:
        (self.folder / "endpoint.yaml").write_text(text)
        return "endpoint.yaml"


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(tmp_path, monkeypatch)


def test_publishing_says_what_was_found_out(desk: Desk):
    first = desk.says("publish", "score", "--alias", "champion", "--tag", "team=risk", "--source", "run 7").splitlines()
    assert first[0].startswith("score is version 1, score@champion  (major 1, ")
    found = {line.split()[1]: line.split() for line in first[1:]}
    assert found["golden"][0] == "PASS"
    assert " ".join(found["golden"][2:]) == "1 of 1 examples answered as recorded in the package"
    assert " ".join(found["scan"][2:6]) == "known formats and no"
    assert found["signature"][0] == "INCONCLUSIVE"

    desk.edit("title: Score", "title: Better")
    desk.edit("maximum: 130", "maximum: 150")
    second = desk.says("publish", "score").splitlines()
    assert second[0].startswith("score is version 2  (major 1, ")
    lines = [" ".join(line.split()) for line in second]
    assert "PASS behaviour 1 of 1 examples answered of version 1 as before" in lines
    [compatibility] = [line for line in lines if line.startswith("PASS compatibility")]
    assert compatibility.endswith("does not break callers of version 1: title (and 1 more)")
    assert desk.says("publish", "score").startswith("score is version 2 already")


def test_other_answers_than_before_are_refused_where_they_must_be_the_same(desk: Desk):
    desk.says("publish", "score")
    write_weights(desk.package, [[1.0], [0.5]])
    desk.edit("outputs: {score: 2.0}", "outputs: {score: 4.0}")
    assert "the answers differ from those of version 1" in " ".join(desk.refuses("publish", "score", "--same-answers"))
    assert "DIFFERS       behaviour" in desk.says("publish", "score")


def test_models_versions_and_aliases_are_shown(desk: Desk):
    desk.says("publish", "score", "--alias", "champion", "--tag", "team=risk", "--source", "run 7")
    desk.edit("title: Score", "title: Better")
    desk.says("publish", "score")
    assert desk.says("model", "list").splitlines()[1].split() == ["score", "2", "2", "champion", "→", "1", "Better"]
    assert [line.split()[0] for line in desk.says("model", "show", "score").splitlines()] == ["VERSION", "2", "1"]
    shown = desk.says("model", "show", "score", "champion")
    for words in ("score version 1", "team=risk", "run 7", "golden"):
        assert words in shown
    assert desk.says("alias", "set", "score", "champion", 2) == "score@champion is version 2, instead of version 1\n"
    assert desk.says("alias", "list", "score").splitlines()[1].split()[:2] == ["champion", "2"]
    assert desk.says("model", "retire", "score", 1, "--reason", "too old") == "version 1 of score is retired\n"
    assert "retired: too old" in desk.says("model", "show", "score")
    assert desk.says("model", "restore", "score", 1) == "version 1 of score is restored\n"
    assert desk.says("model", "tag", "score", "team=risk", "stage=test") == "stage=test, team=risk\n"
    assert desk.says("model", "tag", "score", "team=", "--version", 1) == "no tags\n"
    assert desk.says("alias", "remove", "score", "champion") == "removed score@champion\n"
    assert desk.says("alias", "list", "score") == "score has no aliases.\n"
    assert desk.says("model", "archive", "score", 2) == "score-2.limen\n"
    assert inspect(desk.folder / "score-2.limen").manifest.contract.title == "Better"


def test_everything_is_there_for_programs(desk: Desk):
    published = desk.gives("publish", "score", "--alias", "champion")
    assert (published["version"]["number"], published["is_new"]) == (1, True)
    desk.edit("title: Score", "title: Better")
    desk.says("publish", "score")
    assert [m["name"] for m in desk.gives("model", "list")] == ["score"]
    assert [v["number"] for v in desk.gives("model", "show", "score")] == [2, 1]
    assert {"version", "evidence"} == desk.gives("model", "show", "score", "1").keys()
    assert desk.gives("alias", "set", "score", "champion", 2)["version"] == 2
    assert [a["alias"] for a in desk.gives("alias", "list", "score")] == ["champion"]
    assert desk.gives("model", "retire", "score", 1)["is_retired"]
    assert desk.gives("model", "restore", "score", 1)["number"] == 1
    assert desk.gives("model", "tag", "score", "a=b")["tags"] == {"a": "b"}
    assert desk.gives("model", "archive", "score", 1, "-o", "x.limen") == {"path": "x.limen"}
    file = desk.write("name: score\ntraffic: champion\n")
    assert desk.gives("endpoint", "apply", file, "--yes")["spec"]["name"] == "score"
    assert desk.gives("endpoint", "apply", file)["spec"]["traffic"] == {"champion": 100}
    assert [e["spec"]["name"] for e in desk.gives("endpoint", "list")] == ["score"]
    assert desk.gives("endpoint", "show", "score")["spec"]["model"] == "score"
    assert (
        desk.refuses("endpoint", "delete", "score", "--json")[0]
        == "error: confirmation is needed, and this is not an interactive terminal"
    )
    assert desk.gives("endpoint", "delete", "score", "--yes") == {"name": "score"}
    assert desk.gives("alias", "remove", "score", "champion") == {"model": "score", "alias": "champion"}
    assert desk.gives("alias", "list", "score") == desk.gives("endpoint", "list") == []


def test_an_endpoint_is_applied_after_showing_what_would_change(desk: Desk):
    desk.says("publish", "score", "--alias", "champion")
    desk.edit("title: Score", "title: Better")
    desk.says("publish", "score")
    file = desk.write("name: score\ntraffic: champion\n")
    assert desk.refuses("endpoint", "apply", file)[-2:] == [
        "error: confirmation is needed, and this is not an interactive terminal",
        "hint: Use --yes to skip the confirmation.",
    ]
    assert desk.says("endpoint", "list") == "No endpoints yet; create one with `limen endpoint apply FILE`.\n"
    lines = desk.says("endpoint", "apply", file, "--yes").splitlines()
    assert (lines[0], lines[-1]) == ("score: a new endpoint", "score has revision 1; `limen serve` serves it")
    assert "  + traffic.champion: 100" in lines
    assert desk.says("endpoint", "apply", file) == "score is up to date (revision 1)\n"
    desk.write("name: score\ntraffic: {champion: 90, 2: 10}\n")
    lines = desk.says("endpoint", "apply", file, "--yes").splitlines()
    assert lines[:4] == [
        "score: changes revision 1",
        "  - traffic.champion: 100",
        "  + traffic.champion: 90",
        "  + traffic['2']: 10",
    ]
    assert desk.says("endpoint", "list").splitlines()[1].split() == ["score", "score", "champion", "90", "%,", "2", "10", "%", "–", "not", "served"]  # fmt: skip
    shown = desk.says("endpoint", "show", "score")
    assert shown.startswith("name: score\n")
    assert "revision 2, not served" in shown
    assert desk.says("endpoint", "delete", "score", "--yes") == "removed score\n"


def test_a_person_at_a_terminal_is_asked(desk: Desk):
    desk.says("publish", "score", "--alias", "champion")
    desk.write("name: score\ntraffic: champion\n")
    assert asked(desk, "n\n") == 1
    assert desk.gives("endpoint", "list") == []
    assert asked(desk, "\x03") == 1
    assert desk.gives("endpoint", "list") == []
    assert asked(desk, "y\n") == 0
    assert len(desk.gives("endpoint", "list")) == 1


def asked(desk: Desk, answer: str) -> int:
    """Apply at a terminal, answer when the question is there, and return the exit status."""
    ours, theirs = pty.openpty()
    command = [*LIMEN, "endpoint", "apply", "endpoint.yaml", "--home", "home"]
    process = subprocess.Popen(command, cwd=desk.folder, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    seen = ""
    while "Apply this?" not in seen:
        seen += os.read(ours, 1024).decode()
    if answer == "\x03":
        os.kill(process.pid, signal.SIGINT)
        answer = "\n"  # wakes whoever had not begun to read when the signal came
    os.write(ours, answer.encode())
    status = process.wait(WAIT_S)
    os.close(ours)
    assert "Traceback" not in seen
    return status


def test_what_is_wrong_is_said_with_what_to_do_next(desk: Desk):
    desk.says("publish", "score", "--alias", "champion")
    (desk.folder / "junk").write_text("x")
    cases = [
        (("publish", "nothing"), "nothing found at nothing", "Give a folder"),
        (("publish", "junk"), "the archive is refused", "`limen build FOLDER`"),
        (("publish", "score", "--tag", "team"), "--tag team is not KEY=VALUE", "--tag team=risk"),
        (("model", "show", "nobody"), "no such model", "`limen model list`"),
        (("model", "show", "score", "9"), "score has no such version; it has 1", "`limen model list`"),
        (("model", "show", "score", "nobody"), "score has no such alias; its aliases: champion", "`limen model list`"),
        (("model", "retire", "score", 1), "the alias champion points to it", "`limen alias list MODEL`"),
        (("model", "tag", "score", "team"), "team is not KEY=VALUE", "KEY= removes"),
        (("model", "archive", "score", 1, "-o", "no/where"), "cannot write no/where", "--output"),
        (("model", "archive", "score", 1, "-o", "."), "cannot write .", "--output"),
        (("alias", "set", "score", "champion", 9), "score has no such version; it has 1", "`limen model list`"),
        (
            ("alias", "remove", "score", "nobody"),
            "score has no such alias; its aliases: champion",
            "`limen model list`",
        ),
        (("endpoint", "apply", "nothing.yaml"), "no such file: nothing.yaml", "`name` and `traffic`"),
        (("endpoint", "show", "nobody"), "no such endpoint", "`limen endpoint list`"),
        (("endpoint", "delete", "nobody", "--yes"), "no such endpoint", "`limen endpoint list`"),
        (("model", "list", "--server", NOBODY), f"cannot reach the server at {NOBODY}", "`limen status`"),
        (("publish", "score", "--server", NOBODY), f"cannot reach the server at {NOBODY}", "`limen status`"),
        (("model", "list", "--server", "127.0.0.1:8002"), "--server must start with http://", "--server http://"),
    ]
    for arguments, what, hint in cases:
        lines = desk.refuses(*arguments)
        assert lines[0].startswith(f"error: {what}"), lines
        assert lines[-1].startswith("hint: "), lines
        assert hint in lines[-1]


def test_reading_makes_no_registry(desk: Desk):
    for arguments in (("model", "list"), ("model", "show", "score"), ("alias", "list", "score"), ("endpoint", "list")):
        assert desk.refuses(*arguments) == [
            "error: no registry in home yet",
            "hint: Create one with `limen publish PACKAGE`.",
        ]
    assert not (desk.folder / "home").exists()


def test_every_mistake_of_a_description_is_shown(desk: Desk):
    desk.says("publish", "score", "--alias", "champion")
    lines = desk.refuses("endpoint", "apply", desk.write("name: score\ntraffic: {champion: 99}\ncolour: red\n"))
    assert lines[0] == "error: endpoint.yaml"
    assert [line.partition(":")[0].strip(" -") for line in lines[1:]] == ["colour", "traffic"]
    [line] = desk.refuses("endpoint", "apply", desk.write("name: score\ntraffic: nobody\n"))
    assert "traffic.nobody: the model score has no such version or alias" in line
    [line] = desk.refuses("endpoint", "apply", desk.write("name: other\ntraffic: champion\n"))
    assert "no model named other; set `model:` if the endpoint's name differs from the model's" in line


def test_a_breaking_version_is_refused_with_each_finding(desk: Desk):
    desk.says("publish", "score")
    desk.edit("minimum: 0, maximum: 1000", "minimum: 1, maximum: 900")
    lines = desk.refuses("publish", "score")
    assert "breaks callers of version 1" in lines[0]
    assert [line.split()[1] for line in lines[1:3]] == ["inputs.amount.minimum:", "inputs.amount.maximum:"]


def test_ctrl_c_ends_a_command_without_a_trace(desk: Desk):
    process = subprocess.Popen(
        [*LIMEN, "publish", "score", "--home", "home"],
        cwd=desk.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    home = desk.folder / "home"
    while not (home / "limen.db").exists() and process.poll() is None:
        pass
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=WAIT_S)
    assert process.returncode in {0, 130}
    assert "Traceback" not in err
    assert desk.says("publish", "score").startswith("score is version 1")


def test_publish_opens_an_endpoint_for_a_model_that_has_none(desk: Desk):
    told = desk.says("publish", "score", "--alias", "champion")
    assert told.splitlines()[-1].startswith("No endpoint serves score yet: open one with `limen publish … --endpoint`")
    told = desk.says("publish", "score", "--alias", "champion", "--endpoint")
    assert told.splitlines()[-1] == "score has revision 1; `limen serve` serves it"
    assert desk.says("endpoint", "list").splitlines()[1].split()[:4] == ["score", "score", "champion", "100"]
    assert desk.says("publish", "score", "--endpoint").splitlines()[-1] == "score already has an endpoint: score"
    desk.edit("title: Score", "title: Score\nmajor: 2")
    assert desk.says("publish", "score", "--endpoint").splitlines()[-1].startswith("score.v2 has revision 1")
    assert "traffic:\n  2: 100" in desk.says("endpoint", "show", "score.v2")


def test_inspect_takes_what_the_registry_calls_a_version(desk: Desk):
    desk.says("publish", "score", "--alias", "champion")
    of_the_folder = desk.says("inspect", "score").splitlines()
    for name in ("score/1", "score@champion"):
        assert desk.says("inspect", name).splitlines() == of_the_folder
    assert desk.refuses("inspect", "score/7")[0] == "error: score has no such version; it has 1"


def test_deleting_a_version_names_what_to_do_instead(desk: Desk):
    desk.says("publish", "score")
    lines = desk.refuses("model", "delete", "score", 1)
    assert lines[-1] == "hint: To stop using a version, run `limen model retire MODEL VERSION`."


def test_a_command_waits_for_a_server_that_is_just_starting(desk: Desk):
    desk.says("publish", "score", "--alias", "champion", "--endpoint")
    ports = [word for port in ("http", "grpc", "metrics", "admin") for word in (f"--{port}-port", "0")]
    command = [*LIMEN, "serve", "--home", "home", *ports]
    process = subprocess.Popen(command, cwd=desk.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        while not list((desk.folder / "home/run").glob("*/server.json")):
            assert process.poll() is None, process.communicate()
        assert desk.says("alias", "set", "score", "champion", 1).splitlines()[-1] == "score is ready with version 1"
    finally:
        process.terminate()
        out, _ = process.communicate(timeout=WAIT_S)
    assert out.splitlines()[0] == "  Starting: the registry in home"
