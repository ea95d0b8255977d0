"""A registry on SQLite with small versions in it, for tests of what works on registries."""

import itertools
from collections.abc import Iterator
from pathlib import Path

from limen.contracts.catalogue import ModelVersion
from limen.contracts.contract import Contract, Field
from limen.contracts.endpoint import EndpointSpec
from limen.management.catalogue import Catalogue
from limen.management.stores import Stores, open_registry
from limen.packaging.archive.package import build, open_package
from limen.registry.values import NewVersion
from limen.storage.config import StorageConfig
from limen.storage.files import hash_of
from limen.testing.clock import FakeClock
from limen.traffic.endpoint_store import StoredEndpoint
from tests.conformance.registry.making import digest, put_text
from tests.services.packages import write_score


class Shelf:
    """A registry and its rules."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.stores: Stores = open_registry(StorageConfig(home=home), clock=FakeClock().utc)
        self.catalogue = Catalogue(self.stores)
        self._contents: Iterator[int] = itertools.count(1)

    def add(self, model: str = "credit", *, minimum: float = 0, major: int = 1, **more: object) -> ModelVersion:
        """Register a version without a package; a higher minimum breaks callers of a lower one."""
        content = f"content {next(self._contents)}"
        put_text(self.stores.blobs, self.home, f"archive of {content}")
        contract = Contract(
            name=model,
            inputs=(Field(name="amount", type="float32", minimum=minimum),),
            outputs=(Field(name="risk", type="float64"),),
            major=major,
        )
        facts = {"digest": digest(content), "archive": digest(f"archive of {content}"), "size": 9, "backend": "onnx"}
        return self._register(NewVersion(contract=contract, **(facts | more)))

    def publish(self, folder: Path, **more: object) -> ModelVersion:
        """Store and register a real package, without trying it out."""
        number = next(self._contents)
        manifest = write_score(folder / f"score-{number}") / "model.yaml"
        manifest.write_text(manifest.read_text().replace("title: Score", f"title: Score {number}"))
        archive = build(manifest.parent, folder / f"dist-{number}").path
        package = open_package(archive, folder / "cache")
        self.stores.blobs.put(archive, hash_of(archive))
        facts = {"digest": package.digest, "archive": hash_of(archive), "size": 9, "backend": "onnx"}
        return self._register(NewVersion(contract=package.manifest.contract, **(facts | more)))

    def point(self, alias: str, version: ModelVersion) -> None:
        with self.stores.database.transaction() as connection:
            self.catalogue.set_alias(connection, version.model, alias, version.number, expected=None, by="ada")

    def unpoint(self, alias: str, model: str = "credit") -> None:
        with self.stores.database.transaction() as connection:
            self.catalogue.remove_alias(connection, model, alias, expected=None)

    def retire(self, version: ModelVersion) -> None:
        with self.stores.database.transaction() as connection:
            self.catalogue.retire(connection, version.model, version.number, "old", expected=None, by="ada")

    def apply(self, spec: EndpointSpec) -> StoredEndpoint:
        with self.stores.database.transaction() as connection:
            return self.catalogue.apply(connection, spec, expected=None, by="ada")

    def remove(self, name: str) -> None:
        with self.stores.database.transaction() as connection:
            self.stores.endpoints.remove(connection, name, expected=None)

    def _register(self, new: NewVersion) -> ModelVersion:
        with self.stores.database.transaction() as connection:
            return self.stores.registry.add_version(connection, new)


def spec(*, name: str = "credit", model: str = "credit", **more: object) -> EndpointSpec:
    """Return a spec that follows the champion unless it says something else."""
    return EndpointSpec(name=name, model=model, **({"traffic": {"champion": 100}} | more))
