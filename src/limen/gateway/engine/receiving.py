"""The receiving half of an HTTP/1.1 connection: turns bytes into whole requests, within limits.

Not here: what is done with a request and with a refusal (`gateway.engine.connection`, the only subclass).
"""

from __future__ import annotations

import re
from typing import Any

import httptools

from limen.contracts.strict.pieces import LARGE_TEXT
from limen.gateway.engine.errors import Refused, no_room, not_http, too_large
from limen.gateway.engine.framing import check_framing
from limen.gateway.engine.held_bytes import SMALL
from limen.gateway.engine.message import Head, Request
from limen.gateway.engine.phase import Phase
from limen.gateway.engine.state import ServerState

# Looking a member up on its class costs more than the comparison it is for.
_REFUSED = Phase.REFUSED
_BEGINS = {Phase.IDLE: 1, Phase.HEAD: 0}
"""How many requests begin in a piece that holds nothing but one unfinished head, by what was waited for before it."""
_METHOD_AND_TARGET = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64} ([!-~]+) HTTP/1\.[01]\r\n")


class Receiver:
    """Parses what one connection gets and counts what it costs."""

    __slots__ = (
        "_begun", "_body", "_body_left", "_body_wire", "_chunks", "_head_bytes", "_head_ended", "_head_lines", "_headers",
        "_parser", "_raw_head", "_refused", "_request", "_state", "_target", "body_bytes", "body_since", "held", "phase", "since",
    )  # fmt: skip

    def __init__(self, state: ServerState) -> None:
        """Share the state of a server."""
        self._state = state
        self._parser: Any = httptools.HttpRequestParser(self)
        self._refused: Refused | None = None
        self._target = b""
        self._raw_head = b""
        self._headers: dict[bytes, bytes] = {}
        self._head_bytes = self._head_lines = self._begun = 0
        self._head_ended = True
        self._request: Request | None = None
        self._body: list[bytes] = []
        self.body_bytes = self._body_wire = self._body_left = self._chunks = 0
        self.held = 0
        """Bytes of bodies that count for this connection."""
        self.phase = Phase.IDLE
        self.since = self.body_since = 0.0

    def _take(self, request: Request) -> None:
        """Do something with a whole request."""
        raise NotImplementedError

    def _invite(self) -> None:
        """Tell a caller who asks first that the body may come."""
        raise NotImplementedError

    def _read(self, data: bytes) -> Refused | None:
        """Parse a piece of what came, and return why it is refused; nothing after that can be trusted to be a request."""
        try:
            while data:
                data = self._take_body(data) if self._body_left else self._parse(data)
        except Refused as refused:
            return refused
        except httptools.HttpParserError as exc:
            # The parser wraps what our own callbacks raise.
            return self._refused or self._invalid(exc)
        return None

    def _parse(self, data: bytes) -> bytes:
        """Parse what came and return what is left of it when an offer to switch protocols interrupts."""
        arriving, phase = self._request, self.phase
        self._begun = 0
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            # The offer is declined by saying nothing of it (RFC 9110, 7.8): what follows is HTTP/1.1 as before.
            return data[offer.args[0] :] if self.phase < _REFUSED else b""
        limits = self._state.limits
        if not self._head_ended:
            # A piece that also holds what came before this head says nothing about the head's size.
            if self._begun == _BEGINS.get(phase):
                self._head_bytes += len(data)
            if self._head_bytes > limits.max_header_bytes * 2:
                raise Refused(431, "HEADERS_TOO_LARGE", "the request head is too large")
        elif arriving is not None and arriving is self._request:
            # All of it belongs to one body. Chunk extensions and trailers are not in the body and could be endless.
            self._body_wire += len(data)
            if self._body_wire - self.body_bytes > 16 * limits.max_chunks + 2 * limits.max_header_bytes:
                raise Refused(413, "TOO_MANY_CHUNKS", "the body's chunks have too much overhead")
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
        return self._state.application.unknown_method(found[1]) if found else not_http()

    # ---- httptools callbacks ----------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Start a request, unless the last answer said that there will be no other."""
        if self.phase is Phase.CLOSING:
            self._stop(Refused(400, "BAD_REQUEST", "this connection is closing"))
        self._begun += 1
        self._target = b""
        self._headers = {}
        self._head_bytes = self._head_lines = 0
        self._head_ended = False
        self.phase = Phase.HEAD
        self.since = self._state.clock

    def on_url(self, url: bytes) -> None:
        """Take a piece of the target."""
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take one header line."""
        headers = self._headers
        name = name.lower()
        self._head_bytes += len(name) + len(value)
        self._head_lines += 1
        if self._head_bytes > self._state.limits.max_header_bytes or self._head_lines > self._state.limits.max_headers:
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
        self.body_since = self._state.clock
        version = parser.get_http_version()
        try:
            self._state.application.admit(head)
            length = self._headers.get(b"content-length")
            if length is not None and len(length) > 4 and not self._state.held.fits(int(length)):
                raise no_room()
            if (
                version != "1.1"
                or b"transfer-encoding" in self._headers
                or b"expect" in self._headers
                or parser.should_upgrade()
            ):
                head.is_http_1_0 = version == "1.0"
                self._body_left = check_framing(head, version, upgrades=parser.should_upgrade())
        except Refused as refused:
            self._stop(refused)
        if b"expect" in self._headers and version == "1.1":
            self._invite()

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        self.body_bytes += len(body)
        self.since = self._state.clock
        if self.body_bytes > self._state.limits.max_body_bytes:
            self._stop(too_large(self._state.limits.max_body_bytes))
        if self.body_bytes > SMALL:
            self._hold(len(body))
        self._body.append(body)

    def _hold(self, size: int) -> None:
        """Count a piece of a large body, and with the first one that makes it large what came before."""
        held, request = self._state.held, self._request
        if request is None:
            return
        size = size if request.held else self.body_bytes
        # What the head said had room when it came; others may have come since.
        if held.now + size > held.most:
            held.refused += 1
            self._stop(no_room())
        request.held += size
        self.held += size
        held.take(size)

    def on_chunk_header(self) -> None:
        """Count the chunks of a chunked body."""
        self._chunks += 1
        if self._chunks > self._state.limits.max_chunks:
            self._stop(
                Refused(413, "TOO_MANY_CHUNKS", f"a body may have at most {self._state.limits.max_chunks} chunks")
            )

    def on_message_complete(self) -> None:
        """Answer the request, or queue it behind the one in hand."""
        request = self._request
        if request is None or self._refused is not None or self._body_left:
            return
        self._request = None
        pieces, self._body = self._body, []
        if self.body_bytes > LARGE_TEXT:
            request.pieces = pieces
        else:
            request.body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self.phase = Phase.IDLE
        self.since = self._state.clock
        if self._raw_head:
            self._state.known_heads.remember(self._raw_head, request.head)
            self._raw_head = b""
        self._take(request)

    def _stop(self, refused: Refused) -> None:
        """Leave the parser: nothing after this belongs to a request."""
        self._refused = refused
        raise refused
