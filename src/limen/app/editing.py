"""The registry of a home, changed by a command while no server runs: the changing half of `client.Management`, without the API around it.

What is asked and refused here is what the management API asks and refuses: both call `management.catalogue`, in one transaction a change
(`tests/conformance/admin/test_reading.py` holds them together). Publishing tries packages out and goes through the API.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from limen._version import __version__
from limen.app.reading import RegistryReader, unobserved
from limen.contracts.identity import LOCAL
from limen.contracts.management import ServerStatus
from limen.contracts.names import parse_alias, parse_model_name, parse_version
from limen.contracts.strict.printable import check_text
from limen.management.catalogue import Catalogue
from limen.traffic.endpoints import parse_spec, plain_spec

if TYPE_CHECKING:
    from limen.contracts.catalogue import Alias, Model, ModelVersion
    from limen.contracts.endpoint import Endpoint, EndpointSpec
    from limen.contracts.management import EndpointPreview

T = TypeVar("T")


class RegistryEditor(RegistryReader):
    """Reads and changes a registry. Every change raises what the management API answers."""

    def status(self) -> ServerStatus:
        """Return what there is; no server runs."""
        registry, endpoints = self._stores.registry, self._stores.endpoints
        return ServerStatus(
            release=__version__,
            revision=registry.revision(),
            models=registry.count(),
            endpoints=len(endpoints.list()),
            problem="no server runs",
        )

    def reload(self) -> ServerStatus:
        """Do nothing: there is no server that could look again."""
        return self.status()

    def model(self, name: str) -> Model:
        """Return one model."""
        return self._stores.registry.model(parse_model_name(name, "model"))

    def tag_model(self, name: str, tags: Mapping[str, str | None], *, expected: int | None = None) -> Model:
        """Set tags, and remove those that are None."""
        name, registry = parse_model_name(name, "model"), self._stores.registry
        return self._change(lambda c, _: registry.set_tags(c, name, None, tags, expected=expected, by=LOCAL.id))

    def tag_version(
        self, model: str, number: int, tags: Mapping[str, str | None], *, expected: int | None = None
    ) -> ModelVersion:
        """Set tags, and remove those that are None."""
        (name, number), registry = _named(model, number), self._stores.registry
        return self._change(lambda c, _: registry.set_tags(c, name, number, tags, expected=expected, by=LOCAL.id))

    def retire(self, model: str, number: int, reason: str = "", *, expected: int | None = None) -> ModelVersion:
        """Retire a version that nothing names."""
        name, number = _named(model, number)
        check_text(reason, "reason")
        return self._change(
            lambda c, catalogue: catalogue.retire(c, name, number, reason, expected=expected, by=LOCAL.id)
        )

    def restore(self, model: str, number: int, *, expected: int | None = None) -> ModelVersion:
        """Restore a retired version."""
        (name, number), registry = _named(model, number), self._stores.registry
        return self._change(lambda c, _: registry.restore(c, name, number, expected=expected, by=LOCAL.id))

    def set_alias(self, model: str, alias: str, version: int, *, expected: int | None = None) -> Alias:
        """Point an alias at a version, and with it the endpoints that follow the alias."""
        alias = parse_alias(alias)
        name, number = _named(model, version)
        Catalogue(self._stores).ensure_alias_can_move(name, alias, number)
        return self._change(
            lambda c, catalogue: catalogue.set_alias(c, name, alias, number, expected=expected, by=LOCAL.id)
        )

    def remove_alias(self, model: str, alias: str, *, expected: int | None = None) -> None:
        """Remove an alias that no endpoint follows."""
        name, alias = parse_model_name(model, "model"), parse_alias(alias)
        self._change(lambda c, catalogue: catalogue.remove_alias(c, name, alias, expected=expected, by=LOCAL.id))

    def preview_endpoint(self, spec: EndpointSpec) -> EndpointPreview:
        """Return what applying a spec would change, after all checks that applying it makes."""
        return Catalogue(self._stores).preview(_sound(spec))

    def apply_endpoint(self, spec: EndpointSpec, *, expected: int | None = None) -> Endpoint:
        """Apply a spec."""
        spec = _sound(spec)
        Catalogue(self._stores).ensure_can_serve(spec)
        return unobserved(self._change(lambda c, catalogue: catalogue.apply(c, spec, expected=expected, by=LOCAL.id)))

    def remove_endpoint(self, name: str, *, expected: int | None = None) -> None:
        """Remove an endpoint."""
        name, endpoints = parse_model_name(name, "endpoint"), self._stores.endpoints
        self._change(lambda c, _: endpoints.remove(c, name, expected=expected, by=LOCAL.id))

    def _change(self, work: Callable[[Any, Catalogue], T]) -> T:
        with self._stores.database.transaction() as connection:
            return work(connection, Catalogue(self._stores))


def _named(model: str, number: int) -> tuple[str, int]:
    return parse_model_name(model, "model"), int(parse_version(str(number), "version"))


def _sound(spec: EndpointSpec) -> EndpointSpec:
    return parse_spec(plain_spec(spec), "the spec")
