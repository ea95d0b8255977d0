"""Derives the plan of every endpoint from a registry.

Called by `serving.sources.reconciler`; `serving.sources.plan_memory` keeps it for a start without the registry.
"""

from __future__ import annotations

import msgspec

from limen.contracts.catalogue import ModelVersion
from limen.contracts.endpoint import EndpointSpec
from limen.contracts.errors import LimenError
from limen.management.resolution import resolve
from limen.management.stores import Stores
from limen.serving.fleet.history import ITSELF, Cause
from limen.serving.fleet.records import Aim


class PlannedVersion(msgspec.Struct, frozen=True):
    """One version that an endpoint needs."""

    digest: str
    archive: str
    """Key of the blob with its archive."""
    needs_trust: bool
    signer: str
    inputs: dict[str, int]
    """Protobuf numbers by field."""
    outputs: dict[str, int]


class PlannedEndpoint(msgspec.Struct, frozen=True):
    """One endpoint, worked out."""

    spec: EndpointSpec
    revision: int
    aim: Aim
    versions: dict[str, PlannedVersion]
    problem: str = ""
    """Why the spec cannot be followed; then there is nothing else to go by."""


class Plan(msgspec.Struct, frozen=True):
    """Every endpoint at one revision of the registry."""

    revision: int
    endpoints: tuple[PlannedEndpoint, ...] = ()


def plan_of(stores: Stores) -> Plan:
    """Return what the registry wants now.

    Raises:
        Unavailable: STORAGE; it cannot be reached.
    """
    # Read first: what changes meanwhile is looked at again.
    revision = stores.registry.revision()
    found = []
    for stored in stores.endpoints.list():
        spec = stored.spec
        try:
            found.append(_planned(stores, spec, stored.revision))
        except LimenError as exc:
            if exc.retryable:
                raise
            found.append(PlannedEndpoint(spec, stored.revision, Aim(), {}, exc.message))
    return Plan(revision, tuple(found))


class Causes:
    """Who changed each endpoint last, and how."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._found: dict[str, Cause] = {}

    def of(self, name: str) -> Cause:
        """Return why an endpoint is wanted as it is now; one that is gone, or was kept from before, has no cause of its own."""
        return self._found.get(name, Cause(ITSELF, "the registry says so"))

    def learn(self, stores: Stores, plan: Plan, before: Plan | None) -> None:
        """Find the causes of every endpoint whose plan is another one than before.

        Raises:
            Unavailable: STORAGE; the registry cannot be reached.
        """
        known = {e.spec.name: e for e in before.endpoints} if before is not None else {}
        for planned in plan.endpoints:
            if known.get(planned.spec.name) != planned:
                self._found[planned.spec.name] = _cause(stores, planned, known.get(planned.spec.name))


def _cause(stores: Stores, planned: PlannedEndpoint, before: PlannedEndpoint | None) -> Cause:
    """Return the newest change of a spec or of an alias that it names."""
    stored = stores.endpoints.get(planned.spec.name)
    found = [(stored.updated_at, Cause(stored.updated_by, f"revision {stored.revision} of the endpoint"))]
    for alias, number in planned.aim.aliases.items():
        if before is None or before.aim.aliases.get(alias) != number:
            for move in stores.registry.alias_history(planned.spec.model, alias, limit=1):
                text = f"the alias {alias} names version {move.version}"
                found.append((move.moved_at, Cause(move.moved_by, text)))
    return max(found, key=lambda item: item[0])[1]


def _planned(stores: Stores, spec: EndpointSpec, revision: int) -> PlannedEndpoint:
    resolved = resolve(stores.registry, spec)
    if spec.is_paused:
        return PlannedEndpoint(spec, revision, Aim(), {})
    versions = {str(number): _version(stores, version) for number, version in sorted(resolved.versions.items())}
    aliases = {alias: str(number) for alias, number in sorted(resolved.aliases.items())}
    return PlannedEndpoint(spec, revision, Aim(resolved.routes, aliases, tuple(versions)), versions)


def _version(stores: Stores, version: ModelVersion) -> PlannedVersion:
    contract = version.contract
    return PlannedVersion(
        version.digest,
        stores.registry.archive_of(version.model, version.number).archive,
        version.needs_trust,
        version.signer,
        {f.name: f.number for f in contract.inputs if f.number is not None},
        {f.name: f.number for f in contract.outputs if f.number is not None},
    )
