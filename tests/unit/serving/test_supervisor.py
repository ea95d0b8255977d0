"""The supervisor, with workers that are a line of Python each."""

import asyncio
import os
import sys
from collections.abc import Callable

import pytest

from limen.serving import supervisor
from limen.serving.supervisor import MAX_PAUSE_S, MIN_PAUSE_S, STEADY_S, Supervisor, WorkerFailedError, next_pause

WAIT_S = 60
GOOD = "import sys; sys.stdin.readline(); print('ready', flush=True); sys.stdin.read()"
"""Says that it is ready and stays until its standard input closes."""


def worker(program: str) -> list[str]:
    return [sys.executable, "-S", "-c", program]


async def until(is_so: Callable[[], bool]) -> None:
    """Let the loop turn until something is so."""
    async with asyncio.timeout(WAIT_S):
        while not is_so():  # noqa: ASYNC110  nothing tells when a process has been started
            await asyncio.sleep(0.001)


class Running:
    """A supervisor in a task, and the moment it became ready."""

    def __init__(self, program: str, count: int = 2) -> None:
        self.supervisor = Supervisor(worker(program), b"hello\n", count)
        self.ready = asyncio.Event()
        self.task = asyncio.create_task(self.supervisor.run(self.ready.set))

    async def until_ready(self) -> None:
        waiting = asyncio.create_task(self.ready.wait())
        await asyncio.wait({waiting, self.task}, timeout=WAIT_S, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        assert self.ready.is_set()

    async def stop(self) -> None:
        self.supervisor.stop()
        await asyncio.wait_for(self.task, WAIT_S)

    def pids(self) -> set[int]:
        return {p.pid for p in self.supervisor._processes if p.returncode is None}


async def test_it_is_ready_when_every_worker_is_and_stops_them_all():
    running = Running(GOOD, 3)
    await running.until_ready()
    assert len(running.pids()) == 3
    processes = set(running.supervisor._processes)
    await running.stop()
    assert {p.returncode is not None for p in processes} == {True}


async def test_a_worker_reads_the_hello_first(tmp_path):
    heard = tmp_path / "heard"
    program = (
        f"import sys, pathlib; pathlib.Path({str(heard)!r}).write_text(sys.stdin.readline());"
        "print('ready', flush=True); sys.stdin.read()"
    )
    running = Running(program, 1)
    await running.until_ready()
    assert heard.read_text() == "hello\n"
    await running.stop()


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("import sys; sys.exit(1)", b""),
        ("print('\"the model is broken\"')", b'"the model is broken"\n'),
    ],
)
async def test_a_worker_that_cannot_start_ends_everything_with_what_it_said(program, said):
    running = Running(program)
    with pytest.raises(WorkerFailedError) as failed:
        await asyncio.wait_for(running.task, WAIT_S)
    assert failed.value.said == said
    assert not running.ready.is_set()
    assert running.pids() == set()


async def test_stopping_before_anything_is_ready_says_nothing_of_readiness():
    running = Running("import sys; sys.stdin.read()")
    await until(lambda: len(running.pids()) == 2)
    await running.stop()
    assert not running.ready.is_set()
    assert running.pids() == set()


async def test_a_dead_worker_is_replaced_by_one_that_works(monkeypatch, caplog):
    monkeypatch.setattr(supervisor, "MIN_PAUSE_S", 0.001)
    running = Running(GOOD)
    await running.until_ready()
    before = running.pids()
    victim = next(p for p in running.supervisor._processes)
    victim.kill()
    await victim.wait()
    await until(lambda: len(running.pids() | before) == 3)
    assert before - {victim.pid} <= running.pids()
    await running.stop()
    assert "a worker ended with status -9" in caplog.text


def test_the_pause_grows_while_a_worker_dies_young_and_starts_over_when_one_lived():
    pauses = [next_pause(0, 1)]
    while pauses[-1] < MAX_PAUSE_S:
        pauses.append(next_pause(pauses[-1], 1))
    assert pauses[:4] == [0.2, 0.4, 0.8, 1.6]
    assert next_pause(MAX_PAUSE_S, 1) == MAX_PAUSE_S
    assert next_pause(MAX_PAUSE_S, STEADY_S + 1) == MIN_PAUSE_S


async def test_a_worker_that_does_not_stop_is_killed(monkeypatch):
    monkeypatch.setattr(supervisor, "STOP_S", 0.01)
    program = (
        "import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "print('ready', flush=True); signal.pause(); signal.pause()"
    )
    running = Running(program, 1)
    await running.until_ready()
    (process,) = running.supervisor._processes
    await running.stop()
    assert process.returncode == -9


async def test_workers_do_not_get_the_terminals_signals():
    """A Ctrl-C reaches the whole foreground group; the supervisor alone may act on it."""
    running = Running(GOOD, 1)
    await running.until_ready()
    (pid,) = running.pids()
    assert os.getsid(pid) == pid
    await running.stop()
