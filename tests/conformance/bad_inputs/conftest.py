"""After every case the server is alive and right."""

from collections.abc import Iterator

import pytest

from tests.conformance.serving.expectations import assert_right
from tests.conformance.serving.gateway import Gateway


@pytest.fixture(autouse=True)
def still_right(gateway: Gateway) -> Iterator[None]:
    """Ask for something good once the case is over."""
    yield
    assert_right(gateway)
