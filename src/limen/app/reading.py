"""Reads the registry of a home when no server is running: the read-only half of `client.Management`, without the API.

A list that takes a second to start its HTTP stack is a list that people stop asking for. What is read here is what the management
API shows (`tests/conformance/admin/test_reading.py` holds them together). `app.editing` changes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from limen.contracts.endpoint import Endpoint, EndpointStatus
from limen.contracts.management import Page
from limen.contracts.names import parse_model_name
from limen.management.stores import Stores, open_registry

if TYPE_CHECKING:
    from limen.contracts.catalogue import Alias, Evidence, Model, ModelVersion
    from limen.contracts.management import EndpointRevision
    from limen.storage.config import StorageConfig
    from limen.traffic.endpoint_store import StoredEndpoint

ALL = 1_000_000
"""More than a registry holds of anything."""


class RegistryReader:
    """Reads a registry. Every list is one page with everything; options of the API's lists that narrow them are not offered."""

    def __init__(self, stores: Stores) -> None:
        """Work on an open registry."""
        self._stores = stores

    @classmethod
    def open(cls, config: StorageConfig) -> Self:
        """Open what is there.

        Raises:
            NotFound: there is no registry. Other `LimenError`s: it cannot be opened.
        """
        return cls(open_registry(config, create=False))

    def close(self) -> None:
        """Close the registry."""
        self._stores.close()

    def models(self, **_: Any) -> Page[Model]:
        """Return all models, by name."""
        return Page(items=tuple(self._stores.registry.models(limit=ALL)))

    def versions(self, model: str, *, include_retired: bool = False, **_: Any) -> Page[ModelVersion]:
        """Return all versions of a model, the newest first. Raises `NotFound`."""
        name = parse_model_name(model, "model")
        return Page(items=tuple(self._stores.registry.versions(name, limit=ALL, include_retired=include_retired)))

    def version(self, model: str, ref: int | str) -> ModelVersion:
        """Return one version, by its number or an alias. Raises `NotFound`."""
        return self._stores.registry.resolve(parse_model_name(model, "model"), str(ref))

    def evidence(self, model: str, number: int, **_: Any) -> Page[Evidence]:
        """Return what was found out about a version, the newest first. Raises `NotFound`."""
        return Page(items=tuple(self._stores.registry.evidence(parse_model_name(model, "model"), number)[::-1]))

    def aliases(self, model: str, **_: Any) -> Page[Alias]:
        """Return the aliases of a model, by name. Raises `NotFound`."""
        return Page(items=tuple(self._stores.registry.aliases(parse_model_name(model, "model"))))

    def endpoints(self, **_: Any) -> Page[Endpoint]:
        """Return all endpoints, by name; no server observes them."""
        return Page(items=tuple(unobserved(stored) for stored in self._stores.endpoints.list()))

    def endpoint(self, name: str) -> Endpoint:
        """Return one endpoint. Raises `NotFound`."""
        return unobserved(self._stores.endpoints.get(parse_model_name(name, "endpoint")))

    def endpoint_history(self, name: str, *, limit: int = 50, **_: Any) -> Page[EndpointRevision]:
        """Return the latest changes of an endpoint, newest first. Raises `NotFound`."""
        return Page(items=tuple(self._stores.endpoints.history(parse_model_name(name, "endpoint"), limit=limit)))


def unobserved(stored: StoredEndpoint) -> Endpoint:
    """Return an endpoint that no server observes."""
    return Endpoint(
        spec=stored.spec,
        status=EndpointStatus(),
        revision=stored.revision,
        created_at=stored.created_at,
        updated_at=stored.updated_at,
        updated_by=stored.updated_by,
    )
