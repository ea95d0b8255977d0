"""One HTTP/1.1 connection: parsing, limits, pipelining, writing and ending it.

Not here: what a path means (`gateway.http.app`) and timers (`gateway.http.server` sweeps all connections once a second).
Requests of one connection are answered in order, one at a time. A request that is refused while it is still arriving is
answered at once and the connection is closed, because what follows cannot be trusted to be a request.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from typing import TYPE_CHECKING, Any

import httptools

from limen.contracts.errors import Cancelled, Internal
from limen.gateway.http.errors import Refused, error_response, not_http, too_large
from limen.gateway.http.heads import head_of
from limen.gateway.http.message import STATUS_LINES, Head, Request, Response
from limen.gateway.http.phase import Phase

if TYPE_CHECKING:
    from limen.gateway.http.server import HttpServer

# Looking a member up on its class costs more than the comparison it is for.
_IDLE, _REFUSED = Phase.IDLE, Phase.REFUSED
_METHOD_AND_TARGET = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64} ([!-~]+) HTTP/1\.[01]\r\n")


class Connection(asyncio.Protocol):
    """The protocol object of one connection."""

    __slots__ = (
        "_body", "_body_left", "_body_wire", "_busy", "_chunks", "_feeding", "_head_bytes", "_head_ended",
        "_head_lines", "_headers", "_limits", "_out", "_parser", "_paused_bytes", "_queue", "_raw_head", "_refused", "_request",
        "_server", "_target", "_task", "_transport", "body_bytes", "body_since", "paused_at", "phase", "since",
    )  # fmt: skip

    def __init__(self, server: HttpServer) -> None:
        """Belong to a server, which owns the limits, the clock and the application."""
        self._server = server
        self._limits = server.limits
        self._parser: Any = httptools.HttpRequestParser(self)
        self._transport: Any = None
        self._queue: deque[Request | Refused] = deque()
        self._task: asyncio.Task[Any] | None = None
        self._busy = False
        self._feeding = False
        self._refused: Refused | None = None
        self._out: list[bytes] = []
        self._target = b""
        self._raw_head = b""
        self._headers: dict[bytes, bytes] = {}
        self._head_bytes = self._head_lines = 0
        self._head_ended = True
        self._request: Request | None = None
        self._body: list[bytes] = []
        self.body_bytes = self._body_wire = self._body_left = self._chunks = self._paused_bytes = 0
        self.phase = Phase.IDLE
        self.since = self.body_since = self.paused_at = 0.0

    # ---- asyncio.Protocol -------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start waiting for the first request."""
        self._transport = transport
        self.since = self._server.clock
        self._server.connections.add(self)
        if self._server.is_draining:
            # Accepted by the system before the listener closed, handed to us after everybody else was told.
            self.finish()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the work of a caller who has left."""
        self._server.connections.discard(self)
        self._queue.clear()
        # The parser refers back to us; what half a body holds must not wait for the garbage collector.
        self._parser, self._request, self._body = None, None, []
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        """Note since when the peer does not read its answers."""
        self.paused_at = self._server.clock
        self._paused_bytes = self._transport.get_write_buffer_size()
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Go on once the peer has read enough."""
        self.paused_at = 0.0
        self._transport.resume_reading()
        self._next()

    def data_received(self, data: bytes) -> None:
        """Parse what came, answer what can be answered, and send those answers in one write."""
        phase = self.phase
        if phase >= _REFUSED:
            return
        self._feeding = True
        if phase == _IDLE:
            request = self._server.known_heads.recall(data)
            if request is not None:
                self.since = self._server.clock
                self._answer_or_queue(request)
                self._feeding = False
                self._flush()
                return
        # Only a head that begins with this piece and is whole in it can be remembered.
        self._raw_head = head_of(data) if phase == _IDLE else b""
        try:
            while data:
                data = self._take_body(data) if self._body_left else self._parse(data)
        except Refused as refused:
            self._refuse(refused)
        except httptools.HttpParserError as exc:
            # The parser wraps what our own callbacks raise.
            self._refuse(self._refused or self._invalid(exc))
        self._feeding = False
        self._flush()

    def _parse(self, data: bytes) -> bytes:
        """Parse what came and return what is left of it when an offer to switch protocols interrupts."""
        arriving = self._request
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            # The offer is declined by saying nothing of it (RFC 9110, 7.8): what follows is HTTP/1.1 as before.
            return data[offer.args[0] :] if self.phase < _REFUSED else b""
        limits = self._limits
        if not self._head_ended:
            self._head_bytes += len(data)
            if self._head_bytes > limits.max_header_bytes * 2:
                raise Refused(431, "HEADERS_TOO_LARGE", "the request's head is too large")
        elif arriving is not None and arriving is self._request:
            # All of it belongs to one body. Chunk extensions and trailers are not in the body and could be endless.
            self._body_wire += len(data)
            if self._body_wire - self.body_bytes > 16 * limits.max_chunks + 2 * limits.max_header_bytes:
                raise Refused(413, "TOO_MANY_CHUNKS", "the body's chunks have too much around them")
        return b""

    def _take_body(self, data: bytes) -> bytes:
        """Take the body that the parser leaves to us, and return what comes after it.

        After a head with an offer to switch protocols the parser takes no body, although there is one when the offer is declined.
        """
        piece = data[: self._body_left]
        self._body_left -= len(piece)
        self.on_body(piece)
        if not self._body_left:
            self.on_message_complete()
        return data[len(piece) :]

    def _invalid(self, exc: httptools.HttpParserError) -> Refused:
        is_method = isinstance(exc, httptools.HttpParserInvalidMethodError)
        found = _METHOD_AND_TARGET.match(self._raw_head) if is_method else None
        return self._server.application.unknown_method(found[1]) if found else not_http()

    # ---- httptools callbacks ----------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Start a request, unless the last answer said that there will be no other."""
        if self.phase is Phase.CLOSING:
            self._stop(Refused(400, "BAD_REQUEST", "this connection is closing"))
        self._target = b""
        self._headers = {}
        self._head_bytes = self._head_lines = 0
        self._head_ended = False
        self.phase = Phase.HEAD
        self.since = self._server.clock

    def on_url(self, url: bytes) -> None:
        """Take a piece of the target."""
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take one header line."""
        headers = self._headers
        name = name.lower()
        self._head_bytes += len(name) + len(value)
        self._head_lines += 1
        if self._head_bytes > self._limits.max_header_bytes or self._head_lines > self._limits.max_headers:
            self._stop(Refused(431, "HEADERS_TOO_LARGE", "the request has too many or too large headers"))
        if self._head_ended:
            return  # a trailer: nothing that was decided by the headers may change after them
        headers[name] = value if name not in headers else headers[name] + b", " + value

    def on_headers_complete(self) -> None:
        """Refuse what can be refused before the body is read."""
        self._head_ended = True
        parser = self._parser
        head = Head(parser.get_method(), self._target, self._headers, keep_alive=parser.should_keep_alive())
        self._request = Request(head)
        self._body = []
        self.body_bytes = self._body_wire = self._chunks = 0
        self.phase = Phase.BODY
        self.body_since = self._server.clock
        try:
            self._server.application.admit(head)
        except Refused as refused:
            self._stop(refused)
        version = parser.get_http_version()
        if version not in {"1.1", "1.0"}:
            self._stop(not_http())
        if b"transfer-encoding" in self._headers or parser.should_upgrade():
            self._check_framing(head, version)
        if b"expect" in self._headers and version == "1.1":
            if self._headers[b"expect"].lower() != b"100-continue":
                self._stop(Refused(417, "BAD_REQUEST", "this expectation is not supported"))
            if not self._busy and not self._queue:
                self._out.append(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _check_framing(self, head: Head, version: str) -> None:
        """Look at a head whose body does not simply have a length."""
        coding = head.headers.get(b"transfer-encoding")
        if coding is not None and (coding.lower() != b"chunked" or version != "1.1"):
            self._stop(Refused(400, "BAD_REQUEST", "the only transfer coding is chunked, in HTTP/1.1"))
        if self._parser.should_upgrade():
            if coding is not None:
                self._stop(Refused(400, "BAD_REQUEST", "this server does not switch protocols"))
            if head.method == b"CONNECT":
                head.keep_alive = False
            else:
                self._body_left = int(head.headers.get(b"content-length", 0))

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        self.body_bytes += len(body)
        self.since = self._server.clock
        if self.body_bytes > self._limits.max_body_bytes:
            self._stop(too_large(self._limits.max_body_bytes))
        self._body.append(body)

    def on_chunk_header(self) -> None:
        """Count the chunks of a chunked body."""
        self._chunks += 1
        if self._chunks > self._limits.max_chunks:
            self._stop(Refused(413, "TOO_MANY_CHUNKS", f"a body may have at most {self._limits.max_chunks} chunks"))

    def on_message_complete(self) -> None:
        """Answer the request, or queue it behind the one in hand."""
        request = self._request
        if request is None or self._refused is not None or self._body_left:
            return
        self._request = None
        pieces, self._body = self._body, []
        request.body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self.phase = Phase.IDLE
        self.since = self._server.clock
        if self._raw_head:
            self._server.known_heads.remember(self._raw_head, request.head)
            self._raw_head = b""
        self._answer_or_queue(request)

    def _answer_or_queue(self, request: Request) -> None:
        if self._busy or self._queue or self.paused_at:
            self._queue.append(request)
            if len(self._queue) >= self._limits.max_pipelined:
                self._transport.pause_reading()
        else:
            self._start(request)

    # ---- answering --------------------------------------------------------------------------------------------------

    def _start(self, request: Request) -> None:
        """Run the application on a request: at once if it does not wait, in a task otherwise."""
        self._busy = True
        answer = self._server.application.handle(request)
        if type(answer) is Response:
            self._finish(request, answer)
        else:
            self._task = self._server.loop.create_task(self._wait(request, answer))

    async def _wait(self, request: Request, answer: Any) -> None:
        try:
            response = await answer
        except asyncio.CancelledError:
            if self._transport.is_closing():
                self._server.application.note(request, Cancelled())
                raise
            self._fail(request, Internal())
        except Exception as exc:  # noqa: BLE001  the application answers everything; this is the last resort
            self._fail(request, exc)
        else:
            self._finish(request, response)
        finally:
            self._task = None
        self._next()

    def _fail(self, request: Request, exc: Exception) -> None:
        error = Internal()
        error.__cause__ = exc
        self._server.application.note(request, error)
        self._finish(request, error_response(error, request.id))

    def _finish(self, request: Request, response: Response) -> None:
        """Write one answer and leave the connection ready for the next request."""
        self._busy = False
        keep_alive = request.head.keep_alive and not self._server.is_draining
        body = response.body
        head = b"%s%scontent-type: %s\r\ncontent-length: %d\r\nx-request-id: %s\r\n%s%s\r\n" % (
            STATUS_LINES[response.status],
            self._server.common_head,
            response.content_type,
            len(body),
            request.id.encode(),
            response.head,
            b"" if keep_alive else b"connection: close\r\n",
        )
        out = self._out
        out.append(head)
        if request.head.method != b"HEAD":
            out.append(body)
        if not keep_alive:
            self._flush()
            self._close()
        elif not self._feeding:
            self._flush()

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

    def _flush(self) -> None:
        out = self._out
        if out:
            self._transport.write(out[0] if len(out) == 1 else b"".join(out))
            self._out = []

    # ---- refusing and ending ----------------------------------------------------------------------------------------

    def _stop(self, refused: Refused) -> None:
        """Leave the parser: nothing after this belongs to a request."""
        self._refused = refused
        raise refused

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
        application = self._server.application
        request.id = request.id or application.next_id()
        application.note(request, refused)
        self._feeding = True
        self._finish(request, error_response(refused, request.id))

    def _close(self) -> None:
        """End the connection once the last answer is out, without a reset that could destroy it on its way."""
        self.phase = Phase.CLOSING
        self.since = self._server.clock
        self._queue.clear()
        if self._transport.can_write_eof() and not self._transport.is_closing():
            self._transport.write_eof()
        else:
            self._transport.close()

    def finish(self) -> None:
        """Close, unless a request is in hand or arriving; what is already written is still sent."""
        if not self.is_busy:
            self._transport.close()

    def time_out(self, refused: Refused | None) -> None:
        """End a connection that waited too long, with an answer when half a request is there."""
        if refused is None:
            self._transport.abort()
            return
        self._refuse(refused)
        self._feeding = False
        self._flush()

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
