"""The bulk suite: families of models by the hundred, behind `make test-all`. Needs `make zoo`."""

from pathlib import Path

import pytest

FOLDER = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything here as slow, and give it the time it needs."""
    for item in items:
        if item.path.is_relative_to(FOLDER) and item.path.stem != "test_verdicts":
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.timeout(1800))
