"""What one caller of the management API may cost the others: time, threads and memory (B14, B30)."""

import asyncio
import selectors
import socket
import threading
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from litestar.exceptions import HTTPException

from limen.admin.config import AdminConfig
from limen.admin.pace import paced
from limen.app.management_server import ManagementServer
from limen.contracts.errors import Cancelled
from limen.contracts.management import PACKAGE_TYPE
from tests.conformance.admin.office import ROOT, Office

WAIT_S = 60


class Held:
    """Trials that go on until they are let go or told to stop."""

    def __init__(self, office: Office) -> None:
        self._office = office
        self.begun = threading.Semaphore(0)
        self.go_on = threading.Event()
        self.stopped = threading.Semaphore(0)
        office.probe.before = self._wait

    def _wait(self) -> None:
        self.begun.release()
        stop = self._office.probe.stop
        with selectors.DefaultSelector() as selector:
            selector.register(stop, selectors.EVENT_READ)
            while not self.go_on.is_set():
                if selector.select(0.05):
                    self.stopped.release()
                    raise Cancelled


async def begun(held: Held, count: int) -> None:
    for _ in range(count):
        assert await asyncio.to_thread(held.begun.acquire, timeout=WAIT_S)


async def test_packages_that_take_long_hold_up_nobody_and_one_more_is_told_to_come_again(office: Office):
    office.add("credit")
    held = Held(office)
    archives = [office.archive(title=f"Score {i}") for i in range(3)]
    trials = [asyncio.create_task(office.publish(archive)) for archive in archives[:2]]
    await begun(held, 2)

    refused = await office.publish(archives[2])
    assert (refused.status_code, refused.json()["code"]) == (503, "OVERLOADED")
    assert int(refused.headers["retry-after"]) >= 1
    for _ in range(20):  # more than there are threads
        assert (await office.ask("GET", "/models")).status_code == 200
    assert (await office.ask("GET", "/status")).status_code == 200
    moved = await office.ask("PUT", "/models/credit/aliases/champion", {"version": 1})
    assert moved.status_code in (200, 201)

    held.go_on.set()
    assert {answer.status_code for answer in await asyncio.gather(*trials)} <= {201, 412}
    assert (await office.publish(archives[2])).status_code == 201
    assert office.leftovers == []


async def test_a_trial_ends_with_its_callers_time(office: Office):
    held = Held(office)
    answer = await office.publish(office.archive(), x_request_timeout_ms="300")
    assert (answer.status_code, answer.json()["code"]) == (504, "DEADLINE_EXCEEDED")
    assert held.stopped.acquire(timeout=WAIT_S)
    assert office.leftovers == []


@asynccontextmanager
async def listening(office: Office, head_s: float = 0.2) -> AsyncIterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = ManagementServer(office.app, AdminConfig(header_timeout_s=head_s))
        serving = asyncio.create_task(server.serve([listener]))
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            await serving


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


def head(port: int, method: str, path: str, **more: object) -> bytes:
    lines = {"host": f"127.0.0.1:{port}", **{k.replace("_", "-"): v for k, v in more.items()}}
    return (
        f"{method} {ROOT}{path} HTTP/1.1\r\n".encode()
        + b"".join(f"{k}: {v}\r\n".encode() for k, v in lines.items())
        + b"\r\n"
    )


async def status(reader: asyncio.StreamReader) -> int:
    line = await asyncio.wait_for(reader.readline(), WAIT_S)
    return int(line.split()[1]) if line else 0


async def closed(reader: asyncio.StreamReader) -> bool:
    """Wait until the other side has closed; a reset is an end as well."""
    try:
        while await asyncio.wait_for(reader.read(1 << 16), WAIT_S):
            pass
    except ConnectionError:
        return True
    return True


async def test_a_trial_ends_when_its_caller_leaves(office: Office, monkeypatch: pytest.MonkeyPatch):
    held = Held(office)
    archive, key = office.archive(), uuid.uuid4().hex
    more = {"content_type": PACKAGE_TYPE, "content_length": len(archive), "idempotency_key": key}
    async with listening(office) as port:
        async with connected(port) as (_, writer):
            writer.write(head(port, "POST", "/models/score/versions", **more) + archive)
            await begun(held, 1)
        assert await asyncio.to_thread(held.stopped.acquire, timeout=WAIT_S)
        held.go_on.set()
        again = await office.publish(archive, idempotency_key=key)
        while again.status_code == 409:  # the first is still being cleared away
            again = await office.publish(archive, idempotency_key=key)
        assert again.status_code == 201


@pytest.mark.parametrize(
    "sent", [b"", b"GET /api/v1/models HTT", b"GET /api/v1/models HTTP/1.1\r\nhost: 127.0.0.1\r\nx: "]
)
async def test_a_head_that_does_not_come_is_not_waited_for(
    sent: bytes, office: Office, monkeypatch: pytest.MonkeyPatch
):
    async with listening(office) as port:
        async with connected(port) as (reader, writer):
            writer.write(sent)
            assert await closed(reader)
        # Nor is the second one of a connection.
        async with connected(port) as (reader, writer):
            writer.write(head(port, "GET", "/models"))
            assert await status(reader) == 200
            writer.write(sent or b"G")
            assert await closed(reader)


async def test_a_head_without_end_is_refused(office: Office, monkeypatch: pytest.MonkeyPatch):
    async with listening(office, head_s=WAIT_S) as port, connected(port) as (reader, writer):
        writer.write(b"GET /api/v1/models HTTP/1.1\r\nhost: 127.0.0.1\r\nx: ")
        writer.write(b"a" * (AdminConfig().max_header_bytes * 2))
        assert await status(reader) in (0, 400)


async def test_a_whole_request_is_answered_however_long_it_is_worked_on(
    office: Office, monkeypatch: pytest.MonkeyPatch
):
    held = Held(office)
    archive = office.archive()
    more = {"content_type": PACKAGE_TYPE, "content_length": len(archive), "idempotency_key": uuid.uuid4().hex}
    async with listening(office, head_s=0.5) as port, connected(port) as (reader, writer):
        writer.write(head(port, "POST", "/models/score/versions", **more) + archive)
        await begun(held, 1)
        await asyncio.sleep(0.6)
        held.go_on.set()
        assert await status(reader) == 201


def pieces(*given: bytes):
    """Return a `receive` that gives these pieces, and then never again anything."""
    left = [{"type": "http.request", "body": piece, "more_body": True} for piece in given]

    async def receive():
        if not left:
            await asyncio.Event().wait()
        return left.pop(0)

    return receive


async def test_a_body_that_stops_is_not_waited_for():
    receive = paced(pieces(b"x"), idle_s=0.05)
    assert (await receive())["body"] == b"x"
    with pytest.raises(HTTPException) as caught:
        await receive()
    assert caught.value.status_code == 408


async def test_a_body_that_trickles_is_not_waited_for():
    async def receive():
        await asyncio.sleep(0.01)
        return {"type": "http.request", "body": b"x", "more_body": True}

    slow = paced(receive, idle_s=10, grace_s=0.1)
    count = 0
    with suppress(HTTPException):
        while await slow():
            count += 1
    assert count < 1000


async def test_a_body_that_comes_fast_may_be_as_long_as_it_wants():
    async def receive():
        await asyncio.sleep(0.01)
        return {"type": "http.request", "body": bytes(1 << 20), "more_body": True}

    fast = paced(receive, idle_s=10, grace_s=0.1)
    for _ in range(30):
        assert (await fast())["body"]


async def test_after_the_body_the_caller_is_waited_for():
    messages = iter([{"type": "http.request", "body": b"", "more_body": False}, {"type": "http.disconnect"}])

    async def receive():
        return next(messages)

    whole = paced(receive, idle_s=0.01, grace_s=-1000 + 1000.1)
    assert (await whole())["type"] == "http.request"
    await asyncio.sleep(0.15)
    assert (await whole())["type"] == "http.disconnect"


PATHS = [
    ("POST", "/reload", b"{}"),
    ("GET", "/models", None),
    ("PUT", "/models/credit/aliases/a", b'{"version":1}'),
    ("GET", "/status", None),
]


@pytest.mark.parametrize("coding", ["gzip", "deflate", "identity, gzip", "x"])
async def test_b14_a_body_that_would_have_to_be_decoded_is_refused(coding: str, office: Office):
    office.add("credit")
    for method, path, body in PATHS:
        answer = await office.ask(method, path, body, content_encoding=coding)
        assert (answer.status_code, answer.json()["code"]) == (415, "UNSUPPORTED_TYPE")
    assert (await office.publish(office.archive(), content_encoding=coding)).status_code == 415
    assert office.reloads == 0


@pytest.mark.parametrize(
    ("header", "value", "code"),
    [
        ("idempotency_key", "a" * 256, "IDEMPOTENCY"),
        ("idempotency_key", "", "IDEMPOTENCY"),
        ("x_request_timeout_ms", "-1", "INVALID_HEADER"),
        ("x_request_timeout_ms", "soon", "INVALID_HEADER"),
        ("x_request_timeout_ms", "0", "INVALID_HEADER"),
    ],
)
async def test_headers_mean_the_same_on_every_path(header: str, value: str, code: str, office: Office):
    office.add("credit")
    for method, path, body in PATHS:
        answer = await office.ask(method, path, body, **{header: value})
        assert (answer.status_code, answer.json()["code"]) == (400, code)
    assert office.reloads == 0


async def test_a_reload_heeds_the_callers_time(office: Office):
    assert (await office.ask("POST", "/reload", b"{}", x_request_timeout_ms="5000")).status_code == 200
    assert office.reloads == 1
