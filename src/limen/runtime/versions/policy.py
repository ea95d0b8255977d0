"""Which version to load or unload next: a pure decision from the current and the desired state.

New versions are loaded before old ones are let go, so a model that has an answer keeps one.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from enum import StrEnum

import msgspec

from limen.runtime.versions.lifecycle import State, VersionStatus


class Verb(StrEnum):
    """What to do with a version."""

    LOAD = "load"
    """Start it beside what is running."""
    UNLOAD = "unload"
    """Drain it and give its memory back."""


class Action(msgspec.Struct, frozen=True):
    """One step towards what is wanted."""

    verb: Verb
    version: str


def next_action(
    statuses: Sequence[VersionStatus], wanted: Collection[str], routed: Collection[str] = ()
) -> Action | None:
    """Return the next step for one model, or None when nothing is to be done.

    Args:
        statuses: every version of the model that the manager knows.
        wanted: the versions that should be ready.
        routed: those of them that answer requests that name no version: they are ready before anything is let go. One is enough
            when it is empty.
    """
    known = {s.version: s for s in statuses}
    for version in sorted(wanted, key=int):
        status = known.get(version)
        if status is None or status.state is State.NEW:
            return Action(Verb.LOAD, version)
    ready = {s.version for s in statuses if s.state is State.READY}
    replaced = not wanted or (ready.issuperset(routed) if routed else not ready.isdisjoint(wanted))
    for status in statuses:
        if status.version not in wanted and (
            status.state is State.FAILED or (status.state is State.READY and replaced)
        ):
            return Action(Verb.UNLOAD, status.version)
    return None
