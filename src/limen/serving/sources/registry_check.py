"""Checks the integrity of a registry: its database, its blobs, the references of its endpoints, and its identity.

Looks and changes nothing, also while servers work with it. Blocking. Called by `limen registry check`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from limen.contracts.errors import LimenError
from limen.management.stores import Stores, open_registry
from limen.serving.sources.plan_memory import PlanMemory
from limen.serving.sources.planning import plan_of
from limen.storage import causes
from limen.storage.config import StorageConfig
from limen.storage.integrity import damages

_ALL = 1_000_000
"""More versions than a model has."""


class Finding(msgspec.Struct, frozen=True):
    """One thing that is not as it should be."""

    about: str
    """The database, a version as MODEL/NUMBER, or an endpoint."""
    what: str


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """What a look at a registry found."""

    registry: str
    """Its id."""
    revision: int
    models: int
    versions: int
    endpoints: int
    findings: tuple[Finding, ...]


def check_registry(
    config: StorageConfig, *, quick: bool = False, note: Callable[[str], None] = lambda _: None
) -> Checked:
    """Look at all of a registry.

    Args:
        config: where it is.
        quick: whether blobs only have to be there; otherwise all of each is read.
        note: is told each version before it is looked at.

    Raises:
        NotFound: there is no registry.
        Unavailable: STORAGE; it cannot be opened.
    """
    stores = open_registry(config, create=False)
    try:
        identity = stores.registry.identity()
        findings = [Finding("database", text) for text in damages(stores.database)]
        try:
            PlanMemory(config.home, config.database_id).ensure_followed(identity)
        except LimenError as exc:
            findings.append(Finding("database", exc.message))
        models = stores.registry.models(limit=_ALL)
        count = 0
        for model in models:
            for version in stores.registry.versions(model.name, limit=_ALL, include_retired=True):
                name = f"{model.name}/{version.number}"
                count += 1
                note(name)
                findings += [
                    Finding(name, text) for text in _blob_problems(stores, model.name, version.number, quick=quick)
                ]
        planned = plan_of(stores).endpoints
        findings += [Finding(f"endpoint {e.spec.name}", e.problem) for e in planned if e.problem]
        return Checked(
            registry=identity.registry,
            revision=identity.revision,
            models=len(models),
            versions=count,
            endpoints=len(planned),
            findings=tuple(findings),
        )
    finally:
        stores.close()


def _blob_problems(stores: Stores, model: str, number: int, *, quick: bool) -> Iterator[str]:
    stored = stores.registry.archive_of(model, number)
    if not stores.blobs.has(stored.archive):
        yield causes.LOST_PACKAGE
    elif not quick and not stores.blobs.is_whole(stored.archive):
        yield causes.DAMAGED_PACKAGE
    if stored.signature and not (
        stores.blobs.has(stored.signature) if quick else stores.blobs.is_whole(stored.signature)
    ):
        yield "its signature is damaged or lost"
