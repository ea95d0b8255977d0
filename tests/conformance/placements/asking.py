"""How the placement suites talk to a sink."""

import asyncio
from collections.abc import Sequence

from limen.contracts.inference import NO_DEADLINE, Deadline, InferenceRequest, Outcome
from limen.runtime.predictor import Sink


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
