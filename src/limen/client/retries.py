"""Retry rules: never for the caller's own mistakes, never past the deadline, never beyond the budget.

A call's time limit spans all of its attempts. Between them passes an exponentially growing time of which a random part is waited
(full jitter), on top of what the server asked for in `Retry-After` or `RetryInfo`. A budget per client keeps retries to a share of
all calls, so that a server in trouble is not asked for more work than it was before.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import msgspec

from limen.contracts.errors import DeadlineExceeded, LimenError, Reason, Unavailable

T = TypeVar("T")

RETRY_HEADER: Final = "x-retry-attempt"
"""Marks the request as a retry; the server sheds retries first."""


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How often and how soon a call is tried again."""

    attempts: int = 4
    """How often one call is tried in all; 1 never tries again."""
    first_wait_s: float = 0.05
    """Upper limit of the first wait; it doubles with every attempt."""
    longest_wait_s: float = 2.0
    """Upper limit of any wait that the server did not ask for."""
    longest_hint_s: float = 30.0
    """A server that asks for a longer wait is not asked again."""
    budget: float = 0.1
    """Retries per call, over all calls of one client."""
    reserve: int = 2
    """Retries available to a new client in advance; later calls repay them."""


class Unanswered(Unavailable):
    """The connection was closed before a byte of the answer came."""


class RetryBudget:
    """Retries that may still be made: earned by calls, spent one at a time, and no more than ten of them kept."""

    MOST: Final = 10.0

    def __init__(self, ratio: float, reserve: int) -> None:
        """Start with the reserve, which the first calls pay back."""
        self._ratio = ratio
        self._left = float(reserve)
        self._owed = float(reserve)

    def earn(self) -> None:
        """Count a call."""
        if self._owed > 0:
            self._owed -= self._ratio
        else:
            self._left = min(self.MOST, self._left + self._ratio)

    def spend(self) -> bool:
        """Take one retry; False when there is none."""
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Attempt(msgspec.Struct, frozen=True):
    """One try of a call."""

    number: int
    """How many tries came before it."""
    ends_at: float
    """When the call's time is up, on `time.monotonic()`; infinity when it has no limit."""

    def remaining_s(self) -> float:
        """Return the seconds that are left."""
        return self.ends_at - time.monotonic()


class Retrying:
    """Runs the calls of one client."""

    def __init__(
        self,
        policy: RetryPolicy,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """Follow a policy; `sleep` and `chance` (a number from 0 to 1) are there for tests."""
        self._policy = policy
        self._sleep = sleep
        self._chance = chance
        self._budget = RetryBudget(policy.budget, policy.reserve)

    async def run(self, once: Callable[[Attempt], Awaitable[T]], timeout_s: float | None) -> T:
        """Return what `once` answers, trying again as the policy says.

        Args:
            once: makes one attempt; must be safe to run more than once.
            timeout_s: seconds for all attempts together and the waits between them; None for no limit.

        Raises:
            DeadlineExceeded: the time is up.
            LimenError: what the last attempt raised.
        """
        ends_at = float("inf") if timeout_s is None else time.monotonic() + timeout_s
        self._budget.earn()
        tries = number = 0
        while True:
            tries += 1
            attempt, begun = Attempt(number, ends_at), time.monotonic()
            try:
                async with asyncio.timeout(None if timeout_s is None else attempt.remaining_s()):
                    return await once(attempt)
            except TimeoutError as exc:
                raise DeadlineExceeded from exc
            except LimenError as error:
                # A server closes idle connections when it likes: it has not begun this request, so that is no second one.
                is_second = not isinstance(error, Unanswered)
                wait_s = self._wait_s(error, number) if is_second else 0.0
                if tries >= self._policy.attempts or wait_s is None or wait_s >= attempt.remaining_s():
                    raise
                if self._has_waited(error, time.monotonic() - begun):
                    raise
                if is_second and not self._budget.spend():
                    raise
            number += is_second
            await self._sleep(wait_s)

    def _has_waited(self, error: LimenError, took_s: float) -> bool:
        """Tell whether the server has waited for its store already, such as for a lock: whoever asks again would only wait as long again."""
        is_answer = bool(error.request_id) and error.reason in (Reason.STORAGE, Reason.STORAGE_FULL)
        return is_answer and took_s > self._policy.longest_wait_s

    def _wait_s(self, error: LimenError, number: int) -> float | None:
        """Return the seconds to wait before asking again; None when asking again is no use."""
        hint = error.retry_after_s or 0.0
        # The same request is still being answered: its answer is there when asked for again.
        is_running = error.reason is Reason.IDEMPOTENCY and error.retry_after_s is not None
        if not (error.retryable or is_running) or isinstance(error, DeadlineExceeded):
            return None
        if hint > self._policy.longest_hint_s:
            return None
        most = min(self._policy.longest_wait_s, self._policy.first_wait_s * 2.0**number)
        return hint + self._chance() * most
