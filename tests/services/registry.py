"""A server of a registry as an operator has it: its management API, packages to publish, and what callers get."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from limen.client import Management
from limen.contracts.endpoint import EndpointSpec
from limen.contracts.management import Published
from limen.packaging.archive.package import build
from tests.services import plain_http
from tests.services.packages import write_score
from tests.services.process import WAIT_S, Server, serving

ROW = {"amount": 3, "age": 2}


class World:
    """A server of a registry, a client of its management API, and packages to publish."""

    def __init__(self, server: Server, management: Management, folder: Path, name: str = "score") -> None:
        self.name = name
        self.server = server
        self.management = management
        self.folder = folder
        self._count = len(list(folder.glob("dist-*")))

    def archive(self, *edits: tuple[str, str]) -> Path:
        """Build a package of its own whose manifest has been edited."""
        self._count += 1
        package = write_score(self.folder / f"score-{self._count}", self.name)
        manifest = package / "model.yaml"
        text = manifest.read_text().replace("title: Score", f"title: Score {self._count}")
        for old, new in edits:
            assert old in text
            text = text.replace(old, new)
        manifest.write_text(text)
        return build(package, self.folder / f"dist-{self._count}").path

    def publish(self, *edits: tuple[str, str], **options) -> Published:
        return self.management.publish(self.name, self.archive(*edits), **options)

    def spec(self, name: str = "", **spec) -> EndpointSpec:
        """Return the spec of an endpoint of the model, with its name or another one."""
        return EndpointSpec(name=name or self.name, model=self.name, **spec)

    def apply(self, name: str = "", **spec) -> None:
        """Apply a spec and wait until callers get it."""
        revision = self.management.apply_endpoint(self.spec(name, **spec)).revision
        self.until_ready(name or self.name, revision)

    def until_ready(self, name: str, revision: int) -> None:
        until = time.monotonic() + WAIT_S
        while True:
            status = self.management.endpoint(name).status
            if status.observed_revision >= revision and status.is_settled and status.is_ready:
                return
            assert time.monotonic() < until, status
            time.sleep(0.02)

    def until_answering(self, version: int, called: str = "") -> None:
        until = time.monotonic() + WAIT_S
        while self.answering(called) != str(version):
            assert time.monotonic() < until
            time.sleep(0.02)

    def answering(self, called: str = "", path: str = "") -> str:
        """Return which version answers a call, and see that its answer is right."""
        url = f"{self.server.http.base_url}/v1/models/{called or self.name}{path}:predict"
        answer = plain_http.post(url, json={"instances": [ROW]}, timeout=WAIT_S)
        assert answer.status_code == 200, answer.text
        assert answer.json()["predictions"] == [{"score": 2.0}]
        return answer.json()["model_version"]


@contextmanager
def world_at(folder: Path, *arguments: object, log: Path | None = None, max_files: int = 0) -> Iterator[World]:
    options = ("--home", folder / "home", "--admin-port", "0", *arguments)
    with serving(*options, announcement=folder / "ready.json", log=log, max_files=max_files) as server:
        with Management(f"http://{server.announced['admin']}") as management:
            yield World(server, management, folder)
        if server.process.poll() is None:
            status, err = server.stop()
            assert status == 0, err


@contextmanager
def calling(world: World) -> Iterator[None]:
    """Have somebody call the endpoint all the time, and see that every answer was right."""
    failures: list[str] = []
    is_over = threading.Event()

    def call() -> None:
        url = f"{world.server.http.base_url}/v1/models/score:predict"
        with plain_http.Client(timeout=WAIT_S) as client:
            while not is_over.wait(0.01):
                answer = client.post(url, json={"instances": [ROW]})
                if answer.status_code != 200 or answer.json()["predictions"] != [{"score": 2.0}]:
                    failures.append(f"{answer.status_code} {answer.text}")

    caller = threading.Thread(target=call)
    caller.start()
    try:
        yield
    finally:
        is_over.set()
        caller.join()
    assert failures == []
