"""A registry of its own for each test, and everything that publishing needs around it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from limen.management.catalogue import Catalogue
from limen.management.stores import open_registry, utc_now
from limen.packaging.archive.package import build
from limen.packaging.paths import signature_path
from limen.packaging.signing.config import TrustConfig
from limen.packaging.signing.trust import Trust
from limen.publishing.config import PublishConfig
from limen.publishing.probe import Probe
from limen.publishing.publisher import Published, Publisher
from limen.publishing.verification import Submission, Trial, Verification
from limen.runtime.sandbox.child import python
from limen.storage.config import StorageConfig


class Shop:
    """A registry in a folder, and a publisher for it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.stores = open_registry(StorageConfig(home=home))
        self.database, self.registry, self.blobs = self.stores.database, self.stores.registry, self.stores.blobs
        self.config = PublishConfig(probe_time_s=60)
        self.trust = TrustConfig()

    def publish(self, package: Path, *, probe: Trial | None = None, **more: object) -> Published:
        """Publish a package folder or an archive."""
        archive = build(package, self.home / "dist").path if package.is_dir() else package
        beside = signature_path(archive)
        more.setdefault("signature", beside if beside.is_file() else None)
        return self.publisher(probe).publish(Submission(archive=archive, **more))

    def publisher(self, probe: Trial | None = None) -> Publisher:
        verification = Verification(
            probe or Probe(python("limen.app.probe"), self.config), Trust.of(self.trust), self.config
        )
        return Publisher(
            self.registry,
            self.database,
            self.blobs,
            verification,
            Catalogue(self.stores).point,
            staging=self.home / "staging",
            clock=utc_now,
        )

    def numbers(self, model: str = "score") -> list[int]:
        return [v.number for name in self.models() if name == model for v in self.registry.versions(name)]

    def models(self) -> list[str]:
        return [model.name for model in self.registry.models()]

    @property
    def leftovers(self) -> list[Path]:
        """What is in the staging folder, but for its lock."""
        staging = self.home / "staging"
        return [path for path in staging.iterdir() if path.name != ".lock"] if staging.is_dir() else []

    @property
    def stored(self) -> list[Path]:
        """The files of the blob store."""
        return [path for path in (self.home / "blobs").rglob("*") if path.is_file()]


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    shop = Shop(tmp_path / "home")
    yield shop
    shop.database.close()


@pytest.fixture
def nothing_came_of_it(shop: Shop) -> Iterator[None]:
    """Check at the end of a test that what was published in it left nothing."""
    yield
    assert (shop.models(), shop.leftovers, shop.stored) == ([], [], [])
