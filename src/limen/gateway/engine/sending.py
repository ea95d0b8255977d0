"""Sends one streamed answer: framing, back-pressure and termination.

Made by `gateway.engine.connection`, which owns the transport and the order of answers; here is only what one stream needs.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from limen.contracts.errors import Cancelled, Internal, Unavailable
from limen.gateway.engine.errors import error_response
from limen.gateway.engine.message import STATUS_LINES, Request, Response, Streaming
from limen.gateway.engine.state import ServerState

LOG = logging.getLogger("limen.gateway")


class Sender:
    """Sends one stream. `run` is what its connection's task does; cancelling it means that the caller has left."""

    __slots__ = ("_answer", "_has_begun", "_is_chunked", "_is_cut_off", "_request", "_resumed", "_state", "_write")

    def __init__(self, state: ServerState, request: Request, answer: Streaming, write: Callable[[bytes], None]) -> None:
        """Send what `answer` gives, in answer to `request`, with `write`."""
        self._state = state
        self._request = request
        self._answer = answer
        self._write = write
        self._is_chunked = not request.head.is_http_1_0
        self._has_begun = False
        self._is_cut_off = False
        self._resumed: asyncio.Future[None] | None = None

    async def run(self) -> Response | bool:
        """Return an ordinary response if nothing has been sent, else whether the body ended well.

        Raises:
            asyncio.CancelledError: the caller has left.
        """
        failure: Exception | None = None
        try:
            if self._request.head.method != b"HEAD":
                async for piece in self._answer.pieces:
                    await self._send(piece)
        except asyncio.CancelledError:
            failure = self._why_cancelled()
            if failure is None:
                self._state.application.note(self._request, Cancelled())
                raise
        except Exception as exc:  # noqa: BLE001  told apart by the application
            failure = exc
        finally:
            # Before anything else is said: whoever makes the pieces holds a model.
            await self._close()
        return self._end(failure)

    def cut_off(self, task: asyncio.Task[None]) -> None:
        """End the stream in `task` before its pieces do; the caller is told so inside it."""
        self._is_cut_off = True
        task.cancel()

    def pause(self) -> None:
        """Ask for no further piece until `resume`: the caller does not read those it has."""
        if self._resumed is None:
            self._resumed = self._state.loop.create_future()

    def resume(self) -> None:
        """Go on after `pause`."""
        resumed, self._resumed = self._resumed, None
        if resumed is not None and not resumed.done():
            resumed.set_result(None)

    def _why_cancelled(self) -> Exception | None:
        """Return what the caller is told about an end that came from outside; None when it is the caller who has left."""
        task = asyncio.current_task()
        if self._is_cut_off and task is not None and task.uncancel() == 0:
            return Unavailable("the server is stopping")
        # Nobody cancelled this task: something that makes the pieces was.
        return None if task is None or task.cancelling() else Internal()

    async def _send(self, piece: bytes) -> None:
        self._put(piece)
        # One turn of the loop: the transport sends what it has or says that it is full, and others are served.
        await asyncio.sleep(0)
        while self._resumed is not None:
            await self._resumed

    def _put(self, piece: bytes) -> None:
        """Write one piece. An empty one would be the end of the body."""
        if piece:
            self._begin()
            self._write(b"%x\r\n%s\r\n" % (len(piece), piece) if self._is_chunked else piece)

    def _begin(self) -> None:
        """Write the head, once: until the first piece an error still has a status of its own."""
        if self._has_begun:
            return
        self._has_begun = True
        answer, request = self._answer, self._request
        is_last = not self._is_chunked or not request.head.keep_alive or self._state.is_draining
        self._write(
            b"%s%scontent-type: %s\r\n%sx-request-id: %s\r\n%s%s\r\n"
            % (
                STATUS_LINES[answer.status],
                self._state.common_head,
                answer.content_type,
                b"transfer-encoding: chunked\r\n" if self._is_chunked else b"",
                request.id.encode(),
                answer.head,
                b"connection: close\r\n" if is_last else b"",
            )
        )

    def _end(self, failure: Exception | None) -> Response | bool:
        application, request = self._state.application, self._request
        if failure is None:
            self._begin()
            application.note_success(request, self._answer.status)
        elif not self._has_begun:
            return application.settle(request, failure)
        else:
            error = application.told(request, failure)
            if self._answer.error_piece is None:
                return False
            self._put(self._answer.error_piece(error_response(error, request.id)))
        if self._is_chunked and request.head.method != b"HEAD":
            self._write(b"0\r\n\r\n")
        return True

    async def _close(self) -> None:
        try:
            await self._answer.pieces.aclose()
        except Exception as exc:  # what was asked for is sent or cannot be sent any more
            LOG.warning("an answer's iterator could not be closed", exc_info=exc)
