"""When a call is tried again, and when it is not (F24)."""

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limen.client.retries import Attempt, RetryBudget, Retrying, RetryPolicy, Unanswered
from limen.contracts import errors
from limen.contracts.errors import (
    CallerError,
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    LimenError,
    ModelFailed,
    NotAllowedNow,
    Reason,
    ResourceExhausted,
    Unavailable,
)


class Server:
    """Fails as told and answers when there is nothing more to fail with."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.seen: list[int] = []

    async def ask(self, attempt: Attempt) -> str:
        self.seen.append(attempt.number)
        if self.failures:
            raise self.failures.pop(0)
        return "answer"


class Trial:
    """Runs calls against a server, with waits that take no time and are noted."""

    def __init__(self, *, chance: float = 1.0, **policy: float) -> None:
        self.waits: list[float] = []

        async def sleep(seconds: float) -> None:
            self.waits.append(seconds)

        self._retrying = Retrying(RetryPolicy(**policy), sleep, lambda: chance)  # type: ignore[arg-type]

    def run(self, ask: Callable, timeout_s: float | None = 60.0) -> object:
        return asyncio.run(self._retrying.run(ask, timeout_s))


def test_a_server_that_is_starting_is_asked_again_and_told_so():
    server, trial = Server(Unavailable(), Unavailable()), Trial()
    assert trial.run(server.ask) == "answer"
    assert server.seen == [0, 1, 2]


def test_waits_grow_up_to_the_longest():
    trial = Trial(attempts=5, reserve=9, first_wait_s=0.5, longest_wait_s=1.5)
    with pytest.raises(Unavailable):
        trial.run(Server(*(Unavailable() for _ in range(9))).ask)
    assert trial.waits == [0.5, 1.0, 1.5, 1.5]


def test_a_random_part_of_the_wait_is_waited():
    trial = Trial(chance=0.25, first_wait_s=0.4)
    trial.run(Server(Unavailable()).ask)
    assert trial.waits == [0.1]


def test_what_the_server_asks_for_is_waited_on_top():
    trial = Trial(chance=0.5, first_wait_s=0.2)
    trial.run(Server(ResourceExhausted(retry_after_s=3.0)).ask)
    assert trial.waits == [3.1]


def test_a_server_that_asks_for_too_long_a_wait_is_not_asked_again():
    server = Server(Unavailable(retry_after_s=31.0))
    with pytest.raises(Unavailable):
        Trial().run(server.ask)
    assert server.seen == [0]


def test_nothing_is_waited_for_that_comes_after_the_time_is_up():
    server = Server(Unavailable(retry_after_s=5.0))
    trial = Trial()
    with pytest.raises(Unavailable):
        trial.run(server.ask, timeout_s=4.0)
    assert (server.seen, trial.waits) == ([0], [])


def leaves(root: type[LimenError]) -> list[type[LimenError]]:
    own = [c for c in root.__subclasses__() if c.__module__ == errors.__name__]
    return [leaf for child in own for leaf in leaves(child)] or [root]


@pytest.mark.parametrize(
    "kind", [*leaves(CallerError), ModelFailed, Internal, DeadlineExceeded], ids=lambda k: k.__name__
)
def test_what_asking_again_cannot_help_is_not_asked_again(kind):
    server = Server(kind())
    with pytest.raises(kind):
        Trial().run(server.ask)
    assert server.seen == [0]


def test_a_change_that_is_still_worked_on_is_asked_for_again():
    running = NotAllowedNow(reason=Reason.IDEMPOTENCY, retry_after_s=1.0)
    assert Trial().run(Server(running).ask) == "answer"
    with pytest.raises(NotAllowedNow):
        Trial().run(Server(NotAllowedNow(reason=Reason.IN_USE, retry_after_s=1.0)).ask)


def test_a_time_limit_is_for_all_attempts_and_raises_the_error_of_a_late_answer():
    async def never(attempt: Attempt) -> None:
        await asyncio.Event().wait()

    with pytest.raises(DeadlineExceeded):
        Trial().run(never, timeout_s=0.001)


def test_a_cancelled_call_is_not_an_error_of_ours():
    async def cancelled(attempt: Attempt) -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        Trial().run(cancelled)


def test_an_idle_connection_that_was_closed_costs_no_retry():
    server = Server(Unanswered(), Unanswered())
    trial = Trial(reserve=0, budget=0.0)
    assert trial.run(server.ask) == "answer"
    assert (server.seen, trial.waits) == ([0, 0, 0], [0.0, 0.0])
    with pytest.raises(Unavailable):
        trial.run(Server(*(Unanswered() for _ in range(9))).ask)


@given(
    calls=st.integers(20, 400),
    attempts=st.integers(1, 6),
    ratio=st.sampled_from([0.05, 0.1, 0.2]),
    reserve=st.integers(0, 2),
)
def test_a_failing_server_gets_a_tenth_more_than_it_was_asked(calls, attempts, ratio, reserve):
    """F24: amplification is at most 1 + budget, over any number of calls that has earned the reserve."""
    trial = Trial(attempts=attempts, budget=ratio, reserve=reserve)
    asked = 0

    async def fail(attempt: Attempt) -> None:
        nonlocal asked
        asked += 1
        raise Unavailable

    async def all_of_them() -> None:
        for _ in range(calls):
            with pytest.raises(Unavailable):
                await trial._retrying.run(fail, 60.0)

    asyncio.run(all_of_them())
    assert asked <= calls + max(reserve, ratio * calls) + 1e-6


def test_a_client_that_has_asked_long_keeps_no_more_than_ten_retries():
    budget = RetryBudget(0.1, 0)
    for _ in range(1000):
        budget.earn()
    assert sum(budget.spend() for _ in range(100)) == 10


def test_the_callers_own_mistake_is_told_as_it_is():
    with pytest.raises(InvalidArgument, match="x: must be a number"):
        Trial().run(Server(InvalidArgument.at("x", "must be a number")).ask)


@pytest.mark.parametrize(
    ("reason", "request_id", "takes_s", "asked"),
    [
        (Reason.STORAGE, "r", 5.0, 1),
        (Reason.STORAGE_FULL, "r", 5.0, 1),
        (Reason.STORAGE, "r", 0.1, 2),
        # Nobody has answered: whether anything was done is found out by asking again.
        (Reason.STORAGE, "", 5.0, 2),
        (Reason.OVERLOADED, "r", 5.0, 2),
    ],
)
def test_f15_a_server_that_has_waited_for_its_store_is_not_made_to_wait_again(
    monkeypatch: pytest.MonkeyPatch, reason: Reason, request_id: str, takes_s: float, asked: int
):
    failure = Unavailable("the registry's database is locked by someone else", reason=reason)
    failure.request_id = request_id
    server, now = Server(failure), [0.0]
    monkeypatch.setattr("limen.client.retries.time.monotonic", lambda: now[0])

    async def ask(attempt: Attempt) -> str:
        now[0] += takes_s
        return await server.ask(attempt)

    if asked == 1:
        with pytest.raises(Unavailable):
            Trial().run(ask)
    else:
        assert Trial().run(ask) == "answer"
    assert len(server.seen) == asked
