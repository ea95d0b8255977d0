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

from limen.serving.stores import Stores, open_registry
from limen.storage.blobs import hash_of
from limen.storage.config import StorageConfig

WRITER = Path(__file__).parents[2] / "services" / "writer.py"
LONGEST_LIFE_S = 0.15
"""Some twenty versions; a start and the first migration take a part of it."""


@pytest.fixture
def writer() -> Iterator[subprocess.Popen[str]]:
    """Start the process that forks writers."""
    process = subprocess.Popen([sys.executable, WRITER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    yield process
    process.communicate(timeout=60)
    assert process.returncode == 0


def killed(writer: subprocess.Popen[str], address: str, folder: Path, life_s: float) -> dict[int, str]:
    """Let a writer live so long, kill it, and return what it had acknowledged: digests by number."""
    assert writer.stdin
    assert writer.stdout
    writer.stdin.write(f"{address} {folder}\n")
    writer.stdin.flush()
    pid = 0
    acknowledged: dict[int, str] = {}
    timer: threading.Timer | None = None
    for line in iter(writer.stdout.readline, "\n"):
        assert line, "the process that forks is gone"
        if " " in line:
            number, digest = line.split()
            acknowledged[int(number)] = digest
        else:
            pid = int(line)
            timer = threading.Timer(life_s, os.kill, (pid, signal.SIGKILL))
            timer.start()
    if timer:
        timer.join()
    return acknowledged


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
        acknowledged |= killed(writer, address, folder, chance.uniform(0, LONGEST_LIFE_S))
        stores = open_registry(StorageConfig(home=folder, database_url=address))
        try:
            check(stores, folder, acknowledged)
        finally:
            stores.close()
    assert acknowledged, "nobody lived long enough"


def test_f11_f19_nothing_acknowledged_is_lost_in_20_kills(
    address: str, tmp_path: Path, writer: subprocess.Popen[str]
):
    kill_and_check(address, tmp_path / "work", writer, 20)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_f11_f19_nothing_acknowledged_is_lost_in_100_kills(
    address: str, tmp_path: Path, writer: subprocess.Popen[str]
):
    kill_and_check(address, tmp_path / "work", writer, 100)
