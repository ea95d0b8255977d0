"""Follows the settings file in the control process of a server: live settings take effect, the others wait for a restart.

The file is looked at once a second and read when it has stayed the same for that long, so that a file that is being written is not
read halfway. What cannot be read changes nothing: the server keeps its settings and says so.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final

from limen.contracts.errors import InvalidArgument
from limen.serving.messages.settings import SettingsView
from limen.settings import Settings, changed_keys, is_live, read_settings

LOG = logging.getLogger("limen.control")
LOOK_S: Final = 1.0
_Mark = tuple[int, int, int, int] | None
"""What tells one content of a file from another without reading it; None when there is no file."""


class LiveSettings:
    """The settings that hold in a server, and what its settings file says beyond them."""

    def __init__(self, started: Settings, now: Settings) -> None:
        """Begin with settings that hold.

        Args:
            started: the settings that the server was started with.
            now: those that hold, where live ones have been followed since.
        """
        self.now = now
        """The settings that hold."""
        self.take: Callable[[Collection[str]], None] = lambda _: None
        """Puts `now` and `problem` into effect; gets the settings that have changed."""
        self.problem = ""
        """Why the file cannot be followed; empty when it can."""
        self._started = started
        self._needs_restart: tuple[str, ...] = ()
        self._is_expected = started.sources.is_named or Path(started.sources.file).exists()
        self._seen: _Mark = None
        self._read: _Mark = (0, 0, 0, 0)

    async def follow(self) -> None:
        """Follow the file until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """Read the file if it is not what was read last, and is the same as at the last look."""
        mark = _mark_of(self._started.sources.file)
        is_settled, self._seen = mark == self._seen, mark
        if mark == self._read or not is_settled:
            return
        self._read = mark
        if mark is None and self._is_expected:
            self._fail(f"{self._started.sources.file}: the settings file is gone")
            return
        try:
            found = await asyncio.to_thread(read_settings, self._started.sources)
        except InvalidArgument as exc:
            self._fail(exc.message)
            return
        self._is_expected = mark is not None
        self._follow(found)

    def view(self) -> SettingsView:
        """Return what `limen status` shows of the settings."""
        return SettingsView(self._started.sources.file if self._is_expected else "", self.problem, self._needs_restart)

    def _fail(self, problem: str) -> None:
        LOG.error("the settings cannot be followed, and those before still hold: %s", problem)
        self.problem = problem
        self.take(())

    def _follow(self, found: Settings) -> None:
        file = self._started.sources.file
        was_broken = bool(self.problem)
        if was_broken:
            LOG.warning("the settings can be followed again: %s", file)
        self.problem = ""
        before, self.now = self.now, self.now.following(found)
        changed = changed_keys(before, self.now)
        if changed:
            LOG.info("settings have changed in %s: %s", file, ", ".join(changed))
        static = tuple(key for key in changed_keys(self._started, found) if not is_live(key))
        if static and static != self._needs_restart:
            LOG.warning("settings have changed in %s that need a restart of the server: %s", file, ", ".join(static))
        self._needs_restart = static
        if changed or was_broken:
            self.take(changed)


def _mark_of(path: str) -> _Mark:
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_size
