"""Starting a process as a fork of a template (`sandbox.template`), from an event loop. Linux only.

A fork is a child of the process that asks for it, like one that was started as a program: it has pipes for its standard streams, an exit
status, and goes on when its template ends. Used by the supervisor, and by whoever starts replicas without one.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import itertools
import os
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Iterable, Mapping
from typing import IO, Final, Protocol

import msgspec

from limen.runtime.sandbox.child import given_environment, start_async
from limen.runtime.sandbox.template import Fork, Forked

FORK_S: Final = 10.0
"""How long a template may take to fork before it is taken for hung; it takes a few milliseconds."""
_SINGLE: Final = {"JE_ARROW_MALLOC_CONF": "background_thread:false"}
"""Keeps libraries from starting a thread when they are imported: Arrow's allocator, which pandas brings."""
_NUMBERS: Final = itertools.count(1)
_ADOPT_ORPHANS: Final = 36
_LOST_STATUS: Final = 255
"""What is said of a process whose end somebody else took note of, as asyncio says it."""
_MAX_ANSWER_BYTES: Final = 1 << 12


class Child(Protocol):
    """A process that was started, as a program (`asyncio.subprocess.Process`) or as a fork."""

    pid: int
    stdin: asyncio.StreamWriter | None
    stdout: asyncio.StreamReader | None
    stderr: asyncio.StreamReader | None

    @property
    def returncode(self) -> int | None:
        """Its exit status, negative for a signal; None while it runs."""
        ...

    async def wait(self) -> int:
        """Wait for its end and return its exit status."""
        ...

    def send_signal(self, signal: int) -> None:
        """Send it a signal.

        Raises:
            ProcessLookupError: it has ended.
        """
        ...

    def terminate(self) -> None:
        """Send SIGTERM."""
        ...

    def kill(self) -> None:
        """Send SIGKILL."""
        ...


class ForkError(Exception):
    """A template has not given a fork, and is of no further use."""


def can_fork() -> bool:
    """Whether this platform has what forks need: descriptors of processes, and adoption of orphans."""
    return sys.platform == "linux" and hasattr(os, "pidfd_open")


def adopt_orphans() -> bool:
    """Become the parent of every descendant whose own parent has ended; return whether the system does so."""
    if sys.platform != "linux":
        return False
    with contextlib.suppress(OSError, AttributeError):
        return bool(ctypes.CDLL(None).prctl(_ADOPT_ORPHANS, 1, 0, 0, 0) == 0)
    return False


class ForkedProcess:
    """A fork, in the manner of `asyncio.subprocess.Process`."""

    def __init__(self, pid: int) -> None:
        """Watch over a process that is a child of this one, or about to become one."""
        self.pid = pid
        self.stdin: asyncio.StreamWriter | None = None
        self.stdout: asyncio.StreamReader | None = None
        self.stderr: asyncio.StreamReader | None = None
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[int] = self._loop.create_future()
        self._descriptor = -1
        try:
            self._descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            self._ended.set_result(_LOST_STATUS)
        else:
            self._loop.add_reader(self._descriptor, self._end)

    @property
    def returncode(self) -> int | None:
        """Its exit status, negative for a signal; None while it runs."""
        return self._ended.result() if self._ended.done() else None

    async def wait(self) -> int:
        """Wait for its end and return its exit status."""
        return await asyncio.shield(self._ended)

    def send_signal(self, number: int) -> None:
        """Send it a signal.

        Raises:
            ProcessLookupError: it has ended.
        """
        if self._descriptor < 0:
            raise ProcessLookupError
        signal.pidfd_send_signal(self._descriptor, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def _end(self) -> None:
        """Take note of its end."""
        try:
            found = os.waitid(os.P_PIDFD, self._descriptor, os.WEXITED | os.WNOHANG)
        except ChildProcessError:
            status = _LOST_STATUS
        else:
            if found is None:
                return
            status = found.si_status if found.si_code == os.CLD_EXITED else -found.si_status
        self._loop.remove_reader(self._descriptor)
        os.close(self._descriptor)
        self._descriptor = -1
        self._ended.set_result(status)
        if self.stdin is not None:
            self.stdin.close()


class Template:
    """The template at the other end of a socket, as the process that started it sees it."""

    def __init__(self, process: Process, channel: socket.socket) -> None:
        """Take over a socket that does not block."""
        self.is_lost = False
        """Whether it gives no forks any more."""
        self._process = process
        self._channel = channel
        self._turn = asyncio.Lock()

    async def fork(
        self, title: str, environment: Mapping[str, str], *, line_bytes: int = 1 << 16, stderr: int | None = None
    ) -> ForkedProcess:
        """Return a fork whose standard input and output are pipes.

        Args:
            title: what `ps` shows of it.
            environment: all of its environment.
            line_bytes: the longest line that can be read from it.
            stderr: `asyncio.subprocess.PIPE` for a pipe; that of this process when None.

        Raises:
            ForkError: there is none, and will be none.
        """
        with contextlib.ExitStack() as theirs, contextlib.ExitStack() as ours:
            read_end, stdin = _pipe(theirs, ours, is_read_theirs=True)
            write_end, stdout = _pipe(theirs, ours, is_read_theirs=False)
            error_end, errors = _pipe(theirs, ours, is_read_theirs=False) if stderr == PIPE else (2, None)
            request = Fork(next(_NUMBERS), title, given_environment(environment))
            asking = asyncio.ensure_future(self._ask(request, (read_end, write_end, error_end)))
            asking.add_done_callback(lambda asked: asked.exception())
            # When nobody waits any more, the template is heard to the end nevertheless. The fork finds its input closed and ends.
            forked = await asyncio.shield(asking)
            forked.stdin = await _writer(stdin)
            ours.callback(forked.stdin.close)
            forked.stdout = await _reader(stdout, line_bytes)
            forked.stderr = await _reader(errors, line_bytes) if errors is not None else None
            # From here on the transports close them.
            ours.pop_all()
        return forked

    def close(self) -> None:
        """Have the template end; its forks go on."""
        self.is_lost = True
        self._channel.close()

    async def _ask(self, request: Fork, streams: tuple[int, int, int]) -> ForkedProcess:
        async with self._turn:
            if self.is_lost:
                raise ForkError("it has ended")
            try:
                async with asyncio.timeout(FORK_S):
                    answer = await self._answer(request, streams)
            except (OSError, TimeoutError, msgspec.DecodeError) as exc:
                self.is_lost = True
                with contextlib.suppress(ProcessLookupError):
                    self._process.kill()
                why = f"it did not answer within {FORK_S:g} s" if isinstance(exc, TimeoutError) else "it has ended"
                raise ForkError(why) from exc
            if answer.refused:
                self.is_lost = True
                raise ForkError(answer.refused)
            return ForkedProcess(answer.pid)

    async def _answer(self, request: Fork, streams: tuple[int, int, int]) -> Forked:
        """Ask and return the answer to that."""
        loop, message = asyncio.get_running_loop(), msgspec.json.encode(request) + b"\n"
        sent = socket.send_fds(self._channel, [message], streams)
        if sent < len(message):
            await loop.sock_sendall(self._channel, message[sent:])
        while True:
            said = b""
            while not said.endswith(b"\n"):
                more = await loop.sock_recv(self._channel, _MAX_ANSWER_BYTES)
                if not more:
                    raise ConnectionResetError
                said += more
            answers = [msgspec.json.decode(line, type=Forked) for line in said.splitlines()]
            # An earlier one is to somebody who went away.
            if answers[-1].number == request.number:
                return answers[-1]


async def start_template(
    argv: Iterable[str],
    environment: Mapping[str, str],
    hello: bytes,
    *,
    line_bytes: int = 1 << 16,
    stderr: int | None = None,
) -> tuple[Process, Template]:
    """Start a template, whose forks become children of this process; it says on standard output when it is ready.

    Args:
        argv: its command.
        environment: all of its environment.
        hello: what it reads first.
        line_bytes: the longest line that can be read from it.
        stderr: as `sandbox.child.start_async`.

    Raises:
        OSError: it cannot be started.
    """
    adopt_orphans()
    ours, theirs = socket.socketpair()
    try:
        with theirs:
            process = await start_async(
                argv, {**environment, **_SINGLE}, stdin=theirs.fileno(), line_bytes=line_bytes, stderr=stderr
            )
        ours.sendall(hello)
        ours.setblocking(False)
    except BaseException:
        ours.close()
        raise
    return process, Template(process, ours)


def _pipe(theirs: contextlib.ExitStack, ours: contextlib.ExitStack, *, is_read_theirs: bool) -> tuple[int, IO[bytes]]:
    """Return the two ends of a pipe, that of the fork first; each is closed with its stack."""
    ends = os.pipe()
    other, own = ends if is_read_theirs else ends[::-1]
    theirs.callback(os.close, other)
    return other, ours.enter_context(os.fdopen(own, "wb" if is_read_theirs else "rb", 0))


async def _writer(pipe: IO[bytes]) -> asyncio.StreamWriter:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.connect_write_pipe(
        lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader()), pipe
    )
    return asyncio.StreamWriter(transport, protocol, None, loop)


class _Reading(asyncio.StreamReaderProtocol):
    """Closes the pipe when the other end has."""

    def eof_received(self) -> bool:
        """Take note of the end and keep nothing open."""
        super().eof_received()
        return False


async def _reader(pipe: IO[bytes], line_bytes: int) -> asyncio.StreamReader:
    reader = asyncio.StreamReader(limit=line_bytes)
    await asyncio.get_running_loop().connect_read_pipe(lambda: _Reading(reader), pipe)
    return reader
