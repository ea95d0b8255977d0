"""Connections to PostgreSQL that never wait for ever: a server that is stopped, or a line that is half open, ends a statement.

PostgreSQL's own time limits are kept by the server, which is no help when the server, or the way to it, is what hangs.
Called by `storage.database`, where the driver is installed.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Any, Final

import sqlalchemy as sa
from psycopg import Connection, OperationalError

from limen.storage import causes

MARGIN_S: Final = 2.0
"""How much longer a server may be silent than it may let a statement wait for a lock."""


class BoundedConnection(Connection[Any]):
    """A connection whose server may be silent for so long and no longer."""

    silence_s = 0.0

    def wait(self, gen: Any, *args: Any, **options: Any) -> Any:
        """Wait for the server as the driver does, and give the connection up when nothing comes."""
        return super().wait(self._bounded(gen), *args, **options)

    def _bounded(self, gen: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
        heard_at = time.monotonic()
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if ready:
                    heard_at = time.monotonic()
                elif time.monotonic() - heard_at > self.silence_s:
                    self.pgconn.finish()
                    raise OperationalError(causes.SILENT)
                wanted = gen.send(ready)
        except StopIteration as done:
            return done.value


def bound_waits(engine: sa.Engine, busy_timeout_s: float) -> None:
    """Have every connection of an engine give up a server that is silent for longer than a writer may wait for its turn."""

    class Bounded(BoundedConnection):
        silence_s = busy_timeout_s + MARGIN_S

    def connect(_dialect: object, _record: object, args: Any, options: Any) -> Connection[Any]:
        return Bounded.connect(*args, **options)

    sa.event.listen(engine, "do_connect", connect)
