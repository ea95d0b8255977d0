"""What a server remembers of its registry, in a file of its home: the id, the last plan, and the last working versions.

A database that was emptied, swapped or brought back from a backup looks like any other. Only who has followed the registry before can tell:
the id is another one, or the revision is lower than it was. Then the last plan goes on, until a person decides (`limen registry adopt`).
Blocking. Called by `serving.sources.reconciler` and `serving.sources.adoption`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

import msgspec

from limen.management.stores import FOLLOWED
from limen.registry.values import Identity
from limen.serving.sources.planning import Plan, PlannedEndpoint
from limen.storage import causes
from limen.storage.faults import unavailable
from limen.storage.files import write_whole


class Kept(msgspec.Struct, frozen=True):
    """What the file says."""

    registry: str
    """Where the registry is, see `StorageConfig.database_id`: the plan of another one would be wrong."""
    plan: Plan
    identity: str = ""
    """The id of the registry; empty in a file of a Limen that knew of none."""
    good: dict[str, PlannedEndpoint] = {}
    """What each endpoint last answered with, by its name."""


class PlanMemory:
    """The file of one server."""

    def __init__(self, home: Path, registry: str) -> None:
        """Keep the plan of a registry in a home; `registry` tells its address from others."""
        self._path = home / FOLLOWED
        self._registry = registry
        self._kept: Kept | None = None
        self.doubt = ""
        """What was strange about the registry the last time that it was looked at."""

    def kept(self, *, afresh: bool = False) -> Kept | None:
        """Return what is remembered; None when there is nothing that can be read.

        Args:
            afresh: read the file again, which another process may have written.
        """
        if self._kept is None or afresh:
            self._kept = None
            with contextlib.suppress(OSError, msgspec.DecodeError):
                found = msgspec.json.decode(self._path.read_bytes(), type=Kept)
                self._kept = found if found.registry == self._registry else None
        return self._kept

    def ensure_followed(self, found: Identity) -> None:
        """Refuse a registry that is not the one that was followed so far, or not as far as that was.

        Raises:
            Unavailable: STORAGE; a person has to decide.
        """
        self.doubt = _strangeness(self.kept(), found) and _strangeness(self.kept(afresh=True), found)
        self.ensure_sure()

    def ensure_sure(self) -> None:
        """Keep changes out of a registry that may be the wrong one.

        Raises:
            Unavailable: STORAGE; what was found strange about it the last time.
        """
        if self.doubt:
            raise unavailable(self.doubt)

    def keep(self, plan: Plan, identity: str, good: Mapping[str, PlannedEndpoint]) -> None:
        """Remember a plan. A disk that is full keeps the file as it is, and nothing else from going on."""
        self._kept = Kept(self._registry, plan, identity, dict(good))
        with contextlib.suppress(OSError):
            write_whole(self._path, msgspec.json.encode(self._kept))


def _strangeness(kept: Kept | None, found: Identity) -> str:
    """Return what is strange about a registry for someone who remembers another moment; nothing when all is as it should be."""
    if kept is None:
        return ""
    if kept.identity and kept.identity != found.registry:
        return f"the registry's database {causes.ANOTHER}"
    if found.revision < kept.plan.revision:
        was = f"at revision {kept.plan.revision}, and is at revision {found.revision} now"
        return f"the registry's database {causes.GONE_BACK}: it was {was}"
    return ""
