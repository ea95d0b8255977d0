"""The thread of one model: runs one task at a time, in order, and never blocks the process from ending.

Not an executor of the standard library: those are joined when the interpreter exits, so a model that waits for ever would keep
a stopped server alive. Used by `placement.inline.predictor`.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

T = TypeVar("T")


class ModelThread:
    """One daemon thread with a queue."""

    def __init__(self, name: str) -> None:
        """Start the thread."""
        self._queue: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        Thread(target=self._serve, name=name, daemon=True).start()

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Queue work; cancelling the future before its turn takes it out."""
        future: Future[T] = Future()
        self._queue.put((future, work))
        return future

    def end(self) -> None:
        """Let the thread end after what is queued."""
        self._queue.put(None)

    def _serve(self) -> None:
        while (item := self._queue.get()) is not None:
            _do(*item)
            # What a request holds must not live until the next one comes.
            del item


def _do(future: Future[Any], work: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(work())
    except BaseException as exc:  # noqa: BLE001  whoever waits for the future gets it
        future.set_exception(exc)
