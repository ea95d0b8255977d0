"""Every database and every blob store a registry can live in."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from limen.registry.registry import Registry
from limen.storage.blobs import BlobStore, open_blobs
from limen.storage.database import Database
from limen.storage.local import LocalBlobs
from limen.testing.clock import FakeClock
from limen.traffic.endpoint_store import EndpointStore
from tests.services.object_store import ObjectStore


@pytest.fixture(params=["sqlite", "postgresql"])
def new_address(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], str]:
    """Return a function that gives the address of a database that nobody has used."""
    if request.param == "postgresql":
        return request.getfixturevalue("postgres_server").new_database
    numbers = itertools.count(1)
    return lambda: f"sqlite:///{tmp_path}/home/{next(numbers)}.db"


@pytest.fixture
def address(new_address: Callable[[], str]) -> str:
    return new_address()


@pytest.fixture
def open_database() -> Iterator[Callable[..., Database]]:
    """Open databases that are closed at the end."""
    opened: list[Database] = []

    def open_one(address: str, **options: object) -> Database:
        opened.append(Database.open(address, **options))
        return opened[-1]

    yield open_one
    for database in opened:
        database.close()


@pytest.fixture
def database(address: str, open_database: Callable[..., Database]) -> Database:
    return open_database(address)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def registry(database: Database, clock: FakeClock) -> Registry:
    return Registry(database, clock.utc)


@pytest.fixture
def endpoints(database: Database, clock: FakeClock) -> EndpointStore:
    return EndpointStore(database, clock.utc)


@pytest.fixture
def s3_blobs(s3_store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[BlobStore, str]:
    """Return an empty store in S3, with its bucket and prefix."""
    for name, value in s3_store.environment.items():
        monkeypatch.setenv(name, value)
    import s3fs

    s3fs.S3FileSystem(skip_instance_cache=True).makedirs("limen", exist_ok=True)
    prefix = f"limen/{tmp_path.name}"
    return open_blobs(f"s3://{prefix}"), prefix


@pytest.fixture(params=["local", "s3"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    """Return an empty blob store."""
    if request.param == "local":
        return LocalBlobs(tmp_path / "blobs")
    store, _ = request.getfixturevalue("s3_blobs")
    return store
