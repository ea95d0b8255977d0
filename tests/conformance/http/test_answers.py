"""What a handler may return, with the engine alone: answers that come later without a task, and answers in pieces."""

import asyncio
import gc
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

import pytest

from limen.contracts.errors import LimenError, Unavailable
from limen.gateway.engine.config import HttpLimits
from limen.gateway.engine.errors import Refused, error_response
from limen.gateway.engine.message import Answer, Head, Pending, Request, Response, Streaming
from limen.gateway.engine.server import HttpServer

ASK = b"GET /%s HTTP/1.1\r\nhost: a\r\n\r\n"


class Later(Pending):
    """A pending answer of somebody's own kind."""

    __slots__ = ()


class Application:
    """Answers each path with what the test gave for it, and remembers what it is told."""

    def __init__(self) -> None:
        self.answers: dict[str, Callable[[], Any]] = {}
        self.noted: list[tuple[str, str]] = []

    def next_id(self) -> str:
        return "id"

    def admit(self, head: Head) -> None: ...

    def unknown_method(self, target: bytes) -> Refused:
        return Refused(405, "METHOD_NOT_ALLOWED", "no")

    def handle(self, request: Request) -> Answer:
        request.id = request.head.target.decode().strip("/")
        answer: Answer = self.answers.get(request.id, lambda: Response(request.id.encode(), b"text/plain"))()
        return answer

    def settle(self, request: Request, outcome: Response | Exception) -> Response:
        return outcome if isinstance(outcome, Response) else error_response(self.told(request, outcome), request.id)

    def told(self, request: Request, exc: Exception) -> LimenError | Refused:
        error = exc if isinstance(exc, LimenError) else Unavailable(type(exc).__name__)
        self.note(request, error)
        return error

    def note(self, request: Request, error: LimenError | Refused) -> None:
        self.noted.append((request.id, str(error.code)))

    def note_success(self, request: Request, status: int) -> None:
        self.noted.append((request.id, str(status)))


class Peer:
    """One connection to the server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def ask(self, *paths: str, method: str = "GET") -> None:
        self.writer.write(b"".join(ASK % p.encode() for p in paths).replace(b"GET ", f"{method} ".encode()))

    async def head(self) -> str:
        return (await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 60)).decode()

    async def answer(self) -> tuple[int, bytes]:
        """Read a response that has a length."""
        head = await self.head()
        length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
        return int(head.split(" ")[1]), await self.reader.readexactly(length)

    async def chunk(self) -> bytes:
        size = int(await asyncio.wait_for(self.reader.readuntil(b"\r\n"), 60), 16)
        return (await self.reader.readexactly(size + 2))[:-2]

    async def chunks(self) -> list[bytes]:
        """Read a body to its good end."""
        found = []
        while piece := await self.chunk():
            found.append(piece)
        return found

    async def rest(self) -> bytes:
        return await asyncio.wait_for(self.reader.read(), 60)


class Engine:
    """A started server with the test's own application."""

    def __init__(self) -> None:
        self.application = Application()
        self.answers = self.application.answers
        self.server = HttpServer(self.application, HttpLimits(drain_s=0.1))
        self._peers: list[Peer] = []

    async def start(self) -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setblocking(False)
        self._port = listener.getsockname()[1]
        await self.server.start(listener)

    async def peer(self) -> Peer:
        self._peers.append(Peer(*await asyncio.open_connection("127.0.0.1", self._port)))
        return self._peers[-1]

    async def stop(self) -> None:
        for peer in self._peers:
            peer.writer.close()
        await self.server.stop()

    async def until(self, fact: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not fact():  # noqa: ASYNC110  what changes has no event to wait for
                await asyncio.sleep(0)


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    engine = Engine()
    await engine.start()
    yield engine
    await engine.stop()


def text(content: bytes) -> Response:
    return Response(content, b"text/plain")


# -- pending --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Pending, Later])
async def test_a_pending_answer_is_given_when_it_is_delivered_and_needs_no_task(engine: Engine, kind: type[Pending]):
    pending = kind()
    engine.answers["later"] = lambda: pending
    peer = await engine.peer()
    tasks = len(asyncio.all_tasks())
    peer.ask("later", "next", "after")
    await engine.until(lambda: any(c.is_busy for c in engine.server.connections))
    assert len(asyncio.all_tasks()) == tasks
    pending.deliver(text(b"here"))
    assert [await peer.answer() for _ in range(3)] == [(200, b"here"), (200, b"next"), (200, b"after")]
    assert engine.application.noted == []


async def test_what_is_delivered_before_the_handler_returns_is_given_at_once(engine: Engine):
    def early() -> Pending:
        pending = Pending()
        pending.deliver(text(b"early"))
        return pending

    engine.answers["early"] = early
    peer = await engine.peer()
    peer.ask("early", "next", "early")
    assert [await peer.answer() for _ in range(3)] == [(200, b"early"), (200, b"next"), (200, b"early")]


async def test_an_exception_may_be_delivered_in_place_of_the_response(engine: Engine):
    pending = Pending()
    engine.answers["later"] = lambda: pending
    peer = await engine.peer()
    peer.ask("later", "next")
    await engine.until(lambda: any(c.is_busy for c in engine.server.connections))
    pending.deliver(Unavailable("not now"))
    status, body = await peer.answer()
    assert (status, b"not now" in body) == (503, True)
    assert await peer.answer() == (200, b"next")
    assert engine.application.noted == [("later", "UNAVAILABLE")]


async def test_many_pending_answers_behind_each_other_keep_their_order(engine: Engine):
    waiting: list[Pending] = []

    def later() -> Pending:
        waiting.append(Pending())
        return waiting[-1]

    engine.answers["later"] = later
    peer = await engine.peer()
    peer.ask(*["later", "at-once"] * 100)
    for number in range(100):
        await engine.until(lambda number=number: len(waiting) > number)
        assert len(waiting) == number + 1
        waiting[number].deliver(text(b"%d" % number))
        assert await peer.answer() == (200, b"%d" % number)
        assert (await peer.answer())[0] == 200


async def test_who_makes_a_pending_answer_is_told_when_the_caller_leaves(engine: Engine):
    cancelled: list[int] = []
    pending = Pending(lambda: cancelled.append(1))
    engine.answers["later"] = lambda: pending
    peer = await engine.peer()
    peer.ask("later", "next")
    await engine.until(lambda: any(c.is_busy for c in engine.server.connections))
    peer.writer.close()
    await engine.until(lambda: not engine.server.connections)
    assert cancelled == [1]
    pending.deliver(text(b"nobody's"))
    assert engine.application.noted == [("later", "CANCELLED")]


async def test_an_answered_caller_who_leaves_cancels_nothing(engine: Engine):
    cancelled: list[int] = []
    pending = Pending(lambda: cancelled.append(1))
    engine.answers["later"] = lambda: pending
    peer = await engine.peer()
    peer.ask("later")
    await engine.until(lambda: any(c.is_busy for c in engine.server.connections))
    pending.deliver(text(b"here"))
    await peer.answer()
    peer.writer.close()
    await engine.until(lambda: not engine.server.connections)
    assert (cancelled, engine.application.noted) == ([], [])


async def test_a_delivered_answer_leaves_nothing_for_the_garbage_collector(engine: Engine):
    engine.answers["later"] = Pending
    made: list[Pending] = []
    engine.answers["later"] = lambda: made.append(Pending()) or made[-1]
    peer = await engine.peer()
    gc.collect()
    gc.disable()
    try:
        for _ in range(50):
            peer.ask("later")
            await engine.until(lambda: bool(made))
            made.pop().deliver(text(b"x"))
            await peer.answer()
        assert not [o for o in gc.get_objects() if type(o) is Pending]
    finally:
        gc.enable()


# -- streaming ------------------------------------------------------------------------------------------------------------


class Pieces:
    """Pieces that the test hands over one by one; an exception ends them, None is their good end."""

    def __init__(self, *ready: bytes | Exception | None) -> None:
        self.queue: asyncio.Queue[bytes | Exception | None] = asyncio.Queue()
        for piece in ready:
            self.queue.put_nowait(piece)
        self.is_closed = False

    async def run(self) -> AsyncGenerator[bytes, None]:
        try:
            while (piece := await self.queue.get()) is not None:
                if isinstance(piece, Exception):
                    raise piece
                yield piece
        finally:
            self.is_closed = True

    def streaming(self, **options: Any) -> Streaming:
        return Streaming(self.run(), b"text/plain", **options)


async def test_pieces_go_out_as_they_come_and_empty_ones_do_not_end_the_body(engine: Engine):
    pieces = Pieces(b"", b"one")
    engine.answers["s"] = lambda: pieces.streaming(status=201, head=b"x-kind: test\r\n")
    peer = await engine.peer()
    peer.ask("s", "next")
    head = await peer.head()
    assert head.startswith("HTTP/1.1 201 ")
    assert "x-kind: test" in head
    assert await peer.chunk() == b"one"
    for piece in (b"", b"two", None):
        pieces.queue.put_nowait(piece)
    assert [await peer.chunk(), await peer.chunk()] == [b"two", b""]
    assert await peer.answer() == (200, b"next")
    assert pieces.is_closed
    assert engine.application.noted == [("s", "201")]


async def test_a_failure_before_the_first_piece_is_an_ordinary_answer(engine: Engine):
    for first in ((), (b"",)):
        pieces = Pieces(*first, Unavailable("not now"))
        engine.answers["s"] = lambda pieces=pieces: pieces.streaming()
        peer = await engine.peer()
        peer.ask("s", "next")
        assert (await peer.answer())[0] == 503
        assert await peer.answer() == (200, b"next")
        assert pieces.is_closed


async def test_a_later_failure_is_said_inside_the_body(engine: Engine):
    engine.answers["s"] = lambda: Pieces(b"one", Unavailable("not now")).streaming(error_piece=lambda e: b"!" + e.body)
    peer = await engine.peer()
    peer.ask("s", "next")
    await peer.head()
    assert await peer.chunk() == b"one"
    assert (await peer.chunk()).startswith(b'!{"error":"not now"')
    assert await peer.chunk() == b""
    assert await peer.answer() == (200, b"next")


async def test_a_body_that_cannot_say_its_failure_is_cut_off(engine: Engine):
    engine.answers["s"] = lambda: Pieces(b"one", Unavailable("not now")).streaming()
    peer = await engine.peer()
    peer.ask("s", "next")
    await peer.head()
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await peer.chunks()
    await engine.until(lambda: not engine.server.connections)
    assert engine.application.noted == [("s", "UNAVAILABLE")]


async def test_pieces_that_something_else_cancels_are_a_failure_and_not_a_caller_who_left(engine: Engine):
    async def run() -> AsyncGenerator[bytes, None]:
        yield b"one"
        raise asyncio.CancelledError

    engine.answers["s"] = lambda: Streaming(run(), b"text/plain", error_piece=lambda e: b"!%d" % e.status)
    peer = await engine.peer()
    peer.ask("s", "next")
    await peer.head()
    assert [await peer.chunk() for _ in range(3)] == [b"one", b"!500", b""]
    assert await peer.answer() == (200, b"next")


async def test_a_caller_who_leaves_closes_the_pieces(engine: Engine):
    for ready in ((), (b"one",)):
        pieces = Pieces(*ready)
        engine.answers["s"] = lambda pieces=pieces: pieces.streaming()
        peer = await engine.peer()
        peer.ask("s")
        if ready:
            await peer.head()
        await engine.until(lambda pieces=pieces: pieces.queue.empty() and bool(pieces.queue._getters))
        peer.writer.close()
        await engine.until(lambda pieces=pieces: pieces.is_closed)
    await engine.until(lambda: not engine.server.connections)
    assert engine.application.noted == [("s", "CANCELLED")] * 2


async def test_pieces_that_never_wait_let_others_be_served(engine: Engine):
    async def run() -> AsyncGenerator[bytes, None]:
        while True:
            yield b"x" * 100

    engine.answers["s"] = lambda: Streaming(run(), b"text/plain")
    peer, other = await engine.peer(), await engine.peer()
    peer.ask("s")
    await peer.head()
    other.ask("next")
    assert await other.answer() == (200, b"next")


async def test_pieces_that_nobody_reads_are_not_asked_for(engine: Engine):
    made: list[int] = []

    async def run() -> AsyncGenerator[bytes, None]:
        for number in range(200):
            made.append(number)
            yield b"x" * 500_000

    engine.answers["s"] = lambda: Streaming(run(), b"text/plain")
    peer = await engine.peer()
    peer.ask("s", "next")
    await engine.until(lambda: any(c.paused_at for c in engine.server.connections))
    before = len(made)
    for _ in range(100):
        await asyncio.sleep(0)
    assert len(made) == before < 200
    await peer.head()
    assert len(await peer.chunks()) == len(made) == 200
    assert await peer.answer() == (200, b"next")


async def test_pieces_that_cannot_be_closed_are_left_behind(engine: Engine):
    async def run() -> AsyncGenerator[bytes, None]:
        try:
            yield b"one"
            raise Unavailable("not now")
        finally:
            raise ValueError("in the way")

    engine.answers["s"] = lambda: Streaming(run(), b"text/plain", error_piece=lambda e: b"!")
    peer = await engine.peer()
    peer.ask("s", "next")
    await peer.head()
    assert [await peer.chunk() for _ in range(3)] == [b"one", b"!", b""]
    assert await peer.answer() == (200, b"next")


async def test_head_has_no_body(engine: Engine):
    pieces = Pieces(b"one", None)
    engine.answers["s"] = pieces.streaming
    peer = await engine.peer()
    peer.ask("s", "next", method="HEAD")
    assert "transfer-encoding: chunked" in await peer.head()
    assert "content-length: 4" in await peer.head()


@pytest.mark.parametrize("ready", [(), (b"one",)], ids=["not begun", "begun"])
async def test_f14_a_stopping_server_has_the_last_word(engine: Engine, ready: tuple[bytes, ...]):
    pieces = Pieces(*ready)
    engine.answers["s"] = lambda: pieces.streaming(error_piece=lambda e: b"!%d" % e.status)
    peer = await engine.peer()
    peer.ask("s", "next")
    if ready:
        await peer.head()
    await engine.until(lambda: bool(pieces.queue._getters))
    await engine.server.stop()
    assert pieces.is_closed
    rest = await peer.rest()
    assert rest == b"3\r\none\r\n4\r\n!503\r\n0\r\n\r\n" if ready else b"HTTP/1.1 503 " in rest
    assert rest.count(b"HTTP/1.1") == (0 if ready else 1)
