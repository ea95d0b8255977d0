"""The protocol's management extensions inside control: listing, loading and unloading versions, and log settings.

What callers of any gateway ask for arrives here, so that it holds for all of them. Called by `serving.control.socket`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import msgspec

from limen.contracts.errors import InvalidPackage, LimenError, NotFound, Reason
from limen.contracts.oip.repository_index import UNLOADED, IndexEntry, IndexState
from limen.runtime.versions.lifecycle import State
from limen.serving.control.controlplane import ControlPlane
from limen.serving.control.status import Reported, version_view
from limen.serving.fleet.records import Endpoint
from limen.serving.messages.lines import (
    AskIndex,
    AskLoad,
    AskLog,
    Denied,
    Done,
    Index,
    Logging,
    Operation,
    Refused,
    ToOperation,
    failure_of,
)

FOLLOW_S = 2.0
"""How long gateways are waited for that are to log something else."""
_STATES = {
    State.NEW: IndexState.LOADING,
    State.LOADING: IndexState.LOADING,
    State.WARMING: IndexState.LOADING,
    State.READY: IndexState.READY,
    State.DRAINING: IndexState.UNLOADING,
    State.UNLOADED: IndexState.UNAVAILABLE,
    State.FAILED: IndexState.UNAVAILABLE,
}


class ModelRepository:
    """The endpoints of one control plane as the model repository extension sees them."""

    def __init__(self, control: ControlPlane) -> None:
        """Speak about the endpoints of a control plane."""
        self._control = control

    async def answer(self, asked: Operation) -> ToOperation:
        """Do what a gateway asks for, and say how it ended. Raises nothing that Limen raises on purpose."""
        try:
            if isinstance(asked, AskIndex):
                return Index(tuple(self.index()))
            if isinstance(asked, AskLog):
                return await self._log(asked)
            if isinstance(asked, AskLoad):
                await self._load(asked.name)
            else:
                self._known(asked.name)
                await self._control.source.unload(self._control, asked.name)
        except LimenError as exc:
            return Denied(exc.code, failure_of(exc))
        return Done()

    def index(self) -> Iterator[IndexEntry]:
        """Yield the versions of every endpoint: those that answer, and those that failed or were unloaded."""
        reported = Reported.of(self._control.fleet)
        for endpoint in self._control.fleet.endpoints.values():
            if not endpoint.versions:
                yield IndexEntry(endpoint.name, "", IndexState.UNAVAILABLE, self._absence(endpoint))
            for version in endpoint.versions.values():
                view = version_view(version, reported)
                state = _STATES[State(view.state)]
                reason = view.reason if state is IndexState.UNAVAILABLE else ""
                yield IndexEntry(endpoint.name, version.number, state, reason)

    async def _load(self, name: str) -> None:
        self._known(name)
        outcome = await self._control.source.load(self._control, name)
        if isinstance(outcome, Refused):
            reason = outcome.failure.reason or Reason.INVALID_PACKAGE
            text = self._without_paths(outcome.failure.message, self._control.fleet.endpoints.get(name))
            raise InvalidPackage(text, reason=Reason(reason), violations=outcome.failure.violations)
        if outcome.failure:
            raise InvalidPackage(f"version {outcome.version}: {outcome.failure}")

    async def _log(self, asked: AskLog) -> Logging:
        """Change what is logged, and answer when gateways do so; one that does not say so for a while follows later."""
        control, fleet = self._control, self._control.fleet
        changes = {name: value for name, value in msgspec.structs.asdict(asked).items() if value is not None}
        if changes:
            fleet.log = msgspec.structs.replace(fleet.log, **changes)
            control.tick(control.now())
            until = control.now() + FOLLOW_S
            while not fleet.have_all_applied(fleet.snapshot.revision) and control.now() < until:  # noqa: ASYNC110  reports come to the fleet
                await asyncio.sleep(FOLLOW_S / 100)
        return Logging(fleet.log)

    def _known(self, name: str) -> None:
        endpoint = self._control.fleet.endpoints.get(name)
        if endpoint is None or endpoint.is_removed:
            raise NotFound("no model by that name")

    def _absence(self, endpoint: Endpoint) -> str:
        """Return why an endpoint has no version."""
        problem = endpoint.problem or self._control.source.problem_of(endpoint.name)
        problem = self._without_paths(problem, endpoint)
        return problem or (UNLOADED if endpoint.is_paused else "no version has been loaded yet")

    def _without_paths(self, text: str, endpoint: Endpoint | None) -> str:
        """Return a text as callers may see it: a package is told by its path to operators only."""
        if endpoint is not None and endpoint.versions:
            text = text.removeprefix(f"{endpoint.newest.opened.origin}: ")
        is_inside = str(Path(self._control.config.run).parent.parent) in text
        return "the package cannot be read; `limen status` shows why" if is_inside else text
