"""Recovers the work of a crashed replica: queued work moves to another one, running work is retried one request at a time.

Nobody is failed for the death of a replica but the request that is proven to cause it (`suspects`), streams, whose callers have had a
part of the answer, and who would wait too long. Called by `pool`, which does the sending.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from limen.contracts.errors import DeadlineExceeded, LimenError, ModelFailed, Unavailable
from limen.contracts.inference import Deadline, InferenceRequest, InferenceResponse, Outcome
from limen.runtime.placement.process.pool.suspects import Suspects
from limen.runtime.placement.process.pool.work import Stream, Work

LOG = logging.getLogger("limen.runtime")
MAX_LOSSES: Final = 3
"""Replicas that may end before they begin with a batch, until it is given up."""
WAIT_S: Final = 30.0
"""How long work waits for a replica when it has no deadline."""
ENDED: Final = "the model's process ended"


class Recovery:
    """The work of one pool that waits for a replica to be tried again."""

    def __init__(
        self, suspects: Suspects, start: Callable[[Work], None], answered: Callable[[Work], None], label: str
    ) -> None:
        """Prepare.

        Args:
            suspects: remembers who was in hand at a crash.
            start: sends work to a replica, if one is connected.
            answered: takes work that has all its outcomes.
            label: the version, for the log.
        """
        self.crashes = 0
        """Replicas that ended while they were running something of this gateway."""
        self._suspects = suspects
        self._start = start
        self._answered = answered
        self._label = label
        self._waiting: deque[tuple[Work, float]] = deque()
        """Work, and until when it waits."""

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits."""
        return not self._waiting

    def without_poison(
        self, batch: Sequence[InferenceRequest], deadline: Deadline, done: Callable[[Sequence[Outcome]], None]
    ) -> Work:
        """Start what may be run of a batch, and answer the rest."""
        work = Work(batch, deadline, done)
        work.results = [self._suspects.judge(request) for request in batch]
        good = [index for index, outcome in enumerate(work.results) if outcome is None]
        work.missing = len(good)
        if not good:
            asyncio.get_running_loop().call_soon(self._answered, work)
            return work

        def settle(outcomes: Sequence[Outcome]) -> None:
            for index, outcome in zip(good, outcomes, strict=True):
                work.settle(index, (outcome,))
            self._answered(work)

        rest = Work([batch[index] for index in good], deadline, settle)
        work.children = [rest]
        self._start(rest)
        return work

    def lost(self, works: Iterable[Work], streams: Iterable[Stream], running: int, hang_after_s: float = 0.0) -> None:
        """Take what a replica had when it ended.

        Args:
            works: the batches.
            streams: the streams.
            running: the call it was at (0: none; -1: unknown, so every one).
            hang_after_s: what it took longer than, if it was killed for that.
        """
        for work in works:
            work.link = None
            if running in (work.call, -1):
                self._crashed(work, hang_after_s)
                continue
            work.losses += 1
            if work.losses > MAX_LOSSES:
                self.give_up(work, ModelFailed(ENDED))
            else:
                # Before the suspects: they may end the next replica as well.
                self.wait(work, is_first=True)
        for stream in streams:
            stream.link = None
            if running in (stream.call, -1):
                self.crashes += 1
                self._suspects.crashed((stream.request,), was_alone=True, hang_after_s=hang_after_s)
            stream.end(ModelFailed(ENDED))

    def last_words(self, request: InferenceRequest) -> None:
        """Count the end of a replica whose model ran out of memory on a request; the request is answered."""
        self.crashes += 1
        self._suspects.crashed((request,), was_alone=True)

    def _crashed(self, work: Work, hang_after_s: float) -> None:
        """Try the members of a batch one by one. One that was alone gets a second try, and is quarantined after that."""
        self.crashes += 1
        batch = work.batch
        poison = self._suspects.crashed(batch, was_alone=len(batch) == 1, hang_after_s=hang_after_s)
        if work.is_unwanted:
            return
        if poison is not None:
            self.give_up(work, poison)
        elif len(batch) == 1:
            work.is_suspect = True
            self.wait(work)
        else:
            LOG.warning("%s: a replica ended in a run of %d requests", self._label, len(batch))
            for index, request in enumerate(batch):
                if not work.results or work.results[index] is None:
                    child = Work((request,), work.deadline, _ignore, work, index)
                    work.children.append(child)
                    self.wait(child)

    def wait(self, work: Work, *, is_first: bool = False) -> None:
        """Keep work until a replica is free, its deadline at the most."""
        item = work, min(work.deadline.at, time.monotonic() + WAIT_S)
        if is_first:
            self._waiting.appendleft(item)
        else:
            self._waiting.append(item)

    def start_next(self) -> None:
        """Send the first that waits; answer it when it is too late for that."""
        work, until = self._waiting.popleft()
        if until <= time.monotonic():
            self._late(work)
        elif not work.is_unwanted:
            self._start(work)

    def expire(self, now: float) -> None:
        """Answer who has waited too long."""
        late = [work for work, until in self._waiting if until <= now]
        if late:
            self._waiting = deque(item for item in self._waiting if item[1] > now)
            for work in late:
                self._late(work)

    def clear(self) -> list[Work]:
        """Return what waits and forget it."""
        found = [work for work, _ in self._waiting]
        self._waiting.clear()
        return found

    def answered(self, work: Work) -> Work | None:
        """Take a suspect's outcome; return the batch that has all of its own now, itself or the one it is a member of, or None."""
        parent = work.parent
        if isinstance(work.results[0], InferenceResponse):
            self._suspects.cleared(work.batch[0])
        if parent is None:
            return work
        parent.settle(work.index, work.results)
        return parent if parent.missing == 0 else None

    def give_up(self, work: Work, exc: LimenError) -> None:
        """Answer what is missing with an error."""
        work.results = [exc if outcome is None else outcome for outcome in work.results or [None] * len(work.batch)]
        work.missing = 0
        self._answered(work)

    def _late(self, work: Work) -> None:
        is_late = work.deadline.at <= time.monotonic()
        self.give_up(work, DeadlineExceeded() if is_late else Unavailable(retry_after_s=1.0))


def _ignore(outcomes: Sequence[Outcome]) -> None:
    """Take the outcome of a member, which goes to its batch."""
