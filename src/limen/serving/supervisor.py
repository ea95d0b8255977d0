"""Keeping several worker processes alive on the same ports, and stopping them in order.

Used by `limen.app` when more than one worker is wanted. The supervisor serves nothing itself: a worker that dies is replaced,
with a growing pause when it keeps dying. A worker ends itself when the supervisor is gone, because its standard input closes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Sequence

LOG = logging.getLogger("limen.supervisor")
READY = b"ready\n"
MIN_PAUSE_S = 0.2
MAX_PAUSE_S = 30.0
STEADY_S = 60.0
"""A worker that lived this long is forgiven its earlier deaths."""
STOP_S = 20.0
"""How long a worker may take to stop before it is killed; above its own drain time."""


class WorkerFailedError(Exception):
    """A worker could not start."""

    def __init__(self, said: bytes) -> None:
        """Keep the line it wrote instead of `READY`; empty when it died without a word."""
        super().__init__("a worker could not start")
        self.said = said


class Supervisor:
    """Starts workers and replaces those that die."""

    def __init__(self, command: Sequence[str], hello: bytes, count: int) -> None:
        """Prepare to run `count` workers.

        Args:
            command: the worker's command line.
            hello: what each worker reads from its standard input first.
            count: how many workers to keep.
        """
        self._command = command
        self._hello = hello
        self._count = count
        self._processes: set[Process] = set()
        self._stopping = asyncio.Event()

    async def run(self, on_ready: Callable[[], None]) -> None:
        """Run until `stop` is called.

        Args:
            on_ready: called once, when every worker has said that it is ready.

        Raises:
            WorkerFailedError: a worker died before it was ready for the first time.
        """
        try:
            workers = [await self._start() for _ in range(self._count)]
            for process in workers:
                said = await self._first_line(process)
                if said is None:
                    return
                if said != READY:
                    raise WorkerFailedError(said)
            on_ready()
            async with asyncio.TaskGroup() as group:
                for process in workers:
                    group.create_task(self._keep(process))
        finally:
            await self._end_all()

    def stop(self) -> None:
        """End all workers; `run` returns when they are gone."""
        self._stopping.set()

    async def _keep(self, process: Process) -> None:
        """Watch one worker and replace it whenever it dies."""
        loop = asyncio.get_running_loop()
        stopping = loop.create_task(self._stopping.wait())
        pause = 0.0
        try:
            while not self._stopping.is_set():
                started = loop.time()
                ended = loop.create_task(process.wait())
                await asyncio.wait({ended, stopping}, return_when=asyncio.FIRST_COMPLETED)
                if self._stopping.is_set():
                    ended.cancel()
                    return
                self._processes.discard(process)
                pause = next_pause(pause, loop.time() - started)
                LOG.warning("a worker ended with status %s; another starts in %.1f s", process.returncode, pause)
                await asyncio.wait({stopping}, timeout=pause)
                if self._stopping.is_set():
                    return
                process = await self._start()
                await self._first_line(process)
        finally:
            stopping.cancel()

    async def _start(self) -> Process:
        # Its own session: a Ctrl-C on the terminal reaches the supervisor alone, which then stops the workers in order.
        process = await asyncio.create_subprocess_exec(*self._command, stdin=PIPE, stdout=PIPE, start_new_session=True)
        self._processes.add(process)
        if process.stdin is not None:
            # One that is dead already is noticed by whoever waits for its first line.
            with contextlib.suppress(ConnectionError):
                process.stdin.write(self._hello)
                await process.stdin.drain()
        return process

    async def _first_line(self, process: Process) -> bytes | None:
        """Return what a worker says first, empty when it dies in silence, or None when we are to stop before that."""
        if process.stdout is None:
            return b""
        reading = asyncio.ensure_future(process.stdout.readline())
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({reading, stopping}, return_when=asyncio.FIRST_COMPLETED)
            return None if self._stopping.is_set() else reading.result()
        finally:
            reading.cancel()
            stopping.cancel()

    async def _end_all(self) -> None:
        alive = [p for p in self._processes if p.returncode is None]
        for process in alive:
            process.send_signal(signal.SIGTERM)
        if not alive:
            return
        waits = [asyncio.ensure_future(p.wait()) for p in alive]
        _, late = await asyncio.wait(waits, timeout=STOP_S)
        for process in alive:
            if process.returncode is None and late:
                process.kill()
                await process.wait()


def next_pause(last_s: float, lived_s: float) -> float:
    """Return how long to wait before a worker is replaced: at first hardly, then twice as long each time it dies young."""
    return MIN_PAUSE_S if lived_s > STEADY_S or not last_s else min(last_s * 2, MAX_PAUSE_S)
