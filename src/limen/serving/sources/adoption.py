"""Makes a home follow the registry that is there now instead of the one it followed before.

Called by `limen registry adopt` and `limen registry restore`. A server that runs on the home reads what was decided at its next look.
Blocking.
"""

from __future__ import annotations

import msgspec

from limen.management.stores import open_registry
from limen.registry.values import Identity
from limen.serving.sources.plan_memory import PlanMemory
from limen.serving.sources.planning import Plan, plan_of
from limen.storage.config import StorageConfig


class Adoption(msgspec.Struct, frozen=True, kw_only=True):
    """What adopting a registry changes."""

    before_registry: str
    """The id of the registry that was followed; empty when none was."""
    before_revision: int
    registry: str
    revision: int
    gone: tuple[str, ...]
    """Endpoints that are served and will not be any more."""
    new: tuple[str, ...]
    changed: tuple[str, ...]

    @property
    def is_needed(self) -> bool:
        """Whether the registry is another one than was followed, or has gone back to an earlier state."""
        is_other = self.before_registry not in {"", self.registry}
        return is_other or self.revision < self.before_revision


def outlook(config: StorageConfig) -> Adoption:
    """Return what adopting the registry that is there now would change; where its file is gone, that is an empty one.

    Raises:
        LimenError: the registry cannot be opened.
    """
    if config.database_file is not None and not config.database_file.exists():
        return _compared(config, Identity("", 0), Plan(0))
    return _adoption(config)[0]


def adopt(config: StorageConfig) -> Adoption:
    """Have a home follow the registry that is there now, and return what that changes.

    Raises:
        LimenError: the registry cannot be opened.
    """
    found, plan = _adoption(config)
    PlanMemory(config.home, config.database_id).keep(plan, found.registry, {})
    return found


def _adoption(config: StorageConfig) -> tuple[Adoption, Plan]:
    stores = open_registry(config, anew=True)
    try:
        identity, plan = stores.registry.identity(), plan_of(stores)
    finally:
        stores.close()
    return _compared(config, identity, plan), plan


def _compared(config: StorageConfig, identity: Identity, plan: Plan) -> Adoption:
    kept = PlanMemory(config.home, config.database_id).kept()
    before = {e.spec.name: e for e in kept.plan.endpoints} if kept is not None else {}
    after = {e.spec.name: e for e in plan.endpoints}
    return Adoption(
        before_registry=kept.identity if kept is not None else "",
        before_revision=kept.plan.revision if kept is not None else 0,
        registry=identity.registry,
        revision=identity.revision,
        gone=tuple(sorted(before.keys() - after.keys())),
        new=tuple(sorted(after.keys() - before.keys())),
        changed=tuple(sorted(name for name in before.keys() & after.keys() if before[name] != after[name])),
    )
