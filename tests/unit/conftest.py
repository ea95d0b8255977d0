"""What tests of several packages share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.services.shelf import Shelf


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    """Return a registry on SQLite without versions."""
    shelf = Shelf(tmp_path / "home")
    yield shelf
    shelf.stores.close()
