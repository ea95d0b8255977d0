"""Versions without a working replica: reports each once, and repairs their packages until they answer again.

A replica that cannot start is started again by the supervisor, after growing pauses. What that does not help against is a package that has
been lost or damaged: the source of the endpoints is asked to bring it back. Called by `serving.control.controlplane`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from limen.contracts.errors import LimenError
from limen.serving.fleet.records import Version

LOG = logging.getLogger("limen.control")
PAUSE_S = 5.0
"""Between two looks at the package of a version that is down, at first; then twice as long each time."""
MAX_PAUSE_S = 300.0


@dataclass(slots=True)
class _Outage:
    """One version that is down."""

    since: float
    reason: str
    due: float
    """When its package is looked at next."""
    pause_s: float = PAUSE_S
    task: asyncio.Task[None] | None = None


class Mending:
    """Knows which versions are down."""

    def __init__(self, mend: Callable[[Version], Awaitable[bool]], restart: Callable[[Version], None]) -> None:
        """Start with none.

        Args:
            mend: brings the package of a version back if it is not whole, and returns whether it did.
            restart: starts the replicas of a version anew.
        """
        self._mend = mend
        self._restart = restart
        self._outages: dict[tuple[str, str], _Outage] = {}

    def look(self, versions: Iterable[Version], now: float) -> None:
        """Take note of what is down and what is not any more; returns at once."""
        down = {}
        for version in versions:
            if version.down:
                down[version.opened.endpoint, version.number] = version
            else:
                version.lost = ""
        for key in self._outages.keys() - down.keys():
            outage = self._outages.pop(key)
            LOG.warning("%s version %s is no longer down, after %.1f s", *key, now - outage.since)
        for key, version in down.items():
            outage = self._outages.setdefault(key, _Outage(now, "", now))
            if version.down != outage.reason:
                LOG.error("%s version %s is down and its callers are refused: %s", *key, version.down)
                outage.reason = version.down
            if now >= outage.due and (outage.task is None or outage.task.done()):
                outage.due, outage.pause_s = now + outage.pause_s, min(2 * outage.pause_s, MAX_PAUSE_S)
                outage.task = asyncio.create_task(self.mend(version))

    async def mend(self, version: Version) -> None:
        """Bring the package of a version back if it is not whole; then its replicas are started at once."""
        try:
            is_mended = await self._mend(version)
        except (LimenError, OSError) as exc:
            version.lost = f"its package cannot be restored: {exc}"
            return
        version.lost = ""
        if is_mended:
            name = version.opened.endpoint
            LOG.warning("%s version %s: its package was damaged and has been restored", name, version.number)
            self._restart(version)
