"""Slow work on endpoints, done concurrently: fetching a large package for one does not delay changes or rollbacks of others.

Used by `serving.sources.reconciler`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from limen.serving.sources.planning import PlannedEndpoint

LOG = logging.getLogger("limen.control")
PATIENCE_S: Final = 1.0
"""How long work is waited for that is not done at once; then it goes on by itself."""


class Errands:
    """One piece of work for each endpoint as it is planned."""

    def __init__(self) -> None:
        """Start with nothing to do."""
        self._running: dict[str, tuple[PlannedEndpoint, asyncio.Task[None]]] = {}

    def is_underway(self, name: str) -> bool:
        """Whether work on an endpoint goes on, so that it is not yet on its way to what is planned."""
        return name in self._running

    async def run(
        self,
        work: Callable[[PlannedEndpoint], Awaitable[None]],
        endpoints: Iterable[PlannedEndpoint],
        *,
        to_the_end: bool = False,
    ) -> None:
        """Have work done for endpoints, and return when it is, or goes on by itself.

        Args:
            work: called for each; not while it is at work for the same plan of an endpoint.
            endpoints: as they are planned.
            to_the_end: whether to wait however long it takes.
        """
        tasks = {self._begin(work, planned) for planned in endpoints}
        if tasks:
            done, _ = await asyncio.wait(tasks, timeout=None if to_the_end else PATIENCE_S)
            for task in done:
                task.result()

    def _begin(
        self, work: Callable[[PlannedEndpoint], Awaitable[None]], planned: PlannedEndpoint
    ) -> asyncio.Task[None]:
        name = planned.spec.name
        before, task = self._running.get(name, (None, None))
        if task is None or task.done() or before != planned:
            task = asyncio.ensure_future(_do(work, planned))
            self._running[name] = planned, task
            task.add_done_callback(lambda ended: self._end(name, ended))
        return task

    def _end(self, name: str, ended: asyncio.Task[None]) -> None:
        if name in self._running and self._running[name][1] is ended:
            del self._running[name]
        if not ended.cancelled() and (exc := ended.exception()) is not None:
            LOG.error("the endpoint %s cannot be updated", name, exc_info=exc)


async def _do(work: Callable[[PlannedEndpoint], Awaitable[None]], planned: PlannedEndpoint) -> None:
    await work(planned)
