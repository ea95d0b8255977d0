"""Another version of a running model: loaded beside the one that answers, and swapped in only when it gives right answers."""

import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.services import plain_http
from tests.services.packages import write_iris, write_score
from tests.services.process import WAIT_S, Server, limen, refused, serving

BODY = {"instances": [{"amount": 10, "age": 4}]}


class Callers:
    """Threads that ask for one model without a pause and note what they get."""

    def __init__(self, server: Server, count: int = 3) -> None:
        self.versions: list[str] = []
        self.wrong: list[str] = []
        self._server = server
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(count)]

    def _ask(self) -> None:
        with plain_http.Client(base_url=self._server.http.base_url, timeout=WAIT_S) as client:
            while not self._is_over.is_set():
                answer = client.post("/v1/models/score:predict", json=BODY)
                if answer.status_code != 200 or answer.json()["predictions"] != [{"score": 6.0}]:
                    self.wrong.append(answer.text)
                else:
                    self.versions.append(answer.json()["model_version"])

    @contextmanager
    def calling(self) -> Iterator[None]:
        for thread in self._threads:
            thread.start()
        try:
            self.wait_for(10)
            yield
            self.wait_for(10)
        finally:
            self._is_over.set()
            for thread in self._threads:
                thread.join(WAIT_S)

    def wait_for(self, more: int) -> None:
        """Wait until that many further answers have come, or a wrong one."""
        enough = len(self.versions) + more
        until = time.monotonic() + WAIT_S
        while len(self.versions) < enough and not self.wrong:
            assert time.monotonic() < until
            time.sleep(0.01)


def version_of(server: Server) -> str:
    return str(server.http.post("/v1/models/score:predict", json=BODY).json()["model_version"])


def retitle(package, title: str) -> None:
    manifest = package / "model.yaml"
    manifest.write_text(manifest.read_text().replace("title: Score", f"title: {title}"))


@pytest.mark.parametrize("placement", ["process", "inline"])
def test_a_reload_swaps_the_version_and_no_request_fails(tmp_path, placement):
    package = write_score(tmp_path / "score")
    options = ("--workers", 2, "--placement", placement)
    with serving(package, *options, announcement=tmp_path / "a.json") as server:
        callers = Callers(server)
        with callers.calling():
            retitle(package, "Better")
            done = limen("reload", "score")
            assert done.returncode == 0, done.stderr
            assert done.stdout.startswith("version 2 of score answers instead of version 1, after ")
            # From here on every gateway has it.
            assert {version_of(server) for _ in range(10)} == {"2"}
        assert callers.wrong == []
        assert set(callers.versions) == {"1", "2"}
        assert server.http.get("/v2/models/score").json()["versions"] == ["2"]
        assert server.stop() == (0, "")


def test_the_replicas_of_the_version_before_are_ended(tmp_path):
    package = write_score(tmp_path / "score")
    with serving(package, announcement=tmp_path / "a.json") as server:
        (before,) = server.children("replica")
        assert limen("reload", "score").returncode == 0
        until = time.monotonic() + WAIT_S
        while before in server.children("replica"):
            assert time.monotonic() < until
            time.sleep(0.05)
        assert len(server.children("replica")) == 1
        assert server.stop() == (0, "")


def test_another_folder_can_take_the_place_and_the_old_one_may_be_gone(tmp_path):
    package = write_score(tmp_path / "score")
    write_score(tmp_path / "other")
    with serving(package, announcement=tmp_path / "a.json") as server:
        shutil.rmtree(package)
        assert limen("reload", "score", "other", cwd=tmp_path).returncode == 0
        assert version_of(server) == "2"
        assert server.stop() == (0, "")


@pytest.mark.parametrize("placement", ["process", "inline"])
def test_a_version_that_gives_wrong_answers_is_not_swapped_in_and_says_why(tmp_path, placement):
    package, wrong = write_score(tmp_path / "score"), write_score(tmp_path / "wrong", golden=3.0)
    with serving(package, "--placement", placement, announcement=tmp_path / "a.json") as server:
        callers = Callers(server)
        with callers.calling():
            told = refused("reload", "score", wrong)
            reason = "the answer to an example differs from the recorded one: golden.score: expected 3.0, got 2.0 (difference 1)"
            assert f"error: version 2 of score failed: {reason}; version 1 keeps serving\n" in told
        assert callers.wrong == []
        assert set(callers.versions) == {"1"}
        shown = limen("status").stdout
        assert "version 1  READY" in shown
        assert "version 2  FAILED" in shown
        assert f"      {reason}\n" in shown
        # The next one that is right takes its place, and the failure is history.
        assert limen("reload", "score", package).returncode == 0
        assert version_of(server) == "3"
        assert "FAILED" not in limen("status").stdout
        assert server.stopped_well("VersionFailed", "version 2 failed", "version 3 failed", "Degraded is False")


def test_a_version_that_cannot_be_loaded_or_opened_is_told_with_its_reason(tmp_path):
    package = write_score(tmp_path / "score")
    with serving(package, announcement=tmp_path / "a.json") as server:
        cut = write_score(tmp_path / "cut")
        whole = (cut / "model.onnx").read_bytes()
        (cut / "model.onnx").write_bytes(whole[: len(whole) // 2])
        assert "error: version 2 of score failed: the artifact cannot be loaded: " in refused("reload", "score", cut)

        (cut / "model.onnx").unlink()
        assert f"error: {cut}: model.yaml" in refused("reload", "score", cut)
        iris = write_iris(tmp_path / "iris")
        assert f"error: {iris}: the package is named iris and not score\n" in refused("reload", "score", iris)
        assert "error: no running server serves a model named iris\n" in refused("reload", "iris")
        assert version_of(server) == "1"
        assert server.stopped_well("VersionFailed", "version 2 failed", "version 3 failed", "Degraded is False")


def test_a_watched_package_is_loaded_again_when_it_changes_and_kept_when_it_breaks(tmp_path):
    package = write_score(tmp_path / "score")
    with serving(package, "--watch", announcement=tmp_path / "a.json") as server:
        assert server.process.stdout is not None
        assert server.process.stdout.readline() == "\n"
        whole = (package / "model.yaml").read_text()
        (package / "model.yaml").write_text("name: score\n")
        noted = server.process.stdout.readline()
        assert noted.startswith(f"  {package} has changed and cannot be served: {package}: model.yaml has ")
        assert version_of(server) == "1"
        (package / "model.yaml").write_text(whole.replace("title: Score", "title: Better"))
        assert server.process.stdout.readline() == f"  {package} has changed: version 2 of score answers\n"
        assert version_of(server) == "2"
        assert server.stopped_well("VersionFailed", "version 2 failed", "version 3 failed", "Degraded is False")
