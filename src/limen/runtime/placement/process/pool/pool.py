"""A gateway's view of one version's replicas: gives each batch to the least busy one and recovers from crashes.

    a replica ends            what it had not begun goes to another one; what it was running is tried again, one request at a time
    a request ends a second   it is quarantined: answered MODEL_CRASH, now and whenever it comes again
    a replica hangs           the watchdog kills it; then as above
    no replica                nothing is free: requests wait in the batcher until one connects
    none can be started       the pool is down: what waits and what comes is refused at once, until a replica connects

Callbacks only: no task exists for a batch. Not here: one connection (`link`), and starting processes (`own`, or the supervisor).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from typing import Final

from limen.contracts.errors import Internal, LimenError, Unavailable
from limen.contracts.inference import Deadline, InferenceRequest, InferenceResponse, Outcome
from limen.contracts.serving import Serving
from limen.runtime.placement.process.pool.arrivals import Arrivals, absence
from limen.runtime.placement.process.pool.link import Link
from limen.runtime.placement.process.pool.recovery import WAIT_S, Recovery
from limen.runtime.placement.process.pool.suspects import Suspects
from limen.runtime.placement.process.pool.watchdog import Watchdog, end_hung
from limen.runtime.placement.process.pool.work import WINDOW_PARTS, Stream, Work
from limen.runtime.predictor import Cancel

LOG = logging.getLogger("limen.runtime")
WINDOW: Final = 1
"""Batches that a replica may have from this gateway. With 2 nothing was gained: the next one leaves before the answers to the last one
are unpacked, and it takes along whoever came meanwhile."""


class ReplicaPool:
    """A `Sink` over any number of replicas. Used from one event loop."""

    def __init__(
        self,
        name: str,
        version: str,
        *,
        digest: str = "",
        hang_after_s: float = Serving().hang_after_s,
        on_poison: Callable[[str], None] | None = None,
        on_close: Callable[[], None] | None = None,
    ) -> None:
        """Begin without replicas.

        Args:
            name: the model, for its answers.
            version: the version, for its answers.
            digest: of the package; a replica that has loaded another one is not used.
            hang_after_s: the shortest time after which a replica that does not go on is killed.
            on_poison: is told the fingerprint of each request that is quarantined here.
            on_close: is called once, when the pool closes.
        """
        self.name = name
        self.version = version
        self.digest = digest
        self.can_stream = False
        self.mixes_rows, self.wants_context = "", False
        self.free, self.window = 0, WINDOW
        self.on_free: Callable[[], None] = _nothing
        self.down, self.on_turn = "", _nothing
        self.hangs = 0
        """Replicas that were killed here because they did not go on."""
        self._on_poison = on_poison
        self._on_close = on_close
        self._suspects = Suspects(self._poisoned)
        self._links: dict[str, Link] = {}
        self._leaving: set[Link] = set()
        """Replicas that are not wanted any more, and in use until a wanted one answers."""
        self._retiring: set[Link] = set()
        """Replicas that get no new work."""
        self._are_retired = asyncio.Event()
        self._are_retired.set()
        self._ready: list[Link] = []
        self._recovery = Recovery(self._suspects, self._start, self.on_answered, f"{name} version {version}")
        self._streams: set[Stream] = set()
        self._arrivals = Arrivals()
        self._loop = asyncio.get_running_loop()
        self._hang_after_s = hang_after_s
        self._watchdog = Watchdog(hang_after_s)
        self.allow = self._watchdog.allow
        self._timer = self._loop.call_later(self._watchdog.interval_s, self._watch)
        self._is_closed = False

    # -- replicas ------------------------------------------------------------------------------------------------------

    def set_replicas(self, paths: Sequence[str]) -> None:
        """Connect to the replicas that listen at these paths, and leave the others once their work is done.

        Those that are left go on until one of the new ones answers, so that there is always one.
        """
        if self._is_closed:
            return
        for path in self._links.keys() - set(paths):
            link = self._links.pop(path)
            if link.is_ready:
                self._leaving.add(link)
                self._are_retired.clear()
            else:
                link.retire()
        for path in paths:
            if path not in self._links:
                link = self._links[path] = Link(path, self, self._loop, self.name, self.version, self.digest)
                link.connect()
        self._let_go(at_once=not paths)

    def set_down(self, reason: str) -> None:
        """Refuse requests because no replica can be started, or wait for replicas again when there is no reason any more.

        A replica that is connected knows better.
        """
        if self._is_closed or self._ready or reason == self.down:
            return
        was_up, self.down = not self.down, reason
        if not reason:
            self.free = self._count()
        elif was_up:
            for work in self._recovery.clear():
                self._refuse(work, absence(is_down=bool(self.down)))
            self._arrivals.tell()
            # The batcher sends what it has, and each batch is refused.
            self.free = 1
            self._offer(0)
        self.on_turn()

    def _let_go(self, *, at_once: bool = False) -> None:
        """Give the replicas that are not wanted any more no new work, as soon as one that is wanted answers."""
        if at_once or any(link.is_ready for link in self._links.values()):
            while self._leaving:
                link = self._leaving.pop()
                self._withdraw(link)
                self._retiring.add(link)
                link.retire()

    @property
    def connected(self) -> int:
        """How many replicas take work."""
        return len(self._ready)

    @property
    def crashes(self) -> int:
        """How many replicas ended while they were running something of this gateway."""
        return self._recovery.crashes

    @property
    def pids(self) -> tuple[int, ...]:
        """The processes of the replicas that take work."""
        return tuple(link.pid for link in self._ready)

    async def wait_ready(self, timeout_s: float) -> None:
        """Return as soon as a replica takes work.

        Raises:
            Unavailable: none did within `timeout_s` seconds.
        """
        if not self._ready and not await self._arrival(timeout_s):
            raise absence(is_down=bool(self.down), is_late=True)

    async def wait_retired(self) -> None:
        """Return when the replicas that are not wanted any more have finished their work."""
        await self._are_retired.wait()

    async def _arrival(self, timeout_s: float) -> bool:
        if not self.down:
            await self._arrivals.wait(timeout_s)
        return bool(self._ready)

    # -- quarantine ----------------------------------------------------------------------------------------------------

    @property
    def quarantined(self) -> set[str]:
        """Fingerprints of requests that are not run any more."""
        return self._suspects.quarantined

    def set_quarantined(self, fingerprints: Iterable[str]) -> None:
        """Add what other gateways found."""
        self._suspects.quarantined.update(fingerprints)

    def _poisoned(self, fingerprint: str) -> None:
        LOG.error("%s version %s: request %s is quarantined", self.name, self.version, fingerprint)
        if self._on_poison is not None:
            self._on_poison(fingerprint)

    # -- what the batcher asks for -------------------------------------------------------------------------------------

    def predict_now(self, request: InferenceRequest, deadline: Deadline) -> Outcome | None:
        """Say that every answer has to be waited for: it comes from another process."""
        return None

    def send(
        self, batch: Sequence[InferenceRequest], deadline: Deadline, done: Callable[[Sequence[Outcome]], None]
    ) -> Cancel:
        """Give a batch to the least busy replica; see `Sink.send`. After it was cancelled `done` is not called."""
        if self._suspects.quarantined and any(map(self._suspects.judge, batch)):
            work = self._recovery.without_poison(batch, deadline, done)
        else:
            work = Work(batch, deadline, done)
            self._start(work)
        return work.cancel

    def _start(self, work: Work) -> None:
        link = self._least_busy()
        if self._is_closed or self.down:
            self._refuse(work, absence(is_down=bool(self.down)))
            return
        if link is None:
            self._recovery.wait(work)
            return
        try:
            link.send(work)
        except Exception as exc:  # noqa: BLE001 - the batch is answered, whatever it was
            self._refuse(work, exc)
            return
        if len(link.works) == self.window:
            self.free -= 1

    def _least_busy(self) -> Link | None:
        ready = self._ready
        if len(ready) == 1:
            return ready[0]
        return min(ready, key=_load, default=None)

    def _refuse(self, work: Work, exc: Exception) -> None:
        if not isinstance(exc, LimenError):
            LOG.error("a batch cannot be sent", exc_info=exc)
            exc = Internal()
        work.settle(0, [exc] * len(work.batch))
        self._loop.call_soon(self.on_answered, work)

    async def stream(self, request: InferenceRequest, deadline: Deadline) -> AsyncGenerator[InferenceResponse, None]:
        """Yield the parts as the replica gives them; leaving early tells it to stop."""
        deadline.check()
        if (poison := self._suspects.judge(request)) is not None:
            raise poison
        if not self._ready and not await self._arrival(min(deadline.remaining_s(), WAIT_S)):
            deadline.check()
            raise absence(is_down=bool(self.down), is_late=True)
        stream = Stream(request)
        min(self._ready, key=_load).open(stream, deadline.at)
        self._streams.add(stream)
        taken = 0
        try:
            while True:
                while not stream.parts and not stream.is_over:
                    await stream.changed(deadline)
                if not stream.parts:
                    break
                outputs = stream.parts.popleft()
                taken += 1
                if taken == WINDOW_PARTS // 2 and stream.link is not None:
                    stream.link.credit(stream.call, taken)
                    taken = 0
                yield InferenceResponse(self.name, self.version, outputs, request.id)
            if stream.error is not None:
                raise stream.error
        finally:
            self._streams.discard(stream)
            if not stream.is_over and stream.link is not None:
                stream.link.cancel(stream.call)

    async def close(self) -> None:
        """Leave all replicas; what they have in hand is answered `Unavailable`. Idempotent."""
        if self._is_closed:
            return
        self._is_closed = True
        self._timer.cancel()
        self.free = 0
        links = [*self._links.values(), *self._leaving, *self._retiring]
        left = self._recovery.clear()
        for link in links:
            left += link.works.values()
            link.close()
        self._ready.clear()
        self._links.clear()
        self._leaving.clear()
        self._retiring.clear()
        self._are_retired.set()
        for work in left:
            self._recovery.give_up(work, Unavailable())
        for stream in list(self._streams):
            stream.end(Unavailable())
        self._arrivals.tell()
        if self._on_close is not None:
            self._on_close()

    # -- what links say ------------------------------------------------------------------------------------------------

    def on_ready(self, link: Link) -> None:
        """Use a replica that has just been connected."""
        if link.is_retiring:
            link.close()
            return
        self.can_stream, self.wants_context = link.can_stream, link.wants_context
        self.mixes_rows = "its graph computes over all rows of a run" if link.mixes_rows else ""
        self._watchdog.begin(link)
        self._ready.append(link)
        self._arrivals.tell()
        was_down, self.down = bool(self.down), ""
        before = 0 if was_down else self.free
        self._let_go()
        self.free = self._count()
        if was_down:
            self.on_turn()
        self._offer(before)

    def on_freed(self, link: Link) -> None:
        """Give a replica its next batch."""
        if link.is_retiring or len(link.works) != self.window - 1:
            return
        self.free += 1
        self._offer(self.free - 1)

    def _offer(self, before: int) -> None:
        """Begin with what was lost; tell the batcher if something is free after that and nothing was before."""
        self._resume()
        if before == 0 and self.free > 0:
            try:
                self.on_free()
            except Exception:
                LOG.exception("the batcher failed to use a free replica")

    def on_answered(self, work: Work) -> None:
        """Hand over the outcomes of a batch, or of a member of one that is tried again."""
        if work.is_suspect:
            whole = self._recovery.answered(work)
            if whole is None:
                return
            work = whole
        if work.is_cancelled:
            return
        try:
            work.done(work.results)  # type: ignore[arg-type] # nothing is missing
        except Exception:
            LOG.exception("a caller failed to take its answers")

    def on_last_words(self, request: InferenceRequest) -> None:
        """Count the end of a replica whose model ran out of memory on a request."""
        self._recovery.last_words(request)

    def on_retired(self, link: Link) -> None:
        """Forget a replica that was not wanted any more and has nothing left to do."""
        self._retiring.discard(link)
        if not self._retiring and not self._leaving:
            self._are_retired.set()

    def on_lost(self, link: Link) -> None:
        """Try again what a replica that has gone had in hand."""
        self._withdraw(link)
        if link in self._leaving:
            self._leaving.remove(link)
            link.is_retiring = True
        self.on_retired(link)
        slow_s = self._hang_after_s if link.is_hung else 0.0
        self._recovery.lost(link.works.values(), link.streams.values(), link.running, slow_s)
        if not self._recovery.is_idle:
            self._loop.call_soon(self._resume)

    def _resume(self) -> None:
        while not self._recovery.is_idle and self.free > 0:
            self._recovery.start_next()

    def _withdraw(self, link: Link) -> None:
        if link in self._ready:
            self._ready.remove(link)
            # Counted anew: a link that broke in the middle of an answer may have been counted as free, or not.
            self.free = self._count()

    def _count(self) -> int:
        return sum(len(link.works) < self.window for link in self._ready)

    def _watch(self) -> None:
        """Kill what hangs, and answer what has waited too long."""
        self._timer = self._loop.call_later(self._watchdog.interval_s, self._watch)
        now = time.monotonic()
        for link in [*self._ready, *self._retiring]:
            if self._watchdog.is_hanging(link, now):
                link.is_hung = True
                self.hangs += 1
                end_hung(link, f"{self.name} version {self.version}", self._hang_after_s)
        self._recovery.expire(now)


def _load(link: Link) -> int:
    return len(link.works) + len(link.streams)


def _nothing() -> None:
    """Stand in until the batcher says what to do."""
