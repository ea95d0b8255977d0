"""One ModelStreamInfer call: several requests in flight on one stream, each answered in one or more parts.

Requests run side by side, but single answers and errors are written in the order of their requests, as Triton does: callers without
ids match them by position. Only a model that answers in parts may overtake; its parts carry the request's id.

Source: Triton's sequence and decoupled extensions (`triton_grpc_error`, `triton_final_response`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from time import perf_counter
from typing import Final

from limen.contracts.errors import LimenError, Unavailable
from limen.contracts.identity import LOCAL
from limen.contracts.inference import StreamPart
from limen.contracts.names import REQUEST_ID
from limen.gateway.engine.held_bytes import HeldBytes
from limen.gateway.grpc._generated import open_inference_pb2 as pb
from limen.gateway.grpc.access import Access
from limen.gateway.grpc.messages import deadline_of, parse
from limen.gateway.grpc.oip.codec import decode_request, encode_part, encode_stream_error
from limen.gateway.grpc.oip.large_messages import LARGE_MESSAGE, count_fields
from limen.gateway.grpc.oip.parameters import Options
from limen.gateway.grpc.status import Context, failure, next_id, request_id_of
from limen.serving.dataplane.plane import DataPlane

ERROR_KEY: Final = "triton_grpc_error"
LAST_WORD_S: Final = 0.2
"""How long a stream of a stopping server, with every answer given, waits for the caller to say that nothing more is asked."""


class _Turn:
    """The place of one request in the order of the answers of its stream."""

    def __init__(self, before: _Turn | None) -> None:
        """Come after `before`; the first one comes at once."""
        self._before = before._over if before is not None else None  # noqa: SLF001 - of the same class
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def come(self) -> None:
        """Return when every request before has its answer."""
        if self._before is not None:
            await asyncio.shield(self._before)

    def end(self) -> None:
        """Let the next one come: at once when it is this one's turn, and otherwise together with it."""
        if self._before is None or self._before.done():
            self._let_go()
        else:
            self._before.add_done_callback(self._let_go)

    def _let_go(self, _: object = None) -> None:
        if not self._over.done():
            self._over.set_result(None)


class StreamSession:
    """Reads requests as long as there is room for them and writes parts as they come, one at a time.

    A slow reader of the answers holds its requests' places, so nothing piles up here. Cancelling `run` cancels every request.
    """

    def __init__(self, plane: DataPlane, context: Context, access: Access, max_requests: int, held: HeldBytes) -> None:
        """Answer from `plane` with at most `max_requests` in flight, whose bytes are counted in `held`."""
        self._plane = plane
        self._access = access
        self._held = held
        self._context = context
        self._places = asyncio.Semaphore(max_requests)
        self._writing = asyncio.Lock()
        self._reader: asyncio.Task[None] | None = None
        self._answering = 0
        self._is_draining = False
        self._is_cut_off = False
        self._ends_on_error = any(
            key == ERROR_KEY and value == "true" for key, value in context.invocation_metadata() or ()
        )

    async def run(self, requests: AsyncIterator[bytes]) -> None:
        """Return when the caller asks no more and everything is answered.

        Raises:
            Exception: the first error, when the caller wants errors as status.
            Unavailable: the session was drained while the caller might have asked more.
        """
        try:
            async with asyncio.TaskGroup() as group:
                self._reader = group.create_task(self._read(requests, group))
        except BaseExceptionGroup as broken:
            raise broken.exceptions[0] from None
        if self._is_cut_off:
            raise Unavailable("the server is stopping")

    def drain(self) -> None:
        """Refuse further requests; `run` ends once those before are answered."""
        self._is_draining = True
        self._end_soon()

    def _end_soon(self) -> None:
        if self._is_draining and not self._answering:
            asyncio.get_running_loop().call_later(LAST_WORD_S, self._cut_off)

    def _cut_off(self) -> None:
        """End a stream that is still open; a caller who has asked everything got every answer and a good end by now."""
        if not self._answering:
            self._is_cut_off = self._reader is None or self._reader.cancel()

    async def _read(self, requests: AsyncIterator[bytes], group: asyncio.TaskGroup) -> None:
        turn: _Turn | None = None
        async for data in requests:
            await self._places.acquire()
            self._answering += 1
            turn = _Turn(turn)
            group.create_task(self._answer(data, turn, is_late=self._is_draining))

    async def _answer(self, data: bytes, turn: _Turn, *, is_late: bool) -> None:
        request_id, called, is_in_order = "", request_id_of(self._context), True
        model = version = ""
        began = perf_counter()
        try:
            with self._held.holding(len(data)):
                if len(data) > LARGE_MESSAGE:
                    await count_fields(data)
                message = parse(pb.ModelInferRequest, data)
                request_id, model = message.id, message.model_name
                called = called or request_id
                if is_late:
                    raise Unavailable("the server is stopping")
                request, options = decode_request(message)
                request.priority, called = options.priority, called or next_id()
                deadline = deadline_of(self._context, options.timeout_s)
                deadline.check()
                single: StreamPart | None = None
                entry = LOCAL, model, request.model_version, request_id or called, "grpc", deadline
                with self._plane.enter(*entry, started_at=began) as visit:
                    visit.id = called
                    async with aclosing(visit.stream(request)) as parts:
                        async for part in parts:
                            version = part.response.model_version
                            if is_in_order and part.is_final:
                                single = part
                                break
                            is_in_order = False
                            turn.end()
                            await self._send_part(part, options)
                if single is not None:
                    # Nothing of the model is held while the answers before are not there.
                    await turn.come()
                    await self._send_part(single, options)
            self._access.answered(self._context, "ModelStreamInfer", model, version, called, began)
        except Exception as error:
            if isinstance(error, LimenError):
                self._plane.finaliser.refused(model, "", "grpc", error)
            called = self._access.failed(self._context, "ModelStreamInfer", model, called, error, began)
            if is_in_order:
                await turn.come()
            if self._ends_on_error:
                raise
            await self._send_error(error, request_id, called)
        finally:
            turn.end()
            self._places.release()
            self._answering -= 1
            self._end_soon()

    async def _send_part(self, part: StreamPart, options: Options) -> None:
        if part.response.outputs or not part.is_final or options.wants_empty_final:
            await self._write(encode_part(part.response, is_final=part.is_final, is_typed=options.is_typed))

    async def _send_error(self, error: Exception, request_id: str, called: str) -> None:
        failed = failure(error, called)
        # An id that breaks the rules is one of the errors; it is not sent back.
        echoed = request_id if REQUEST_ID.fullmatch(request_id) else ""
        await self._write(encode_stream_error(failed.text, echoed))

    async def _write(self, message: bytes) -> None:
        async with self._writing:
            await self._context.write(message)
