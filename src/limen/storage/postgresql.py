"""PostgreSQL connections that never wait forever: a stopped server or a half-open connection ends a statement.

PostgreSQL's own time limits are kept by the server, which is no help when the server, or the way to it, is what hangs.
Called by `storage.database`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from typing import Any, Final

import sqlalchemy as sa

from limen.storage import causes

MARGIN_S: Final = 2.0
"""How much longer a server may be silent than it may let a statement wait for a lock."""


def bound_waits(engine: sa.Engine, busy_timeout_s: float) -> None:
    """Have every connection of an engine give up a server that is silent for longer than a writer may wait for its turn.

    Raises:
        ModuleNotFoundError: the driver is not installed.
    """
    from psycopg import Connection, OperationalError

    class Bounded(Connection[Any]):
        """A connection whose server may be silent for so long and no longer."""

        def wait(self, gen: Any, *args: Any, **options: Any) -> Any:
            """Wait for the server as the driver does, and give the connection up when nothing comes."""

            def give_up() -> None:
                self.pgconn.finish()
                raise OperationalError(causes.SILENT)

            return super().wait(_bounded(gen, busy_timeout_s + MARGIN_S, give_up), *args, **options)

    def connect(_dialect: object, _record: object, args: Any, options: Any) -> Connection[Any]:
        return Bounded.connect(*args, **options)

    sa.event.listen(engine, "do_connect", connect)


def _bounded(gen: Generator[Any, Any, Any], silence_s: float, give_up: Callable[[], None]) -> Generator[Any, Any, Any]:
    """Pass on what a conversation with the server waits for; give up when it has waited for too long in one piece."""
    heard_at = time.monotonic()
    try:
        wanted = next(gen)
        while True:
            ready = yield wanted
            if ready:
                heard_at = time.monotonic()
            elif time.monotonic() - heard_at > silence_s:
                give_up()
            wanted = gen.send(ready)
    except StopIteration as done:
        return done.value
