"""Finds and repairs damaged package files while their models run from memory, before anything loads them.

A look costs a few system calls for each version; files are hashed only when the system says that something has happened to them.
Called by `serving.control.controlplane`. Not here: versions that are down because of it (`serving.control.mending`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

from limen.contracts.errors import LimenError
from limen.packaging.archive.intact import is_intact
from limen.serving.fleet.records import Phase, Version

LOG = logging.getLogger("limen.control")
EVERY_S = 5.0


class Scrubbing:
    """Looks at the files of live versions every few seconds."""

    def __init__(self, mend: Callable[[Version], Awaitable[bool]]) -> None:
        """Begin; `mend` brings the package of a version back where it lies, if it is not whole."""
        self._mend = mend
        self._due = 0.0
        self._task: asyncio.Task[None] | None = None
        self._told: dict[str, str] = {}
        """What was said of each folder that cannot be made whole."""

    def look(self, versions: Iterable[Version], now: float) -> None:
        """Have a look when it is time for one; returns at once."""
        if now < self._due or (self._task is not None and not self._task.done()):
            return
        self._due = now + EVERY_S
        self._task = asyncio.create_task(self.scrub([v for v in versions if v.phase is Phase.LIVE and not v.down]))

    def look_soon(self) -> None:
        """Look the next time that is asked: a model is about to be loaded again."""
        self._due = 0.0

    async def scrub(self, versions: Iterable[Version]) -> None:
        """Look at the files of these versions, and have those that are damaged made whole."""
        for version in versions:
            opened, name = version.opened, f"{version.opened.endpoint} version {version.number}"
            if await asyncio.to_thread(is_intact, Path(opened.root), opened.digest):
                self._told.pop(opened.root, None)
                continue
            try:
                if await self._mend(version):
                    LOG.warning("%s: its files on this machine were damaged and have been restored", name)
            except (LimenError, OSError) as exc:
                if self._told.get(opened.root) != str(exc):
                    self._told[opened.root] = str(exc)
                    LOG.warning("%s: its files are damaged and cannot be restored; it runs from memory: %s", name, exc)
