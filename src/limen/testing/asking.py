"""Asking the sinks of a placement, and holding their models back. Nothing here needs pytest."""

from __future__ import annotations

import asyncio
import fcntl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from limen.contracts.errors import LimenError
from limen.contracts.inference import NO_DEADLINE, Deadline, InferenceRequest, InferenceResponse, Outcome
from limen.runtime.predictor import Sink


def answer_of(outcome: Outcome) -> InferenceResponse:
    """Return an outcome that has to be an answer, or raise the error that it is."""
    if isinstance(outcome, LimenError):
        raise outcome
    return outcome


async def ask(sink: Sink, request: InferenceRequest, deadline: Deadline = NO_DEADLINE) -> Outcome:
    """Return the outcome of one request."""
    (outcome,) = await ask_all(sink, [request], deadline)
    return outcome


async def ask_all(
    sink: Sink, batch: Sequence[InferenceRequest], deadline: Deadline = NO_DEADLINE, timeout_s: float = 20
) -> Sequence[Outcome]:
    """Return the outcomes of a batch."""
    return await asyncio.wait_for(send(sink, batch, deadline), timeout_s)


def send(
    sink: Sink, batch: Sequence[InferenceRequest], deadline: Deadline = NO_DEADLINE
) -> asyncio.Future[Sequence[Outcome]]:
    """Send a batch and return what will hold its outcomes; a second answer would be an error of the future."""
    answer: asyncio.Future[Sequence[Outcome]] = asyncio.get_running_loop().create_future()
    sink.send(batch, deadline, answer.set_result)
    assert not answer.done(), "answered before `send` returned"
    return answer


class Gate:
    """A file that a model waits for: it is locked until the gate opens."""

    def __init__(self, path: Path) -> None:
        """Close the gate."""
        self.path = str(path)
        self._entered = path.with_name(path.name + ".entered")
        self._file = path.open("wb")
        fcntl.flock(self._file, fcntl.LOCK_EX)

    async def entered(self) -> None:
        """Return when a model waits."""
        await until(self._entered.exists)

    def open(self) -> None:
        """Let models go on; an open gate stays open."""
        self._file.close()


@contextmanager
def closed_gate(folder: Path) -> Iterator[Gate]:
    """Hold a gate that opens at the end of the block."""
    gate = Gate(folder / "gate")
    try:
        yield gate
    finally:
        gate.open()


async def until(condition: Callable[[], object], timeout_s: float = 10) -> None:
    """Return when a condition holds; it is polled, because other processes bring it about."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)
