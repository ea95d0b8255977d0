"""Work that a gateway has given to a replica: a batch, or a stream.

Not here: how it travels (`link`) and what happens when a replica dies (`pool`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from limen.contracts.errors import DeadlineExceeded, LimenError
from limen.contracts.inference import Deadline, InferenceRequest, InferenceResponse, Outcome
from limen.contracts.tensors import Array

WINDOW_PARTS = 32
"""Parts of a stream that a replica may be ahead of the caller who reads them."""


class Carrier(Protocol):
    """What carries work to a replica."""

    def cancel(self, call: int) -> None:
        """Tell the replica that a call is no longer wanted."""
        ...

    def credit(self, call: int, parts: int) -> None:
        """Tell the replica how many parts of a stream were read."""
        ...


class Work:
    """A batch that is to be run, or a member of one that is tried again alone."""

    __slots__ = (
        "batch",
        "call",
        "children",
        "deadline",
        "done",
        "index",
        "is_cancelled",
        "is_suspect",
        "link",
        "losses",
        "missing",
        "parent",
        "results",
        "rows",
        "sent_at",
    )

    def __init__(
        self,
        batch: Sequence[InferenceRequest],
        deadline: Deadline,
        done: Callable[[Sequence[Outcome]], None],
        parent: Work | None = None,
        index: int = 0,
    ) -> None:
        self.batch = batch
        self.deadline = deadline
        self.done = done
        self.parent = parent
        """The batch that was being run when its replica ended; this is one of its members, a suspect."""
        self.index = index
        self.children: list[Work] = []
        self.results: list[Outcome | None] = []
        self.missing = len(batch)
        """Requests without an answer."""
        self.losses = 0
        """How many replicas ended before they began with it."""
        self.rows = 0
        self.link: Carrier | None = None
        self.call = 0
        self.sent_at = 0.0
        self.is_cancelled = False
        self.is_suspect = parent is not None
        """Whether a replica has ended while it was being run."""

    @property
    def is_unwanted(self) -> bool:
        """Whether nobody waits for it any more."""
        return self.is_cancelled or (self.parent is not None and self.parent.is_cancelled)

    def settle(self, first: int, outcomes: Sequence[Outcome | None]) -> None:
        """Take the outcomes of the requests from `first` on."""
        if not self.results:
            self.results = [None] * len(self.batch)
        for index, outcome in enumerate(outcomes, first):
            if self.results[index] is None:
                self.results[index] = outcome
                self.missing -= 1

    def answer(
        self, first: int, batch: Sequence[InferenceRequest], outputs: dict[str, Array], name: str, version: str
    ) -> None:
        """Take the outputs of a run for `batch`, the requests from `first` on: each gets its rows."""
        if len(batch) == 1:
            self.settle(first, (InferenceResponse(name, version, outputs, batch[0].id),))
            return
        found: list[Outcome | None] = []
        stop = 0
        for request in batch:
            start = stop
            stop += request.rows
            own = {key: array[start:stop] for key, array in outputs.items()}
            found.append(InferenceResponse(name, version, own, request.id))
        if len(found) == self.missing == len(self.batch):
            self.results = found
            self.missing = 0
        else:
            self.settle(first, found)

    def cancel(self) -> None:
        """Say that nobody waits any more."""
        if self.is_cancelled:
            return
        self.is_cancelled = True
        if self.link is not None:
            self.link.cancel(self.call)
        for child in self.children:
            child.cancel()


class Stream:
    """A request that is answered in parts."""

    __slots__ = ("call", "error", "is_over", "link", "parts", "request", "wakened")

    def __init__(self, request: InferenceRequest) -> None:
        self.request = request
        self.parts: deque[dict[str, Array]] = deque()
        self.error: LimenError | None = None
        self.is_over = False
        self.wakened: asyncio.Future[None] | None = None
        self.link: Carrier | None = None
        self.call = 0

    def part(self, outputs: dict[str, Array]) -> None:
        """Take the next part."""
        self.parts.append(outputs)
        self.wake()

    def end(self, error: LimenError | None = None) -> None:
        """Take the end, in order or not."""
        if not self.is_over:
            self.is_over = True
            self.error = error
            self.wake()

    async def changed(self, deadline: Deadline) -> None:
        """Return when there is something new.

        Raises:
            DeadlineExceeded: there was nothing in time.
        """
        self.wakened = asyncio.get_running_loop().create_future()
        timeout = max(0.0, deadline.remaining_s()) if deadline.is_set else None
        done, _ = await asyncio.wait((self.wakened,), timeout=timeout)
        if not done:
            raise DeadlineExceeded

    def wake(self) -> None:
        """Let the reader look again."""
        wakened, self.wakened = self.wakened, None
        if wakened is not None and not wakened.done():
            wakened.set_result(None)
