"""Answers with a model that lives in a replica process.

Calls are numbered, sent as they come and answered as they are done; the replica works on one at a time. When it dies, the calls it
had are failed, and a new replica is started, after a pause that grows while it keeps dying.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from asyncio.subprocess import Process
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from itertools import count

from limen.contracts.errors import DeadlineExceeded, InvalidPackage, LimenError, ModelFailed, Unavailable
from limen.contracts.inference import Deadline, InferenceRequest, InferenceResponse, Outcome
from limen.runtime.placement.process import frames
from limen.runtime.placement.process.frames import Answer, Call, Cancel, Failure, Frames, Ready, Start

LOG = logging.getLogger("limen.runtime")
LOAD_TIMEOUT_S = 300.0
"""The longest a model may take to load."""
STOP_S = 5.0
"""How long a replica may take to close its model before it is killed."""
MIN_PAUSE_S = 0.1
MAX_PAUSE_S = 30.0
STEADY_S = 60.0
"""A replica that lived this long is forgiven its earlier deaths."""

Launch = Callable[[], Awaitable[tuple[Process, socket.socket]]]


class _Link(asyncio.Protocol):
    """The worker's end of the connection to one replica."""

    def __init__(self, on_message: Callable[[Ready | Answer | Failure], None], on_end: Callable[[], None]) -> None:
        self._frames = Frames()
        self._on_message = on_message
        self._on_end = on_end

    def data_received(self, data: bytes) -> None:
        """Hand over every whole message."""
        for body in self._frames.feed(data):
            self._on_message(frames.decode_to_worker(body))

    def connection_lost(self, exc: Exception | None) -> None:
        """Say that the replica has gone."""
        self._on_end()


class ProcessPredictor:
    """One replica process behind the `Predictor` seam, replaced when it dies."""

    def __init__(self, name: str, version: str, start: Start, launch: Launch) -> None:
        """Prepare; `open` starts the first replica.

        Args:
            name: the model, for its answers.
            version: the version, for its answers.
            start: what a replica is told to load.
            launch: starts a process and gives our end of its connection.
        """
        self._name = name
        self._version = version
        self._start = start
        self._launch = launch
        self._ids = count(1)
        self._calls: dict[int, asyncio.Queue[Answer | LimenError]] = {}
        self._transport: asyncio.Transport | None = None
        self._process: Process | None = None
        self._loaded: asyncio.Future[Ready] | None = None
        self._ended = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self.can_stream = False
        self.restarts = 0
        """How many replicas have been started in place of a dead one."""

    @property
    def pid(self) -> int | None:
        """The replica's process id while there is one."""
        return self._process.pid if self._process is not None and self._transport is not None else None

    async def open(self) -> None:
        """Start the first replica and watch over it from then on.

        Raises:
            InvalidPackage: the package cannot be loaded.
        """
        await self._connect()
        self._keeper = asyncio.create_task(self._keep(), name=f"replica of {self._name}")

    def predict_now(self, request: InferenceRequest, deadline: Deadline) -> Outcome | None:
        """Say that every answer has to be waited for: it comes from another process."""
        return None

    async def predict(self, batch: Sequence[InferenceRequest], deadline: Deadline) -> Sequence[Outcome]:
        """Send the whole batch and gather the answers; each fails alone."""
        if len(batch) == 1:
            return [await self._answer(batch[0], deadline)]
        return await asyncio.gather(*(self._answer(request, deadline) for request in batch))

    async def stream(self, request: InferenceRequest, deadline: Deadline) -> AsyncGenerator[InferenceResponse, None]:
        """Yield the parts as the replica gives them; leaving early tells it to stop."""
        call_id, answers = self._send(request, deadline, is_stream=True)
        is_over = False
        try:
            while True:
                answer = await _next(answers, deadline)
                if isinstance(answer, LimenError):
                    is_over = True
                    raise answer
                if answer.is_last:
                    is_over = True
                    return
                yield InferenceResponse(self._name, self._version, frames.tensors(answer.outputs), request.id)
        finally:
            self._forget(call_id, is_over=is_over)

    async def close(self) -> None:
        """End the replica and give its memory back; idempotent."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            await asyncio.wait((keeper,))
        await self._end()

    async def _answer(self, request: InferenceRequest, deadline: Deadline) -> Outcome:
        try:
            call_id, answers = self._send(request, deadline, is_stream=False)
        except LimenError as exc:
            return exc
        is_over = False
        try:
            answer = await _next(answers, deadline)
            is_over = True
        except LimenError as exc:
            return exc
        finally:
            self._forget(call_id, is_over=is_over)
        if isinstance(answer, LimenError):
            return answer
        return InferenceResponse(self._name, self._version, frames.tensors(answer.outputs), request.id)

    def _send(
        self, request: InferenceRequest, deadline: Deadline, *, is_stream: bool
    ) -> tuple[int, asyncio.Queue[Answer | LimenError]]:
        deadline.check()
        if self._transport is None:
            raise Unavailable("the model is being restarted", retry_after_s=1.0)
        call_id = next(self._ids)
        call = Call(
            call_id,
            request.rows,
            frames.blocks(request.inputs),
            dict(request.parameters),
            deadline.at,
            is_stream,
        )
        self._transport.write(frames.frame(call))
        answers: asyncio.Queue[Answer | LimenError] = asyncio.Queue()
        self._calls[call_id] = answers
        return call_id, answers

    def _forget(self, call_id: int, *, is_over: bool) -> None:
        """Stop waiting for a call, and tell the replica unless it has answered."""
        if self._calls.pop(call_id, None) is not None and not is_over and self._transport is not None:
            self._transport.write(frames.frame(Cancel(call_id)))

    def _take(self, message: Ready | Answer | Failure) -> None:
        """Sort in what the replica says."""
        if isinstance(message, Answer):
            waiting = self._calls.get(message.id)
            if waiting is not None:
                waiting.put_nowait(message)
        elif isinstance(message, Failure) and message.id:
            waiting = self._calls.get(message.id)
            if waiting is not None:
                waiting.put_nowait(frames.error_of(message))
        elif self._loaded is not None and not self._loaded.done():
            if isinstance(message, Ready):
                self._loaded.set_result(message)
            else:
                self._loaded.set_exception(frames.error_of(message))

    def _lost(self) -> None:
        """Fail what the replica had in hand when its connection ended."""
        self._transport = None
        self._ended.set()
        if self._loaded is not None and not self._loaded.done():
            self._loaded.set_exception(InvalidPackage("the model's process ended while it was loading"))
        for answers in self._calls.values():
            answers.put_nowait(ModelFailed("the model's process ended"))

    async def _connect(self) -> None:
        """Start a replica and wait until it has loaded the package."""
        loop = asyncio.get_running_loop()
        self._ended.clear()
        self._process, connection = await self._launch()
        self._loaded = loop.create_future()
        transport, _ = await loop.create_unix_connection(lambda: _Link(self._take, self._lost), sock=connection)
        transport.write(frames.frame(self._start))
        try:
            done, _ = await asyncio.wait((self._loaded,), timeout=LOAD_TIMEOUT_S)
            if not done:
                raise InvalidPackage(f"the model was not loaded within {LOAD_TIMEOUT_S:g} s")
            self.can_stream = self._loaded.result().can_stream
        except BaseException:
            transport.close()
            await self._end()
            raise
        self._transport = transport

    async def _keep(self) -> None:
        """Replace the replica whenever it dies."""
        loop = asyncio.get_running_loop()
        pause = MIN_PAUSE_S
        while True:
            started = loop.time()
            await self._ended.wait()
            await self._end()
            pause = MIN_PAUSE_S if loop.time() - started > STEADY_S else min(pause * 2, MAX_PAUSE_S)
            LOG.warning("the replica of %s version %s ended; another starts", self._name, self._version)
            await asyncio.sleep(pause)
            try:
                await self._connect()
            except (LimenError, OSError) as exc:
                LOG.warning("the replica of %s version %s did not start", self._name, self._version, exc_info=exc)
                self._ended.set()
            else:
                self.restarts += 1

    async def _end(self) -> None:
        """Close the connection and see the process off."""
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.close()
        process, self._process = self._process, None
        if process is None:
            return
        waiting = asyncio.ensure_future(process.wait())
        done, _ = await asyncio.wait((waiting,), timeout=STOP_S)
        if not done:
            process.kill()
            await waiting


async def _next(answers: asyncio.Queue[Answer | LimenError], deadline: Deadline) -> Answer | LimenError:
    """Return the next answer of a call, or raise `DeadlineExceeded`."""
    if not deadline.is_set:
        return await answers.get()
    try:
        async with asyncio.timeout(max(0.0, deadline.remaining_s())):
            return await answers.get()
    except TimeoutError:
        raise DeadlineExceeded from None
