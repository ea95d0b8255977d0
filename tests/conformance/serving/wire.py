"""A client that sends exactly the bytes it is given: what HTTP libraries would refuse to send is what these tests are about."""

from __future__ import annotations

import json
import select
import socket
from collections.abc import Mapping
from typing import Any, Self

PATIENCE_S = 60.0
JSON = {"content-type": "application/json"}


class Answer:
    """One response as it came."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    def json(self) -> Any:
        return json.loads(self.body, parse_constant=_no_constant)

    def __repr__(self) -> str:
        return f"<{self.status} {self.headers} {self.body[:600]!r}>"


class Wire:
    """One connection. `answer` reads one response, `rest` everything until the server closes."""

    def __init__(self, port: int, *, receive_buffer: int = 0) -> None:
        """Connect; a small receive buffer (in bytes) makes the server feel early that nobody reads."""
        self._socket = socket.socket()
        self._socket.settimeout(PATIENCE_S)
        if receive_buffer:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        try:
            self._socket.connect(("127.0.0.1", port))
        except OSError:
            self._socket.close()
            raise
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def send(self, *pieces: bytes) -> Wire:
        for piece in pieces:
            self._socket.sendall(piece)
        return self

    def send_what_is_taken(self, *pieces: bytes) -> bool:
        """Send until the server has had enough, and return whether it took everything."""
        try:
            self.send(*pieces)
        except OSError:
            return False
        return True

    def end(self) -> Wire:
        """Say that nothing more will be sent."""
        self._socket.shutdown(socket.SHUT_WR)
        return self

    def answer(self, *, has_body: bool = True) -> Answer:
        """Read one whole response; the pieces of one that comes in chunks are joined."""
        answer = self.head()
        if has_body and answer.headers.get("transfer-encoding") == "chunked":
            while piece := self.chunk():
                answer.body += piece
        elif has_body:
            size = int(answer.headers.get("content-length", 0))
            while len(self._buffer) < size:
                self._receive()
            answer.body, self._buffer = self._buffer[:size], self._buffer[size:]
        return answer

    def chunk(self) -> bytes:
        """Read one chunk of a body; nothing when it was the last."""
        while b"\r\n" not in self._buffer:
            self._receive()
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        size = int(line, 16)
        while len(self._buffer) < size + 2:
            self._receive()
        piece, end, self._buffer = self._buffer[:size], self._buffer[size : size + 2], self._buffer[size + 2 :]
        assert end == b"\r\n"
        return piece

    def head(self) -> Answer:
        """Read the head of a response."""
        while b"\r\n\r\n" not in self._buffer:
            self._receive()
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(": ")
            assert name not in headers, f"{name} is repeated"
            headers[name] = value
        return Answer(int(first.split(" ", 2)[1]), headers, b"")

    def has_answer(self, patience_s: float) -> bool:
        """Return whether something has come."""
        return bool(self._buffer) or bool(select.select([self._socket], [], [], patience_s)[0])

    def rest(self) -> bytes:
        """Return what comes until the server ends the connection; a reset is an error."""
        while piece := self._socket.recv(65536):
            self._buffer += piece
        return self._buffer

    def _receive(self) -> None:
        piece = self._socket.recv(1 << 20)
        if not piece:
            raise EOFError(f"the connection ended after {self._buffer[:300]!r}")
        self._buffer += piece


def request(
    method: str,
    target: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    host: str = "localhost",
) -> bytes:
    """Return one request; a body brings its length."""
    lines = {"host": host, **(headers or {})}
    if body is not None and "transfer-encoding" not in lines:
        lines.setdefault("content-length", str(len(body)))
    head = f"{method} {target} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in lines.items()) + "\r\n"
    return head.encode("latin-1") + (body or b"")


def _no_constant(name: str) -> None:
    raise AssertionError(f"{name} is not JSON")
