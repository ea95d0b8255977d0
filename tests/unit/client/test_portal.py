"""Synchronous faces: one implementation, waited for in a thread of its own."""

import asyncio
import inspect
import os
import threading
from collections.abc import AsyncGenerator
from concurrent.futures import Future

import pytest

from limen.client import AsyncClient, AsyncManagement, Client, Management
from limen.client.portal import Blocking, Face, Portal


class Counter:
    """An asynchronous client of nothing."""

    def __init__(self) -> None:
        self.closed_in = ""

    async def add(self, a: int, *, b: int = 0) -> int:
        """Add."""
        await asyncio.sleep(0)
        return a + b

    async def fail(self) -> None:
        raise KeyError("x")

    async def where(self) -> str:
        return threading.current_thread().name

    async def aclose(self) -> None:
        self.closed_in = threading.current_thread().name


class Counted(Face[Counter]):
    add = Blocking(Counter.add)
    fail = Blocking(Counter.fail)
    where = Blocking(Counter.where)


@pytest.mark.parametrize(("face", "asynchronous"), [(Client, AsyncClient), (Management, AsyncManagement)])
def test_a_face_has_every_method_of_its_client(face, asynchronous):
    def public(kind: type) -> set[str]:
        return {n for n in vars(kind) if not n.startswith("_")}

    assert public(face) == public(asynchronous) - {"aclose"}
    assert all(inspect.getdoc(getattr(face, name)) for name in public(face))


def test_methods_run_in_the_thread_and_errors_pass():
    client = Counter()
    with Counted(client) as face:
        assert face.add(1, b=2) == 3
        assert face.where() == "limen-client"
        assert face.add.__doc__ == "Add."
        with pytest.raises(KeyError):
            face.fail()
    assert client.closed_in == "limen-client"
    assert not any(t.name == "limen-client" for t in threading.enumerate())


def test_many_threads_may_use_one_face():
    results: list[int] = []
    with Counted(Counter()) as face:
        threads = [threading.Thread(target=lambda n=n: results.append(face.add(n, b=n))) for n in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(results) == [2 * n for n in range(20)]


def test_a_generator_is_closed_with_the_one_it_comes_from():
    ended: list[str] = []

    async def parts() -> AsyncGenerator[int, None]:
        try:
            for i in range(9):
                yield i
        finally:
            ended.append("closed")

    portal = Portal()
    try:
        for part in portal.iterate(parts()):
            if part == 2:
                break
        assert ended == ["closed"]
        assert list(portal.iterate(parts())) == list(range(9))
    finally:
        portal.close()


def test_a_forked_process_is_told_instead_of_waiting_for_ever(monkeypatch):
    face = Counted(Counter())
    process = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: process + 1)
    with pytest.raises(RuntimeError, match="forked"):
        face.add(1)


def test_an_interrupted_caller_cancels_the_call(monkeypatch):
    futures: list[Future] = []
    submit = asyncio.run_coroutine_threadsafe

    def interrupted(coroutine, loop) -> Future:
        """Stand for a caller who presses Ctrl-C while it waits."""
        future = submit(coroutine, loop)
        futures.append(future)

        def result() -> None:
            raise KeyboardInterrupt

        future.result = result
        return future

    portal = Portal()
    monkeypatch.setattr(asyncio, "run_coroutine_threadsafe", interrupted)
    with pytest.raises(KeyboardInterrupt):
        portal.run(asyncio.Event().wait())
    monkeypatch.undo()
    assert futures[0].cancelled()
    portal.run(asyncio.sleep(0))
    portal.close()
