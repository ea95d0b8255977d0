"""The rules that connect the models and the endpoints of a registry.

The registry knows versions and the store of endpoints knows specs; neither sees the other. An alias that an endpoint follows moves only
where the endpoint may go, what an endpoint needs is not taken away, and an endpoint consists only of what exists and breaks nobody.
Changes take the connection of a transaction: there is one writer at a time, so what a rule has read is still so when it commits.
Blocking: callers that are asynchronous use a thread. Called by the management API, and by publishing for the aliases it sets.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from sqlalchemy import Connection

from limen.contracts.catalogue import Alias, ModelVersion
from limen.contracts.compatibility.compare import compare
from limen.contracts.endpoint import EndpointSpec
from limen.contracts.errors import LimenError, NotAllowedNow, NotFound
from limen.contracts.management import EndpointPreview, VersionDiff
from limen.management.resolution import Resolved, ensure_compatible, resolve
from limen.management.stores import Stores
from limen.packaging.archive.intact import is_intact
from limen.storage import causes
from limen.storage.faults import unavailable
from limen.traffic.endpoint_store import StoredEndpoint
from limen.traffic.endpoints import difference


class Catalogue:
    """Changes models and endpoints. Safe to share between threads."""

    def __init__(self, stores: Stores) -> None:
        """Work on an open registry."""
        self.stores = stores
        self._registry = stores.registry
        self._endpoints = stores.endpoints

    # -- models ------------------------------------------------------------------------------------------------------------

    def diff(self, model: str, before: str, after: str) -> VersionDiff:
        """Return what callers of one version would notice of another; numbers or aliases.

        Raises:
            NotFound: there is no such version.
        """
        old, new = self._registry.resolve(model, before), self._registry.resolve(model, after)
        found = compare(old.contract, new.contract)
        return VersionDiff(
            model=model,
            before=old.number,
            after=new.number,
            old_major=old.major,
            new_major=new.major,
            verdict=found.verdict,
            findings=found.findings,
        )

    def set_alias(
        self, connection: Connection, model: str, alias: str, version: int, *, expected: int | None, by: str
    ) -> Alias:
        """Point an alias at a version, and with it the endpoints that follow the alias.

        Raises:
            NotFound: there is no such version.
            NotAllowedNow: RETIRED.
            Incompatible: an endpoint that follows the alias may not serve the version.
            Stale: the alias has changed since.
        """
        return self.point(connection, self._registry.version(model, version), alias, expected=expected, by=by)

    def point(
        self, connection: Connection, version: ModelVersion, alias: str, *, expected: int | None, by: str
    ) -> Alias:
        """Do as `set_alias` does with a version that the same transaction may just have made."""
        for stored in self._followers(version.model, alias):
            before = self._resolved(stored.spec)
            after = resolve(self._registry, stored.spec, {alias: version})
            if before is not None:
                ensure_compatible(before, after)
        return self._registry.set_alias(connection, version.model, alias, version.number, expected=expected, by=by)

    def ensure_alias_can_move(self, model: str, alias: str, version: int) -> None:
        """Refuse to have endpoints follow an alias to a version whose package is gone. To be called before the transaction: it may take a while.

        Raises:
            NotFound: there is no such version.
            Unavailable: STORAGE; its package is damaged, lost, or cannot be looked at.
        """
        found = self._registry.version(model, version)
        if any(not stored.spec.is_paused for stored in self._followers(model, alias)):
            self._ensure_stored(found)

    def ensure_can_serve(self, spec: EndpointSpec) -> None:
        """Refuse a spec with versions whose packages are gone, apart from those that the endpoint has already. Called as the one above.

        Raises:
            LimenError: as `apply`.
            Unavailable: STORAGE; a package is damaged, lost, or cannot be looked at.
        """
        if spec.is_paused:
            return
        seen = self.find(spec.name)
        before = self._resolved(seen.spec) if seen is not None and not seen.spec.is_paused else None
        known = before.versions.keys() if before is not None else set()
        for number, version in resolve(self._registry, spec).versions.items():
            if number not in known:
                self._ensure_stored(version)

    def _ensure_stored(self, version: ModelVersion) -> None:
        blobs, key = self.stores.blobs, self._registry.archive_of(version.model, version.number).archive
        what = ""
        if is_intact(self.stores.packages / version.digest, version.digest):
            # It can be served here, whatever became of the store: going back must not fail for that.
            return
        if not blobs.has(key):
            what = causes.LOST_PACKAGE
        elif not blobs.is_remote and not blobs.is_whole(key):
            # A store that is far away looks after what it keeps, and what is fetched is checked anyway.
            what = causes.DAMAGED_PACKAGE
        if what:
            raise unavailable(f"version {version.number} of {version.model} cannot be served: {what}")

    def remove_alias(
        self, connection: Connection, model: str, alias: str, *, expected: int | None, by: str = ""
    ) -> None:
        """Remove an alias.

        Raises:
            NotFound: there is none.
            NotAllowedNow: IN_USE; an endpoint follows it.
            Stale: it has changed since.
        """
        followers = [stored.spec.name for stored in self._followers(model, alias)]
        if followers:
            raise NotAllowedNow(f"the endpoint {followers[0]} follows the alias")
        self._registry.remove_alias(connection, model, alias, expected=expected, by=by)

    def retire(
        self, connection: Connection, model: str, number: int, reason: str, *, expected: int | None, by: str
    ) -> ModelVersion:
        """Retire a version.

        Raises:
            NotFound: there is no such version.
            NotAllowedNow: IN_USE; an alias or an endpoint names it.
            Stale: it has changed since.
        """
        users = [stored.spec.name for stored in self._followers(model, str(number))]
        if users:
            raise NotAllowedNow(f"the endpoint {users[0]} uses the version")
        return self._registry.retire(connection, model, number, reason, expected=expected, by=by)

    # -- endpoints ---------------------------------------------------------------------------------------------------------

    def preview(self, spec: EndpointSpec) -> EndpointPreview:
        """Return what applying a spec would change, after all checks that applying it makes.

        Raises:
            LimenError: as `apply`.
        """
        seen = self.find(spec.name)
        self._check(spec, seen)
        changes = difference(seen.spec if seen is not None else None, spec)
        return EndpointPreview(
            name=spec.name,
            is_new=seen is None,
            revision=seen.revision if seen is not None else 0,
            changes=changes,
        )

    def apply(self, connection: Connection, spec: EndpointSpec, *, expected: int | None, by: str) -> StoredEndpoint:
        """Apply a spec.

        Raises:
            NotFound: a version or an alias in it does not exist.
            NotAllowedNow: RETIRED; a version in it was taken out of use.
            Incompatible: a version in it has another major, or would break callers of what answers now.
            Stale: the endpoint has changed since.
        """
        self._check(spec, self.find(spec.name))
        return self._endpoints.apply(connection, spec, expected=expected, by=by)

    def set_paused(self, connection: Connection, name: str, *, is_paused: bool, by: str) -> StoredEndpoint:
        """Have an endpoint say of itself that nothing of it is to be loaded, or that it is.

        Raises:
            NotFound: no such endpoint.
            LimenError: as `apply`, when it is to be loaded again.
        """
        seen = self._endpoints.get(name)
        if seen.spec.is_paused == is_paused:
            return seen
        spec = msgspec.structs.replace(seen.spec, is_paused=is_paused)
        if not is_paused:
            self._check(spec, seen)
        return self._endpoints.apply(connection, spec, expected=seen.revision, by=by)

    def _check(self, spec: EndpointSpec, seen: StoredEndpoint | None) -> None:
        """Hold a spec against the registry and against what the endpoint is now. There is one writer: what is read stays so."""
        after = resolve(self._registry, spec)
        if seen is None or seen.spec.major != spec.major:
            return
        before = self._resolved(seen.spec)
        if before is not None:
            ensure_compatible(before, after)

    def find(self, name: str) -> StoredEndpoint | None:
        """Return an endpoint; None when there is none."""
        try:
            return self._endpoints.get(name)
        except NotFound:
            return None

    def _followers(self, model: str, reference: str) -> Iterator[StoredEndpoint]:
        for stored in self._endpoints.list():
            spec = stored.spec
            if spec.model == model and (reference in spec.traffic or reference in spec.ready):
                yield stored

    def _resolved(self, spec: EndpointSpec) -> Resolved | None:
        """Return what an endpoint serves; None when it cannot be had, so that nothing is left to be compatible with."""
        try:
            return resolve(self._registry, spec)
        except LimenError:
            return None
