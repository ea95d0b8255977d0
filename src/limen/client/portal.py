"""An event loop in its own thread, and synchronous wrappers that run asynchronous clients in it."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, Self, TypeVar, overload

T = TypeVar("T")
P = ParamSpec("P")


class Closable(Protocol):
    """An asynchronous client."""

    async def aclose(self) -> None:
        """Close all connections."""
        ...


C = TypeVar("C", bound=Closable)


class Portal:
    """Runs coroutines for callers of any thread; the loop starts with the first of them."""

    def __init__(self) -> None:
        """Start nothing yet."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._process = os.getpid()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Return the coroutine's result; an interrupt of the caller cancels it.

        Raises:
            RuntimeError: in a process that was forked off after this was made, where the thread does not exist.
        """
        try:
            loop = self._running_loop()
        except RuntimeError:
            coroutine.close()
            raise
        future = asyncio.run_coroutine_threadsafe(coroutine, loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def iterate(self, parts: AsyncGenerator[T, None]) -> Generator[T, None, None]:
        """Yield what an asynchronous generator yields; closing this one closes that one."""
        try:
            while True:
                try:
                    part = self.run(_next(parts))
                except _Exhausted:
                    return
                yield part
        finally:
            self.run(parts.aclose())

    def close(self) -> None:
        """End the loop and its thread; nothing may be running."""
        with self._lock:
            loop, self._loop = self._loop, None
            thread, self._thread = self._thread, None
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        if os.getpid() != self._process:
            raise RuntimeError("a client cannot be used in a forked process; create one after the fork")
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=_serve, args=(self._loop,), name="limen-client", daemon=True)
                self._thread.start()
            return self._loop


class Face(Generic[C]):
    """The synchronous face of an asynchronous client; its methods are made by `Blocking`. Safe to share between threads."""

    def __init__(self, client: C) -> None:
        """Take the client; nobody else may use it."""
        self._client = client
        self._portal = Portal()

    def close(self) -> None:
        """Close all connections and end the thread."""
        self._portal.run(self._client.aclose())
        self._portal.close()

    def __enter__(self) -> Self:
        """Return the client, which the block's end closes."""
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _await(self, method: Callable[..., Coroutine[Any, Any, T]], *args: object, **options: object) -> T:
        return self._portal.run(method(self._client, *args, **options))


class Blocking(Generic[P, T]):
    """A method of a face: the asynchronous client's own, with its parameters, waited for."""

    def __init__(self, method: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]) -> None:
        """Take a coroutine function of the asynchronous client's class."""
        self._method = method
        self.__doc__ = method.__doc__

    @overload
    def __get__(self, face: None, owner: type) -> Self: ...

    @overload
    def __get__(self, face: Face[Any], owner: type) -> Callable[P, T]: ...

    def __get__(self, face: Face[Any] | None, owner: type) -> Self | Callable[P, T]:
        """Return the method of one client."""
        if face is None:
            return self
        await_ = face._await  # noqa: SLF001 - the two are one mechanism
        method = self._method

        def call(*args: P.args, **options: P.kwargs) -> T:
            return await_(method, *args, **options)

        call.__doc__ = self.__doc__
        return call


class _Exhausted(Exception):
    """There are no more parts: a task cannot end with `StopAsyncIteration`."""


async def _next(parts: AsyncGenerator[T, None]) -> T:
    try:
        return await anext(parts)
    except StopAsyncIteration:
        raise _Exhausted from None


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()
