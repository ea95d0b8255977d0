"""Real servers for clients that no one here wrote, which live in an environment of their own: `make interop`."""

import json
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.services.packages import (
    write_countdown,
    write_echo,
    write_fields,
    write_iris,
    write_score,
    write_slow,
)
from tests.services.process import Server, serving

BIN = Path(__file__).parents[2] / ".venv-interop" / "bin"
CLIENTS = Path(__file__).parent / "clients"


class Peer:
    """A server, and the clients as programs that run against it."""

    def __init__(self, server: Server, engine: str) -> None:
        self.server = server
        self.engine = engine
        self.results = cache(self._results)

    def run(self, program: str, *arguments: object) -> str:
        """Run a program of the other environment, which must succeed, and return what it printed."""
        command = [str(BIN / program), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
        assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-4000:]
        return done.stdout

    def _results(self, client: str) -> dict[str, str]:
        """Run all checks of one client and return what went wrong in each."""
        arguments = (self.server.announced["http"], self.server.grpc, self.engine)
        printed = self.run("python", "-W", "ignore", CLIENTS / f"{client}.py", *arguments)
        found: dict[str, str] = json.loads(printed.splitlines()[-1])
        return found


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Return one package of every kind a client may meet."""
    folder = tmp_path_factory.mktemp("packages")
    writers = (write_score, write_iris, write_echo, write_fields, write_countdown, write_slow)
    found = [write(folder / write.__name__.removeprefix("write_")) for write in writers]
    # Loaded and unloaded by clients, so that its versions change.
    return [*found, write_score(folder / "spare", "spare")]


@pytest.fixture(scope="session", params=["native", "grpcio"])
def peer(
    request: pytest.FixtureRequest, packages: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Peer]:
    """A server on each gRPC engine."""
    if not BIN.is_dir():
        pytest.skip("run `make interop` first")
    folder = tmp_path_factory.mktemp("peer")
    options = ("--trust-code", "--grpc-engine", request.param, "--home", folder / "home")
    options += ("--model-control", "explicit")
    with serving(*packages, *options, announcement=folder / "a.json") as server:
        yield Peer(server, request.param)
        status, _ = server.stop()
        assert status == 0
