"""A template forks processes that are children of whoever asks for them."""

import asyncio
import ctypes
import os
import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from limen.runtime.sandbox import forking
from limen.runtime.sandbox.child import model_environment, passed_environment
from limen.runtime.sandbox.forking import ForkedProcess, ForkError, Template, can_fork, start_template

pytestmark = pytest.mark.skipif(not can_fork(), reason="needs forks that are adopted")
WAIT_S = 60
PROGRAM = """
import os, random, socket, sys
from limen.runtime.sandbox import template
from limen.runtime.sandbox.parent import read_line
exec(read_line(0))
source = template.prepare(lambda: None)
print("ready", flush=True)
if template.serve(socket.socket(fileno=0), source):
    exec(sys.stdin.readline())
"""
"""Runs what it reads first, and each fork what it reads first."""


@pytest.fixture(autouse=True)
def adoption() -> Iterator[None]:
    """Adopt orphans for one test only: others look at what becomes of theirs."""
    yield
    ctypes.CDLL(None).prctl(forking._ADOPT_ORPHANS, 0, 0, 0, 0)


@asynccontextmanager
async def running(first: str = "pass", **variables: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, Template]]:
    argv = (sys.executable, "-P", "-c", PROGRAM)
    environment = model_environment(1) | variables
    process, template = await start_template(argv, environment, f"{first}\n".encode())
    assert process.stdout is not None
    assert await process.stdout.readline() == b"ready\n"
    try:
        yield process, template
    finally:
        template.close()
        await asyncio.wait_for(process.wait(), WAIT_S)


async def ask(template: Template, code: str, **variables: str) -> ForkedProcess:
    forked = await template.fork("limen test", passed_environment() | variables)
    assert forked.stdin is not None
    forked.stdin.write(f"{code}\n".encode())
    return forked


def open_files(pid: int) -> int:
    return sum(1 for _ in os.scandir(f"/proc/{pid}/fd"))


async def told(template: Template, code: str, **variables: str) -> str:
    """Return what a fork prints before it ends."""
    forked = await ask(template, code, **variables)
    assert forked.stdout is not None
    said = await asyncio.wait_for(forked.stdout.read(), WAIT_S)
    assert await asyncio.wait_for(forked.wait(), WAIT_S) == 0
    return said.decode().strip()


async def test_a_fork_is_a_child_of_whoever_asks_and_its_status_is_known():
    async with running() as (_, template):
        assert await told(template, "print(os.getppid())") == str(os.getpid())
        failing = await ask(template, "os._exit(7)")
        assert await asyncio.wait_for(failing.wait(), WAIT_S) == 7
        killed = await ask(template, "sys.stdin.read()")
        assert killed.returncode is None
        killed.kill()
        assert await asyncio.wait_for(killed.wait(), WAIT_S) == -signal.SIGKILL
        assert killed.returncode == -signal.SIGKILL
        with pytest.raises(ProcessLookupError):
            killed.kill()


async def test_a_fork_has_its_own_environment_session_and_name_and_no_other_files():
    code = "print(sorted(os.environ), os.getsid(0) == os.getpid(), open('/proc/self/cmdline').read().strip(chr(0)), len(os.listdir('/proc/self/fd')))"
    async with running(TEMPLATES_OWN="1") as (_, template):
        said = await told(template, code, MARK="1")
    assert "'MARK'" in said
    assert "TEMPLATES_OWN" not in said
    # The three streams, and the folder that is read.
    assert said.endswith("True limen test 4")


async def test_what_a_fork_prints_to_standard_error_can_be_read():
    async with running() as (_, template):
        forked = await template.fork("limen test", passed_environment(), stderr=PIPE)
        assert forked.stdin is not None
        assert forked.stderr is not None
        forked.stdin.write(b"print('bad news', file=sys.stderr)\n")
        assert await asyncio.wait_for(forked.stderr.read(), WAIT_S) == b"bad news\n"
        assert await asyncio.wait_for(forked.wait(), WAIT_S) == 0


async def test_no_two_forks_draw_the_same_numbers():
    async with running("import numpy.random") as (_, template):
        drawn = [await told(template, "print(random.random(), sys.modules['numpy.random'].rand())") for _ in range(2)]
    first, second = (text.split() for text in drawn)
    assert first[0] != second[0]
    assert first[1] != second[1]


async def test_forks_go_on_without_their_template_and_their_end_is_still_known():
    async with running() as (process, template):
        forked = await ask(template, "sys.stdin.readline(); os._exit(3)")
        process.kill()
        await asyncio.wait_for(process.wait(), WAIT_S)
        with pytest.raises(ForkError, match="ended"):
            await template.fork("limen test", {})
        assert template.is_lost
        assert forked.stdin is not None
        forked.stdin.write(b"\n")
        assert await asyncio.wait_for(forked.wait(), WAIT_S) == 3


async def test_a_template_with_a_second_thread_gives_no_forks():
    threads = "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()"
    async with running(threads) as (_, template):
        with pytest.raises(ForkError, match="2 threads"):
            await template.fork("limen test", {})
        assert template.is_lost


async def test_a_template_gives_no_forks_once_other_libraries_are_installed(tmp_path):
    async with running(f"sys.path.append({str(tmp_path)!r})") as (process, template):
        assert await told(template, "print(1)") == "1"
        (tmp_path / "installed.py").write_text("")
        with pytest.raises(ForkError, match="have changed"):
            await template.fork("limen test", {})
        # Another one takes its place.
        assert await asyncio.wait_for(process.wait(), WAIT_S) == 0


async def test_a_template_that_hangs_is_killed(monkeypatch):
    async with running() as (process, template):
        monkeypatch.setattr(forking, "FORK_S", 0.05)
        process.send_signal(signal.SIGSTOP)
        with pytest.raises(ForkError, match="did not answer"):
            await template.fork("limen test", {})
        assert await asyncio.wait_for(process.wait(), WAIT_S) == -signal.SIGKILL


async def test_a_fork_ends_when_it_is_wanted_no_more_before_it_has_been_told_anything():
    async with running() as (_, template):
        forked = await template.fork("limen test", passed_environment())
        assert forked.stdin is not None
        forked.stdin.close()
        assert await asyncio.wait_for(forked.wait(), WAIT_S) == 0


async def test_a_fork_takes_two_files_of_whoever_asks_once_it_has_closed_its_output():
    """Its input, and what tells of its end."""
    async with running() as (_, template):
        before = open_files(os.getpid())
        forked = await ask(template, "os.dup2(2, 1); sys.stdin.readline()")
        assert forked.stdout is not None
        assert await asyncio.wait_for(forked.stdout.read(), WAIT_S) == b""
        await asyncio.sleep(0)
        assert open_files(os.getpid()) == before + 2
        forked.kill()
        await asyncio.wait_for(forked.wait(), WAIT_S)


async def test_many_forks_at_once_are_told_apart():
    async with running() as (_, template):
        said = await asyncio.gather(*(told(template, f"print({number})") for number in range(8)))
    assert said == [str(number) for number in range(8)]
