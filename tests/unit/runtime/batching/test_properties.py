"""What holds for the batcher whatever callers, the sink and the clock do."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limen.contracts.errors import DeadlineExceeded, Internal, ModelFailed
from limen.contracts.inference import NO_DEADLINE, Deadline, InferenceResponse, Outcome
from limen.runtime.batching.batcher import TICK_S, Batcher
from limen.runtime.batching.queue import DEFAULT_PRIORITY
from tests.unit.runtime.batching.fakes import Scene, Sent, answer, request

MAX_ROWS = 5
TERMS = (math.inf, math.inf, 0.05, 0.01, 0.001, 0.0)
STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("submit"),
            st.integers(1, 7),
            st.integers(1, 3),
            st.sampled_from((0, 0, 0, 1, 50, 100, 200)),
            st.sampled_from(TERMS),
            st.sampled_from(("quiet", "quiet", "raise", "cancel", "submit")),
        ),
        st.tuples(st.just("cancel"), st.integers(0, 30)),
        st.tuples(
            st.just("finish"),
            st.integers(0, 3),
            st.sampled_from(("answer", "one fails", "all fail", "too few")),
            st.booleans(),
        ),
        st.tuples(st.just("advance"), st.sampled_from((0.0005, 0.002, 0.01, 0.03))),
        st.tuples(st.just("turn")),
        st.tuples(st.just("refuse"), st.booleans()),
    ),
    max_size=60,
)


@dataclass(eq=False)
class Caller:
    """One request as its caller knows it."""

    number: int
    rows: int
    width: int
    priority: int
    at: float
    arrived: float
    cancel: Callable[[], None] = lambda: None
    is_cancelled: bool = False
    sent: Sent | None = None
    answers: list[Outcome] = field(default_factory=list)

    @property
    def group(self) -> tuple[int, int]:
        return self.width, self.priority or DEFAULT_PRIORITY

    @property
    def turn(self) -> tuple[int, int]:
        return self.priority or DEFAULT_PRIORITY, self.number

    @property
    def is_waiting(self) -> bool:
        return self.sent is None and not self.is_cancelled and not self.answers

    @property
    def is_live(self) -> bool:
        return not self.is_cancelled and not self.answers


class Model:
    """A scene with everything its callers know; checks whatever happens against it."""

    def __init__(self, wait_ms: float, capacity: int) -> None:
        self.wait_ms = wait_ms
        self.scene = Scene(max_rows=MAX_ROWS, wait_ms=wait_ms, capacity=capacity)
        self.scene.sink.during_send = self.sent
        self.faults: list[AssertionError] = []
        """What was seen from inside the batcher, which lets no exception of a caller or a sink through."""
        self.callers: list[Caller] = []

    # -- steps

    def submit(self, rows: int, width: int, priority: int, term: float, then: str) -> None:
        now = self.scene.loop.now
        caller = Caller(len(self.callers), rows, width, priority, now + term, now)
        self.callers.append(caller)

        def done(outcome: Outcome) -> None:
            if caller.is_cancelled or caller.answers:
                self.faults.append(AssertionError("answered twice, or after it was cancelled"))
            caller.answers.append(outcome)
            if then == "raise":
                raise RuntimeError("a caller's own fault")
            if then == "cancel":
                self.cancel(caller.number + 1)
            if then == "submit":
                self.submit(1, width, priority, term, "quiet")

        deadline = NO_DEADLINE if term == math.inf else Deadline(caller.at)
        batcher: Batcher = self.scene.batcher
        caller.cancel = batcher.submit(
            request(str(caller.number), rows, width=width, priority=priority), deadline, done
        )
        assert not caller.answers, "answered before submit returned"

    def cancel(self, number: int) -> None:
        if number < len(self.callers):
            caller = self.callers[number]
            caller.is_cancelled |= not caller.answers
            caller.cancel()

    def finish(self, index: int, how: str, is_free_first: bool) -> None:
        sink = self.scene.sink
        if not sink.running:
            return
        sent = sink.running.pop(index % len(sink.running))
        outcomes: list[Outcome] = [answer(request) for request in sent.batch]
        if how == "one fails":
            outcomes[-1] = ModelFailed(sent.ids[-1])
        elif how == "all fail":
            outcomes = [ModelFailed(name) for name in sent.ids]
        elif how == "too few":
            outcomes = outcomes[:-1]
        if is_free_first:
            sink.release()
        sent.done(outcomes)
        if not is_free_first:
            sink.release()

    def refuse(self, is_broken: bool) -> None:
        self.scene.sink.failure = RuntimeError("broken") if is_broken else None

    def advance(self, seconds: float) -> None:
        self.scene.loop.advance(seconds)

    def turn(self) -> None:
        self.scene.loop.turn()

    # -- checks

    def sent(self, sent: Sent) -> None:
        try:
            self.check_sent(sent)
        except AssertionError as exc:
            self.faults.append(exc)

    def check_sent(self, sent: Sent) -> None:
        now = self.scene.loop.now
        members = [self.callers[int(name)] for name in sent.ids]
        assert members
        assert all(member.is_waiting for member in members), "sent after it had left"
        assert all(member.at > now for member in members), "expired work was sent"
        assert len({member.width for member in members}) == 1, "groups were mixed"
        assert len(members) == 1 or sum(member.rows for member in members) <= MAX_ROWS
        assert members == sorted(members, key=lambda member: member.turn)
        assert sent.deadline.at == max(member.at for member in members)
        for member in members:
            member.sent = sent
        for caller in self.callers:
            if caller.is_waiting and caller.at > now:
                if caller.width == members[0].width:
                    assert caller.turn > members[-1].turn, "overtaken within its group"
                elif not self.wait_ms:
                    assert caller.turn > members[0].turn, "the oldest did not go first"

    def check(self) -> None:
        if self.faults:
            raise self.faults[0]
        scene, now = self.scene, self.scene.loop.now
        batcher = scene.batcher
        waiting = [caller for caller in self.callers if caller.is_waiting]
        assert batcher.waiting == len(waiting)
        assert batcher.waiting_rows == sum(caller.rows for caller in waiting)
        flying = [sent for sent in scene.sink.running if any(self.callers[int(name)].is_live for name in sent.ids)]
        assert batcher.in_flight == sum(len(sent.batch) for sent in flying)
        assert batcher.in_flight_rows == sum(request.rows for sent in flying for request in sent.batch)
        assert all(sent.cancels == (sent not in flying) for sent in scene.sink.running)
        assert len(scene.loop.timers) <= 1
        if not scene.loop.soon:
            late = 2 * TICK_S
            assert all(not caller.is_live or caller.at > now - late for caller in self.callers), "not told in time"
            if scene.sink.free > 0:
                window = self.wait_ms / 1000
                assert all(caller.arrived + window > now - late for caller in waiting if self.wait_ms), "kept waiting"
                assert self.wait_ms or not waiting, "kept waiting"

    def settle(self) -> None:
        """Let the sink answer everything, and see that everybody has been told once what was meant for them."""
        self.refuse(False)
        while self.scene.batcher.waiting or self.scene.sink.running:
            self.advance(1.0)
            self.finish(0, "answer", False)
            self.check()
        self.advance(1.0)
        assert self.scene.counts == (0, 0, 0, 0)
        assert self.scene.batcher._in_flight.batches == {}
        assert self.scene.loop.timers == []
        for caller in self.callers:
            assert len(caller.answers) == (not caller.is_cancelled)
            for outcome in caller.answers:
                self.check_answer(caller, outcome)

    def check_answer(self, caller: Caller, outcome: Outcome) -> None:
        if isinstance(outcome, InferenceResponse):
            assert outcome.id == str(caller.number)
            assert outcome.outputs["y"].shape == (caller.rows, caller.width)
        elif isinstance(outcome, ModelFailed):
            assert outcome.message == str(caller.number)
        else:
            assert isinstance(outcome, Internal) or (isinstance(outcome, DeadlineExceeded) and caller.at < math.inf)


@pytest.mark.parametrize("capacity", [1, 2])
@pytest.mark.parametrize("wait_ms", [0.0, 10.0])
@given(steps=STEPS)
@settings(deadline=None, max_examples=120)
def test_everybody_is_answered_once_in_time_with_their_own_answer(wait_ms, capacity, steps):
    model = Model(wait_ms, capacity)
    for verb, *arguments in steps:
        getattr(model, verb)(*arguments)
        model.check()
    model.settle()
    # Every batch that was taken is accounted for.
    sent = [len(sent.batch) for sent in model.scene.sink.sent]
    told = [requests for _, _, requests, _ in model.scene.seen.batches]
    assert sum(told) >= sum(sent)
