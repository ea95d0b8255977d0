"""What tests of the control plane's work on a registry share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.serving.shelf import Shelf


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    shelf = Shelf(tmp_path / "home")
    yield shelf
    shelf.stores.close()
