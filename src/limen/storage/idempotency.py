"""Idempotency keys: a repeated request changes things once and gets the same answer.

    begin   in a transaction of its own, before the work; a stored answer ends the request here
    finish  in the transaction of the change itself, so that both are there or neither is
    forget  when the work failed in a way that a retry may cure, so that the same key may try again

A key belongs to one principal and one request. A key that is in flight is given up after a while, because the process that worked on
it may be gone. Called by the management API.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from limen.contracts.errors import InvalidArgument, NotAllowedNow, Reason
from limen.storage.schema import idempotency_keys as keys

MAX_KEY: Final = 255
KEPT_FOR_S: Final = 86_400.0
"""How long an answer is kept: longer than any client retries."""
IN_FLIGHT_FOR_S: Final = 900.0
"""How long a request may be worked on before its key may be used again: a large package takes minutes to check."""


class StoredAnswer(msgspec.Struct, frozen=True):
    """What was answered the first time."""

    status: int
    body: bytes


class IdempotencyStore:
    """Keys that were seen, and what they were answered."""

    def __init__(
        self,
        clock: Callable[[], datetime],
        *,
        kept_for_s: float = KEPT_FOR_S,
        in_flight_for_s: float = IN_FLIGHT_FOR_S,
    ) -> None:
        """Keep time with `clock`, which gives it with its zone."""
        self._clock = clock
        self._kept_for = timedelta(seconds=kept_for_s)
        self._in_flight_for = timedelta(seconds=in_flight_for_s)

    def begin(
        self, connection: sa.Connection, principal: str, key: str, operation: str, body_digest: str
    ) -> StoredAnswer | None:
        """Note that a request is worked on; return the answer when it was given already.

        Args:
            operation: what is asked for, with its path.
            body_digest: SHA-256 of what was sent, in hexadecimal digits.

        Raises:
            InvalidArgument: KEY_REUSED; it was used for another request. IDEMPOTENCY; it is no key.
            NotAllowedNow: IDEMPOTENCY; the request is being worked on.
        """
        ensure_key(key)
        now = self._clock()
        self._forget_old(connection, now)
        seen = connection.execute(sa.select(keys).where(*_is(principal, key))).one_or_none()
        if seen is None:
            request = {"operation": operation, "body_digest": body_digest, "started_at": now}
            connection.execute(keys.insert().values(principal=principal, key=key, **request))
            return None
        return _answer_of(seen, operation, body_digest)

    def finish(self, connection: sa.Connection, principal: str, key: str, status: int, body: bytes) -> None:
        """Keep the answer of a request that was begun."""
        connection.execute(keys.update().where(*_is(principal, key)).values(status=status, answer=body))

    def forget(self, connection: sa.Connection, principal: str, key: str) -> None:
        """Let a request that failed be tried again with its key."""
        connection.execute(keys.delete().where(*_is(principal, key), keys.c.status.is_(None)))

    def forget_unfinished(self, connection: sa.Connection) -> None:
        """Let every unfinished request be tried again: for the start of a process that is the only one to work on any."""
        connection.execute(keys.delete().where(keys.c.status.is_(None)))

    def _forget_old(self, connection: sa.Connection, now: datetime) -> None:
        is_old = keys.c.started_at < now - self._kept_for
        is_given_up = keys.c.status.is_(None) & (keys.c.started_at < now - self._in_flight_for)
        connection.execute(keys.delete().where(is_old | is_given_up))


def ensure_key(key: str) -> None:
    """Raise `InvalidArgument` (IDEMPOTENCY) for what can be no key."""
    if not (0 < len(key) <= MAX_KEY and key.isascii() and key.isprintable()):
        text = f"an idempotency key must be 1 to {MAX_KEY} printable ASCII characters"
        raise InvalidArgument(text, reason=Reason.IDEMPOTENCY)


def _answer_of(seen: sa.Row[Any], operation: str, body_digest: str) -> StoredAnswer:
    if (seen.operation, seen.body_digest) != (operation, body_digest):
        raise InvalidArgument("this idempotency key was used for a different request", reason=Reason.KEY_REUSED)
    if seen.status is None:
        raise NotAllowedNow(
            "the request with this idempotency key is still in progress",
            reason=Reason.IDEMPOTENCY,
            retry_after_s=1.0,
        )
    return StoredAnswer(seen.status, seen.answer)


def _is(principal: str, key: str) -> tuple[sa.ColumnElement[bool], ...]:
    return keys.c.principal == principal, keys.c.key == key
