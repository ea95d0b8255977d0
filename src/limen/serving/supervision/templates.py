"""Which template a wanted process is forked from: waits for it, and says when there is none. Used by `serving.supervision.child`; starts nothing."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final, Protocol

from limen.runtime.sandbox.forking import Template
from limen.serving.messages.lines import ProcessPhase, ProcessState

READY_S: Final = 60.0
"""How long a process waits for its template before it is started as a program, which would have as much to import."""


class Kept(Protocol):
    """What keeps a template."""

    state: ProcessState
    template: Template | None
    """Of this life."""


class Templates:
    """The templates of one supervisor."""

    def __init__(self, kept: Callable[[str], Kept | None] = lambda _: None) -> None:
        """Look templates up by name; None is one that is not wanted."""
        self._kept = kept
        self._changed = asyncio.Event()

    def changed(self) -> None:
        """Look again: a template is ready, or has ended."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def ready(self, name: str) -> Template | None:
        """Wait for a template and return it; None when it cannot be had."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(READY_S):
                while (kept := self._kept(name)) is not None:
                    if kept.state.phase in (ProcessPhase.REFUSING, ProcessPhase.STOPPING, ProcessPhase.ENDED):
                        break
                    found = kept.template
                    if found is not None and not found.is_lost and kept.state.phase is ProcessPhase.RUNNING:
                        return found
                    await self._changed.wait()
        return None
