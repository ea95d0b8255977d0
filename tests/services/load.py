"""Callers at a fixed rate: each request is sent when it is due, whether or not the earlier ones are answered.

What is late is measured from when it was due, so a server that stalls cannot hide it (coordinated omission). Loopback only; bounded in
number and time.
"""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec

PATIENCE_S = 60.0
TIMELY_S = 0.05
"""How late nearly every request is sent at most on a machine that has time for its callers."""
REFUSED_OR_LATE = (503, 504)


class Answer(msgspec.Struct):
    """One request and what became of it."""

    at: float
    """When it was due, in seconds since the load began."""
    seconds: float
    """From when it was due to the whole answer."""
    status: int
    """HTTP status; 0 when the connection broke."""
    body: Any = None
    attempts: int = 1
    """How often it was asked until this answer came."""


class Report(msgspec.Struct):
    """All answers of a load."""

    answers: list[Answer]
    rate: float
    """Requests a second that were sent."""
    late_s: list[float]
    """By how much each request was sent later than it was due: the machine's doing, never the server's."""

    @property
    def is_timely(self) -> bool:
        """Whether the machine had time to send requests when they were due: only then do durations tell something of the server."""
        return sorted(self.late_s)[int(len(self.late_s) * 0.95)] < TIMELY_S

    @property
    def failures(self) -> list[Answer]:
        return [a for a in self.answers if a.status != 200]

    def statuses(self) -> Counter[int]:
        return Counter(a.status for a in self.answers)

    def versions(self) -> set[str]:
        return {a.body["model_version"] for a in self.answers if a.status == 200}

    def quantile_s(self, q: float) -> float:
        """Return a quantile of the latencies of what was answered well."""
        found = sorted(a.seconds for a in self.answers if a.status == 200)
        return found[min(len(found) - 1, int(len(found) * q))]


class Client:
    """Keep-alive connections to one address; a connection found closed before any byte of an answer came is opened again once."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._host, self._port = host, int(port)
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self.reopened = 0

    async def post(self, path: str, body: bytes, headers: str = "") -> tuple[int, bytes]:
        """Send one request and return the status and the body; status 0 when the answer broke off."""
        head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{headers}"
        message = f"{head}content-length: {len(body)}\r\n\r\n".encode() + body
        for attempt in range(3):
            is_new = not self._idle or attempt > 1
            try:
                reader, writer = await asyncio.open_connection(self._host, self._port) if is_new else self._idle.pop()
            except OSError:
                continue
            try:
                writer.write(message)
                first = await reader.readline()
            except ConnectionError:
                first = b""
            if not first:
                # Nothing came: the server closed an idle connection, which every HTTP client has to expect.
                writer.close()
                self.reopened += 1
                continue
            try:
                return await self._rest(first, reader, writer)
            except (asyncio.IncompleteReadError, ConnectionError):
                writer.close()
                return 0, b""
        return 0, b""

    async def _rest(
        self, first: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> tuple[int, bytes]:
        length, is_last = 0, False
        while (line := await reader.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode("latin-1").partition(":")
            if name == "content-length":
                length = int(value)
            elif name == "connection":
                is_last = value.strip() == "close"
        body = await reader.readexactly(length)
        if is_last:
            writer.close()
        else:
            self._idle.append((reader, writer))
        return int(first.split()[1]), body

    def close(self) -> None:
        for _, writer in self._idle:
            writer.close()


async def capacity(
    address: str, path: str, make: Callable[[int], bytes], *, seconds: float = 1.0, callers: int = 8
) -> float:
    """Return how many requests a second a few callers get answered who ask one after the other."""
    client = Client(address)
    end = time.perf_counter() + seconds

    async def ask(first: int) -> int:
        count = 0
        while time.perf_counter() < end:
            await client.post(path, make(first + count))
            count += 1
        return count

    counts = await asyncio.gather(*(ask(n) for n in range(callers)))
    client.close()
    return sum(counts) / seconds


async def load(
    address: str,
    path: str,
    make: Callable[[int], bytes],
    *,
    rate: float,
    seconds: float,
    headers: str = "",
    is_over: Callable[[], bool] = lambda: False,
    retries: int = 0,
    says_so: bool = True,
) -> Report:
    """Send `rate` requests a second for some time and return every answer.

    Args:
        address: host:port.
        path: where to post.
        make: gives the body of the n-th request.
        rate: requests per second.
        seconds: for how long, at most.
        headers: further header lines, each ending in CR LF.
        is_over: ends the load early.
        retries: how often a caller asks again, at once, when it is refused or late.
        says_so: whether those requests have the header that tells a retry.
    """
    client = Client(address)
    answers: list[Answer] = []
    late_s: list[float] = []
    begun = time.perf_counter()

    async def ask(n: int, due: float) -> None:
        attempts, status = 0, REFUSED_OR_LATE[0]
        while status in REFUSED_OR_LATE and attempts <= retries:
            said = f"x-retry-attempt: {attempts}\r\n" if attempts and says_so else ""
            status, body = await client.post(path, make(n), headers + said)
            attempts += 1
        took = time.perf_counter() - begun - due
        answers.append(Answer(due, took, status, json.loads(body) if body[:1] == b"{" else None, attempts))

    async with asyncio.timeout(seconds + PATIENCE_S), asyncio.TaskGroup() as group:
        for n in range(int(rate * seconds)):
            due = n / rate
            if (wait := due - (time.perf_counter() - begun)) > 0:
                await asyncio.sleep(wait)
            if is_over():
                break
            late_s.append(time.perf_counter() - begun - due)
            group.create_task(ask(n, due))
    client.close()
    return Report(answers, rate, late_s)
