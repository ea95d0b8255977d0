"""One gateway with all the tiny models serves every suite that speaks HTTP to it."""

from collections.abc import Iterator

import pytest

from tests.conformance.serving.gateway import Gateway
from tests.conformance.serving.models import write_all


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Return the shared gateway; a test that changes its state starts its own."""
    gateway = Gateway(write_all(tmp_path_factory.mktemp("models")))
    yield gateway
    gateway.stop()
