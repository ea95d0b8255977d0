"""A registry with its management API for each test, on both databases."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.conformance.admin.office import Office


@pytest.fixture(params=["sqlite", "postgresql"])
async def office(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Office]:
    is_postgres = request.param == "postgresql"
    url = request.getfixturevalue("postgres_server").new_database() if is_postgres else ""
    office = Office(tmp_path / "home", url)
    yield office
    await office.http.aclose()
    office.stores.close()
