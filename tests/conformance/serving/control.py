"""The control process as gateways see it, in a thread of its own: it answers what callers of the management extensions ask for."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future

import msgspec

from limen.contracts.errors import ErrorCode, Reason, Violation
from limen.contracts.oip.repository_index import IndexEntry, IndexState
from limen.contracts.snapshot import LogLevels
from limen.serving.messages.lines import (
    AskIndex,
    AskLoad,
    AskLog,
    AskUnload,
    Denied,
    Done,
    Failure,
    Index,
    Logging,
    Operation,
    ToOperation,
    line,
)

ENTRIES = (
    IndexEntry("pair", "1", IndexState.READY),
    IndexEntry("other", "2", IndexState.UNAVAILABLE, "unloaded"),
    IndexEntry("other", "3", IndexState.LOADING),
    IndexEntry("empty", "", IndexState.UNAVAILABLE, "no version has been loaded yet"),
)


class ScriptedControl:
    """Knows four models: `pair`, `other`, `empty`, and `broken`, which cannot be loaded."""

    def __init__(self, path: str) -> None:
        self.heard: list[Operation] = []
        self.levels = LogLevels()
        self.is_silent = False
        """Whether connections are closed without an answer."""
        self._path = path
        self._loop = asyncio.new_event_loop()
        self._started: Future[None] = Future()
        self._stopping = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._main(),), daemon=True)
        self._thread.start()
        self._started.result(30)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(30)
        self._loop.close()

    async def _main(self) -> None:
        async with await asyncio.start_unix_server(self._serve, self._path):
            self._started.set_result(None)
            await self._stopping.wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = msgspec.json.decode(await reader.readline(), type=Operation)
        self.heard.append(asked)
        if not self.is_silent:
            writer.write(line(self._answer(asked)))
            await writer.drain()
        writer.close()

    def _answer(self, asked: Operation) -> ToOperation:
        if isinstance(asked, AskIndex):
            return Index(ENTRIES)
        if isinstance(asked, AskLog):
            changes = {k: v for k, v in msgspec.structs.asdict(asked).items() if v is not None}
            self.levels = msgspec.structs.replace(self.levels, **changes)
            return Logging(self.levels)
        if asked.name == "broken" and isinstance(asked, AskLoad):
            violations = (Violation("artifact", "is not there"),)
            failure = Failure("version 2: no", Reason.INVALID_PACKAGE.value, violations)
            return Denied(ErrorCode.FAILED_PRECONDITION, failure)
        if asked.name not in {"pair", "other", "empty", "broken"}:
            return Denied(ErrorCode.NOT_FOUND, Failure("no model by that name", Reason.NOT_FOUND.value))
        return Done()

    def changes(self) -> list[AskLoad | AskUnload]:
        """Return what was asked to be loaded and unloaded since the last time."""
        found = [asked for asked in self.heard if isinstance(asked, AskLoad | AskUnload)]
        self.heard.clear()
        return found
