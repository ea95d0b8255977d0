"""One HTTP/1.1 connection: pipelining, answering, writing and closing.

Not here: parsing (`gateway.engine.receiving`), the inside of an answer in pieces (`gateway.engine.sending`), what a path means
(`gateway.http.app`) and timers (`gateway.engine.server` sweeps all connections once a second).
Requests of one connection are answered in order, one at a time. A request that is refused while it is still arriving is
answered at once and the connection is closed, because what follows cannot be trusted to be a request.
"""

from __future__ import annotations

import asyncio
import select
from collections import deque
from collections.abc import Callable
from typing import Any

from limen.contracts.errors import Cancelled, Internal
from limen.gateway.engine.errors import Refused, error_response
from limen.gateway.engine.heads import head_of
from limen.gateway.engine.message import STATUS_LINES, Head, Pending, Request, Response, Streaming
from limen.gateway.engine.phase import Phase
from limen.gateway.engine.receiving import Receiver
from limen.gateway.engine.sending import Sender
from limen.gateway.engine.state import ServerState

# Looking a member up on its class costs more than the comparison it is for.
_IDLE, _REFUSED = Phase.IDLE, Phase.REFUSED
LISTENS_S = 0.3
"""How long a caller who has ended its side may wait for its answer before it is asked whether it is still there."""
_LEFT = getattr(select, "POLLRDHUP", 0)
"""The peer has closed its end (Linux); elsewhere only a reset is seen."""


class Connection(Receiver, asyncio.Protocol):
    """The protocol object of one connection."""

    __slots__ = (
        "_busy", "_feeding", "_has_ended", "_in_hand", "_is_asked", "_joined", "_last_head", "_left", "_out", "_paused_bytes", "_pending", "_queue", "_sender", "_task",
        "_transport",
        "paused_at",
    )  # fmt: skip

    def __init__(
        self, state: ServerState, joined: Callable[[Connection], None], left: Callable[[Connection], None]
    ) -> None:
        """Share the state of a server, which is told when the connection is made and lost."""
        super().__init__(state)
        self._joined, self._left = joined, left
        self._transport: Any = None
        self._queue: deque[Request | Refused] = deque()
        self._task: asyncio.Task[None] | None = None
        self._sender: Sender | None = None
        self._pending: Pending | None = None
        self._in_hand: Any = None
        self._busy = False
        self._feeding = False
        self._has_ended = self._is_asked = False
        self._out: list[bytes] = []
        self._last_head = 0
        self._paused_bytes = 0
        self.paused_at = 0.0

    # ---- asyncio.Protocol -------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start waiting for the first request."""
        self._transport = transport
        self.since = self._state.clock
        self._joined(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the work of a caller who has left."""
        self._release(self.held)
        self._left(self)
        self._queue.clear()
        # The parser refers back to us; what half a body holds must not wait for the garbage collector.
        self._parser, self._request, self._body = None, None, []
        if self._task is not None:
            self._task.cancel()
        pending, self._pending = self._pending, None
        if pending is not None:
            self._state.application.note(self._in_hand, Cancelled())
            if pending.cancel is not None:
                pending.cancel()

    def pause_writing(self) -> None:
        """Note since when the peer does not read its answers."""
        self.paused_at = self._state.clock
        self._paused_bytes = self._transport.get_write_buffer_size()
        self.held += self._paused_bytes
        self._state.held.take(self._paused_bytes)
        self._transport.pause_reading()
        if self._sender is not None:
            self._sender.pause()

    def resume_writing(self) -> None:
        """Go on once the peer has read enough."""
        self.paused_at = 0.0
        self._release(self._paused_bytes)
        self._transport.resume_reading()
        if self._sender is not None:
            self._sender.resume()
        self._next()

    def data_received(self, data: bytes) -> None:
        """Parse what came, answer what can be answered, and send those answers in one write."""
        phase = self.phase
        if phase >= _REFUSED:
            return
        self._feeding = True
        if phase == _IDLE:
            request = self._state.known_heads.recall(data)
            if request is not None:
                self.since = self._state.clock
                self._take(request)
                self._feeding = False
                if self._state.is_crowded:
                    self._make_way()
                self._flush()
                return
        # Only a head that begins with this piece and is whole in it can be remembered.
        self._raw_head = head_of(data) if phase == _IDLE else b""
        refused = self._read(data)
        if refused is not None:
            self._refuse(refused)
        self._feeding = False
        if self._state.is_crowded:
            self._make_way()
        self._flush()

    def eof_received(self) -> bool:
        """Answer what has come whole, to a caller who sends nothing more; return whether the connection stays open for that.

        The caller of a stream has left: what is made for it piece by piece is not made for nobody.
        """
        if self._sender is not None or not (self._busy or self._queue):
            return False
        if not self._has_ended:
            self._has_ended = True
            self._state.loop.call_later(LISTENS_S, self._find_out)
        return True

    def _find_out(self) -> None:
        """Find out whether a caller who sends nothing more still listens: one who has left looks the same.

        The word that says so is one that a caller may ignore; the system of one who has left answers it with a reset.
        """
        request = self._in_hand
        if request is None or request.head.is_http_1_0 or self._sender is not None or self.paused_at:
            return
        if not self._is_asked and not self._transport.is_closing():
            self._is_asked = True
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._state.loop.call_later(LISTENS_S, self.look_for_end)

    def _release_request(self, request: Request) -> None:
        held, request.held = request.held, 0
        self._release(held)

    def _release(self, size: int) -> None:
        self.held -= size
        self._state.held.give(size)

    def _invite(self) -> None:
        """Tell a caller who asks first that the body may come, unless an answer has to go out before."""
        if not self._busy and not self._queue:
            self._out.append(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _take(self, request: Request) -> None:
        if self._busy or self._queue or self.paused_at:
            self._queue.append(request)
            # A large one is the last that is read ahead: what one connection holds is bounded, too.
            if len(self._queue) >= self._state.limits.max_pipelined or request.held:
                self._transport.pause_reading()
        else:
            self._start(request)

    # ---- answering --------------------------------------------------------------------------------------------------

    def _start(self, request: Request) -> None:
        """Run the application on a request; only what has to wait by itself gets a task."""
        self._busy = True
        application = self._state.application
        answer: Any = application.handle(request)
        if type(answer) is Response:
            self._finish(request, answer)
        elif isinstance(answer, Pending):
            if answer.early is not None:
                self._finish(request, application.settle(request, answer.early))
                return
            self._pending, self._in_hand = answer, request
            answer.deliver = self._deliver
        else:
            self._in_hand = request
            if isinstance(answer, Streaming):
                self._sender = Sender(self._state, request, answer, self._transport.write)
            self._task = self._state.loop.create_task(self._wait(request, answer))

    def _deliver(self, outcome: Response | Exception) -> None:
        """Give the pending answer; one that comes after the caller has left is nobody's."""
        if self._pending is None:
            return
        request, self._pending, self._in_hand = self._in_hand, None, None
        self.since = self._state.clock
        self._finish(request, self._state.application.settle(request, outcome))
        if self._queue:
            self._next()

    async def _wait(self, request: Request, answer: Any) -> None:
        """Wait for an answer and see it out."""
        outcome: Response | bool
        try:
            outcome = await (answer if self._sender is None else self._sender.run())
        except asyncio.CancelledError:
            if self._sender is not None:
                raise  # it has said what there was to say
            if self._transport.is_closing():
                self._state.application.note(request, Cancelled())
                raise
            outcome = self._state.application.settle(request, Internal())
        except Exception as exc:  # noqa: BLE001  the application answers everything; this is the last resort
            outcome = self._state.application.settle(request, exc)
        finally:
            self._task = self._sender = self._in_hand = None
        self.since = self._state.clock
        if isinstance(outcome, Response):
            self._finish(request, outcome)
        else:
            self._busy = self._is_asked = False
            self._release_request(request)
            head = request.head
            if not outcome:
                self.phase = Phase.CLOSING
                self._transport.abort()
            elif not self._stays(request) or head.is_http_1_0:
                self._close()
        self._next()

    def _finish(self, request: Request, response: Response) -> None:
        """Write one answer and leave the connection ready for the next request."""
        self._busy = self._is_asked = False
        if request.held:
            self._release_request(request)
        keep_alive = self._stays(request)
        body = response.body
        head = b"%s%scontent-type: %s\r\ncontent-length: %d\r\nx-request-id: %s\r\n%s%s\r\n" % (
            STATUS_LINES[response.status],
            self._state.common_head,
            response.content_type,
            len(body),
            request.id.encode(),
            response.head,
            b"" if keep_alive else b"connection: close\r\n",
        )
        out = self._out
        self._last_head = len(out)
        out.append(head)
        if request.head.method != b"HEAD":
            out.append(body)
        if not keep_alive:
            self._flush()
            self._close()
        elif not self._feeding:
            self._flush()

    def _stays(self, request: Request) -> bool:
        """Whether another request may follow one that is answered now."""
        state = self._state
        if not request.head.keep_alive or state.is_draining:
            return False
        if self._queue or self._feeding:
            return True
        return not self._has_ended and not state.is_crowded

    def _next(self) -> None:
        """Answer what has been waiting behind the last answer."""
        queue = self._queue
        while queue and not self._busy and not self.paused_at and self.phase is not Phase.CLOSING:
            waiting = queue.popleft()
            if isinstance(waiting, Refused):
                self._answer_refusal(waiting)
            else:
                self._start(waiting)
        if not queue and not self.paused_at and not self._transport.is_closing():
            self._transport.resume_reading()

    def _make_way(self) -> None:
        """Close after the last answer that is about to go out, when callers wait outside and nothing else is asked here."""
        out = self._out
        if out and not self.is_busy and self.phase is Phase.IDLE:
            out[self._last_head] = out[self._last_head][:-2] + b"connection: close\r\n\r\n"
            self._flush()
            self._close()

    def _flush(self) -> None:
        out = self._out
        if out:
            self._transport.write(out[0] if len(out) == 1 else b"".join(out))
            self._out = []

    # ---- refusing and ending ----------------------------------------------------------------------------------------

    def _refuse(self, refused: Refused) -> None:
        """Refuse the request that is arriving, after the answers to those before it."""
        if self.phase is Phase.CLOSING:
            return
        if self._busy or self._queue:
            self.phase = Phase.REFUSED
            self._queue.append(refused)
            self._transport.pause_reading()
        else:
            self._answer_refusal(refused)

    def _answer_refusal(self, refused: Refused) -> None:
        request = self._request or Request(Head(b"", b"", {}, keep_alive=False))
        request.head.keep_alive = False
        application = self._state.application
        request.id = request.id or application.next_id()
        application.note(request, refused)
        self._feeding = True
        self._finish(request, error_response(refused, request.id))

    def _close(self) -> None:
        """End the connection once the last answer is out, without a reset that could destroy it on its way."""
        self.phase = Phase.CLOSING
        self.since = self._state.clock
        self._queue.clear()
        if self._transport.can_write_eof() and not self._transport.is_closing():
            self._transport.write_eof()
        else:
            self._transport.close()

    def finish(self) -> None:
        """Close, unless a request is in hand or arriving; what is already written is still sent."""
        if not self.is_busy:
            self._transport.close()

    def look_for_end(self) -> None:
        """Notice that the peer has left while what it sends is not read; reading would have told, and what waits unread hides it."""
        transport = self._transport
        is_deaf = self._has_ended or not transport.is_reading()
        if is_deaf and not self.paused_at and not transport.is_closing():
            look = select.poll()
            look.register(transport.get_extra_info("socket").fileno(), 0 if self._has_ended else _LEFT)
            for _, events in look.poll(0):
                if events & (select.POLLERR | select.POLLHUP):
                    transport.abort()
                else:
                    self._find_out()

    def time_out(self, refused: Refused | None) -> None:
        """End a connection that waited too long, with an answer when half a request is there."""
        if refused is None:
            self._transport.abort()
            return
        self._refuse(refused)
        self._feeding = False
        self._flush()

    def break_off(self) -> bool:
        """End the stream in hand with a word inside it, and return whether there is one and somebody who reads it."""
        if self._sender is None or self._task is None or self.paused_at:
            return False
        self._sender.cut_off(self._task)
        return True

    @property
    def is_busy(self) -> bool:
        """Whether a request is in hand or arriving."""
        return self._busy or bool(self._queue) or self.phase in (Phase.HEAD, Phase.BODY)

    @property
    def is_reading(self) -> bool:
        """Whether what the peer sends is taken; if not, it cannot be late."""
        return bool(self._transport.is_reading())

    @property
    def drained_bytes(self) -> int:
        """How much the peer has read since it was too slow."""
        left: int = self._transport.get_write_buffer_size()
        return max(0, self._paused_bytes - left)
