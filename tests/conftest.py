"""What every test gets: a home of its own, and Hypothesis profiles that suit shared machines."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

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
