"""F11 and F19: a writer is killed at any point, and nothing that it acknowledged is lost, and nothing is there by half."""

import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from limen.management.stores import Stores, open_registry
from limen.storage.config import StorageConfig
from limen.storage.files import hash_of

WRITER = Path(__file__).parents[2] / "services" / "writer.py"
LONGEST_WAIT_S = 0.02
"""After the line that a writer is killed for: enough for one more version on a machine with nothing else to do."""


@pytest.fixture
def writer() -> Iterator[subprocess.Popen[str]]:
    """Start the process that forks writers."""
    process = subprocess.Popen([sys.executable, WRITER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    yield process
    process.communicate(timeout=60)
    assert process.returncode == 0


def killed(writer: subprocess.Popen[str], address: str, folder: Path, chance: random.Random) -> dict[int, str]:
    """Let a writer live for a while, kill it, and return what it had acknowledged: digests by number.

    It is killed some moments after it has begun, or has acknowledged one to three versions, so that a slow machine gets on too.
    """
    assert writer.stdin
    assert writer.stdout
    writer.stdin.write(f"{address} {folder}\n")
    writer.stdin.flush()
    pid = int(writer.stdout.readline())
    acknowledged: dict[int, str] = {}
    lines_left = chance.randint(0, 3)
    timer = threading.Timer(chance.uniform(0, LONGEST_WAIT_S), os.kill, (pid, signal.SIGKILL))
    while True:
        if not lines_left:
            timer.start()
        lines_left -= 1
        line = writer.stdout.readline()
        assert line, "the process that forks is gone"
        if line == "\n":
            timer.join()
            return acknowledged
        number, digest = line.split()
        acknowledged[int(number)] = digest


def check(stores: Stores, folder: Path, acknowledged: dict[int, str]) -> None:
    """Hold what is there against what was acknowledged."""
    registry = stores.registry
    versions = registry.versions("credit", limit=10_000) if registry.models() else []
    found = {version.number: version.digest for version in versions}
    assert acknowledged.items() <= found.items(), "an acknowledged version is lost"
    assert sorted(found) == list(range(1, len(found) + 1))
    for version in versions:
        assert len(registry.evidence("credit", version.number)) == 1
        stores.blobs.fetch(version.digest, folder / "fetched")
    if versions:
        # One transaction, so all of it names the newest.
        assert registry.aliases("credit")[0].version == versions[0].number
        assert stores.endpoints.get("credit").spec.traffic == {str(versions[0].number): 100}
        assert len(stores.endpoints.history("credit", limit=10_000)) == len(versions)
    for path in (folder / "blobs").glob("[0-9a-f][0-9a-f]/*"):
        assert hash_of(path) == path.name, "a half blob is visible"


def kill_and_check(address: str, folder: Path, writer: subprocess.Popen[str], times: int) -> None:
    folder.mkdir()
    chance = random.Random(11)
    acknowledged: dict[int, str] = {}
    for _ in range(times):
        acknowledged |= killed(writer, address, folder, chance)
        stores = open_registry(StorageConfig(home=folder, database_url=address))
        try:
            check(stores, folder, acknowledged)
        finally:
            stores.close()
    assert len(acknowledged) >= times // 2


def test_f11_f19_nothing_acknowledged_is_lost_in_20_kills(address: str, tmp_path: Path, writer: subprocess.Popen[str]):
    kill_and_check(address, tmp_path / "work", writer, 20)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_f11_f19_nothing_acknowledged_is_lost_in_100_kills(address: str, tmp_path: Path, writer: subprocess.Popen[str]):
    kill_and_check(address, tmp_path / "work", writer, 100)
