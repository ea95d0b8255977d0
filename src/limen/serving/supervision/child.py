"""One managed process: started, monitored, restarted when it dies, and stopped in order.

Used by `serving.supervision.supervisor` only. A child ends itself when the supervisor is gone, because its standard input closes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import time
from asyncio.subprocess import PIPE
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

import msgspec

from limen.runtime.sandbox.child import start_async
from limen.runtime.sandbox.forking import Child, ForkError, Template, start_template
from limen.serving.messages.lines import (
    MAX_LINE_BYTES,
    Beat,
    Failure,
    FirstWord,
    ProcessPhase,
    ProcessSpec,
    ProcessState,
    line,
)
from limen.serving.supervision.facts import OomKills
from limen.serving.supervision.relay import relay
from limen.serving.supervision.templates import Templates
from limen.telemetry.form import NAME_VARIABLE, is_json

LOG = logging.getLogger("limen.supervisor")
MIN_PAUSE_S = 0.2
MAX_PAUSE_S = 30.0
MAX_MISSED_PAUSE_S = 2.0
"""The longest pause for a process that somebody misses: it had been ready, or the server is nothing without it."""
STEADY_S = 60.0
"""A process that lived this long is forgiven its earlier deaths."""
BUDGET_WINDOW_S = 600.0
FORK_ATTEMPTS = 3
"""How many templates are asked for a fork before a process is started as a program: one that is replaced refuses the first time."""
_BEAT = line(Beat())
_GONE = (ConnectionError, RuntimeError)
"""What writing to a process that has ended raises; uvloop says it with the second."""


def next_pause(last_s: float, lived_s: float, longest_s: float = MAX_PAUSE_S) -> float:
    """Return how long to wait before a process is replaced: at first hardly, then twice as long each time it dies young."""
    return MIN_PAUSE_S if lived_s > STEADY_S or not last_s else min(last_s * 2, longest_s)


class Keeper:
    """Keeps one process as its spec says until `dismiss`."""

    def __init__(
        self,
        spec: ProcessSpec,
        on_change: Callable[[Keeper], None],
        *,
        greet: Callable[[], bytes] = bytes,
        on_line: Callable[[bytes], None] | None = None,
        oom: OomKills | None = None,
        templates: Templates | None = None,
    ) -> None:
        """Prepare to keep a process; `run` starts it.

        Args:
            spec: what to run. May be replaced; the next start follows the new one.
            on_change: called after every change of `state`.
            greet: gives what is written after the hello of each start.
            on_line: takes every other line of standard output. Without it, lines after the first word are dropped.
            oom: knows of processes that the system kills.
            templates: what it may be forked from.
        """
        self.spec = spec
        self._on_change = on_change
        self._greet = greet
        self._on_line = on_line
        self._oom = oom or OomKills()
        self._templates = templates or Templates()
        self._is_killed_here = False
        self._process: Child | None = None
        self._dismissed = asyncio.Event()
        self._heard = asyncio.Event()
        self._deaths: deque[float] = deque()
        self.state = ProcessState(spec.name, spec.kind, ProcessPhase.STARTING)
        self.beats = 0
        """How often the process has said in this life that it goes on."""
        self.template: Template | None = None
        """What others are forked from, when the process is a template."""

    async def run(self) -> None:
        """Start the process and replace it when it ends; return when it has been dismissed and is gone, or is given up."""
        loop = asyncio.get_running_loop()
        pause = 0.0
        while not self._dismissed.is_set():
            started = loop.time()
            status = await self._live()
            if self._dismissed.is_set() or not self.spec.is_restarted:
                break
            if self._is_over_budget(loop.time()):
                LOG.error("%s %s once more and is given up", self.spec.name, self._end(status))
                break
            pause = next_pause(pause, loop.time() - started, self._longest_pause())
            LOG.warning("%s %s; another starts in %.1f s", self.spec.name, self._end(status), pause)
            self._change(ProcessPhase.PAUSED, status=status)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._dismissed.wait()
            self.state = msgspec.structs.replace(self.state, restarts=self.state.restarts + 1)
        self._heard.set()
        self._change(ProcessPhase.ENDED)

    def dismiss(self) -> None:
        """End the process: asked first, killed when it takes too long. `run` then returns."""
        self._dismissed.set()

    def kill(self) -> None:
        """End the process on the spot."""
        self._dismissed.set()
        self._signal(signal.SIGKILL)

    def restart_hung(self) -> None:
        """End a process that does not go on, on the spot; another one starts."""
        self.state = msgspec.structs.replace(self.state, hangs=self.state.hangs + 1)
        self._signal(signal.SIGKILL)

    def write(self, data: bytes) -> None:
        """Say something to the process; nobody hears it when there is none."""
        process = self._process
        if process is not None and process.returncode is None and process.stdin is not None:
            with contextlib.suppress(*_GONE):
                process.stdin.write(data)

    async def until_heard(self) -> FirstWord | None:
        """Wait for the first word of the first life; None when there was none."""
        await self._heard.wait()
        return self.state.word

    async def _live(self) -> int | None:
        """Run one process from its start to its end and return its status."""
        try:
            process = await self._start()
        except OSError as exc:
            text = f"the process cannot be started: {exc.strerror or exc}"
            self.state = msgspec.structs.replace(self.state, word=FirstWord(failed=Failure(text)), status=None)
            return None
        if process is None:  # dismissed meanwhile
            return None
        self._process = process
        self._is_killed_here = False
        self.beats = 0
        if self.state.phase is not ProcessPhase.STOPPING:
            self._change(ProcessPhase.STARTING, pid=process.pid, word=None, started_at=time.time())
        async with asyncio.TaskGroup() as group:
            listening = group.create_task(self._listen(process))
            if process.stderr is not None:
                relaying = group.create_task(relay(self.spec.name, process.pid, process.stderr))
            else:
                relaying = listening
            ended = group.create_task(process.wait())
            dismissed = group.create_task(self._dismissed.wait())
            await asyncio.wait((ended, dismissed), return_when=asyncio.FIRST_COMPLETED)
            dismissed.cancel()
            if not ended.done():
                await self._see_off(process, ended)
            await ended
            # What it said last is still in the pipe; a grandchild may hold that open for ever.
            await asyncio.wait((listening, relaying), timeout=1.0)
            listening.cancel()
            relaying.cancel()
        self._process = None
        if self.template is not None:
            self.template.close()
        is_killed = process.returncode == -signal.SIGKILL and not self._is_killed_here
        is_oom = is_killed and self._oom.has_struck(time.monotonic())
        self.state = msgspec.structs.replace(self.state, status=process.returncode, is_oom=is_oom)
        return process.returncode

    async def _see_off(self, process: Child, ended: Awaitable[int]) -> None:
        self._change(ProcessPhase.STOPPING)
        self._signal(signal.SIGTERM)
        done, _ = await asyncio.wait((asyncio.ensure_future(ended),), timeout=self.spec.stop_s)
        if not done:
            LOG.warning("%s did not stop within %g s and is killed", self.spec.name, self.spec.stop_s)
            self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        process = self._process
        if process is not None and process.returncode is None:
            self._is_killed_here = number == signal.SIGKILL
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)

    async def _start(self) -> Child | None:
        """Return a new process; None when it was dismissed before there was one."""
        spec = self.spec
        environment = {**(os.environ if spec.environment is None else spec.environment), NAME_VARIABLE: spec.name}
        stderr = PIPE if is_json() else None
        hello = spec.hello.encode() + b"\n" + self._greet()
        if spec.kind == "template":
            started, self.template = await start_template(
                spec.argv, environment, hello, line_bytes=MAX_LINE_BYTES, stderr=stderr
            )
            return started
        forked = await self._fork(environment, stderr) if spec.template else None
        if self._dismissed.is_set() and forked is None:
            return None
        process: Child = forked or await start_async(spec.argv, environment, line_bytes=MAX_LINE_BYTES, stderr=stderr)
        if process.stdin is not None:
            # One that is dead already is noticed by whoever waits for its end.
            with contextlib.suppress(*_GONE):
                process.stdin.write(hello)
        return process

    async def _fork(self, environment: Mapping[str, str], stderr: int | None) -> Child | None:
        """Return a fork of the template; None when there is none to be had, or it is not wanted any more."""
        spec = self.spec
        for _ in range(FORK_ATTEMPTS):
            template = await self._unless_dismissed(self._templates.ready(spec.template))
            if template is None:
                break
            try:
                return await template.fork(
                    f"limen {spec.kind} {spec.name}", environment, line_bytes=MAX_LINE_BYTES, stderr=stderr
                )
            except ForkError as exc:
                LOG.info("%s gives no forks any more: %s", spec.template, exc)
        if not self._dismissed.is_set():
            LOG.warning("%s is started without %s, which takes more time and memory", spec.name, spec.template)
        return None

    async def _unless_dismissed(self, waiting: Coroutine[Any, Any, Template | None]) -> Template | None:
        asked, dismissed = asyncio.ensure_future(waiting), asyncio.ensure_future(self._dismissed.wait())
        await asyncio.wait((asked, dismissed), return_when=asyncio.FIRST_COMPLETED)
        dismissed.cancel()
        asked.cancel() if not asked.done() else None
        return asked.result() if asked.done() and not asked.cancelled() else None

    async def _listen(self, process: Child) -> None:
        """Take in what the process says, to the end: one that nobody listens to would block."""
        if process.stdout is None:
            return
        while True:
            try:
                said = await process.stdout.readline()
            except ValueError:  # a line without end
                LOG.warning("%s said a line of more than %d bytes", self.spec.name, MAX_LINE_BYTES)
                continue
            if not said:
                return
            if self.state.word is None and (word := _first_word(said)) is not None:
                self.state = msgspec.structs.replace(self.state, word=word)
                self._heard.set()
                if self.state.phase is ProcessPhase.STARTING:
                    self._change(ProcessPhase.REFUSING if word.ready is None else ProcessPhase.RUNNING)
            elif said == _BEAT:
                self.beats += 1
            elif self._on_line is not None:
                self._on_line(said)

    def _end(self, status: int | None) -> str:
        """Return how the process ended, with its last words if it had any."""
        failed = self.state.word.failed if self.state.word is not None else None
        end = "did not start" if status is None else f"ended with status {status}"
        if self.state.is_oom:
            end = "was killed by the system for want of memory"
        return f"{end} ({failed.message})" if failed is not None else end

    def _longest_pause(self) -> float:
        was_ready = self.state.word is not None and self.state.word.ready is not None
        return MAX_MISSED_PAUSE_S if was_ready or self.spec.is_essential else MAX_PAUSE_S

    def _is_over_budget(self, now: float) -> bool:
        self._deaths.append(now)
        while self._deaths[0] < now - BUDGET_WINDOW_S:
            self._deaths.popleft()
        return 0 < self.spec.budget < len(self._deaths)

    def _change(self, phase: ProcessPhase, **fields: object) -> None:
        self.state = msgspec.structs.replace(self.state, phase=phase, **fields)
        self._on_change(self)


def _first_word(said: bytes) -> FirstWord | None:
    """Return what a process says first; a library that prints something of its own does not count."""
    try:
        word = msgspec.json.decode(said, type=FirstWord)
    except msgspec.DecodeError:
        return None
    return word if word.ready is not None or word.failed is not None else None
