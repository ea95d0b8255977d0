"""The gateway's end of one connection to a replica: connects, sends requests, receives answers and reconnects.

Not an asyncio transport: what is written leaves at once, so that a replica has its next batch before the answers to the last one
are unpacked. Nothing here blocks. Not here: who is sent where and what happens to work that was lost (`pool`, behind `Owner`).
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections import deque
from collections.abc import Sequence
from typing import Final, Protocol

from limen.contracts.errors import LimenError
from limen.contracts.inference import InferenceRequest
from limen.contracts.tensors import Array
from limen.runtime.context import with_context
from limen.runtime.placement.process.pool.work import WINDOW_PARTS, Stream, Work
from limen.runtime.placement.process.wire import frames
from limen.runtime.placement.process.wire.arena import Arena, Region, StatusPage
from limen.runtime.placement.process.wire.frames import HEADER, SIZE, BrokenFrame, Cutter, Outbox
from limen.runtime.placement.process.wire.handshake import Welcome, dial, say_hello, take_welcome
from limen.runtime.placement.process.wire.layout import Layout, decode_layout
from limen.runtime.placement.process.wire.packer import Packer

LOG = logging.getLogger("limen.runtime")
MIN_RETRY_S: Final = 0.02
MAX_RETRY_S: Final = 0.5
"""The longest pause between two attempts to connect: a replica that comes back is used within this time."""
RECENT: Final = 256
"""Batches whose times say how long one may take."""
_LAST_CALL: Final = (1 << 32) - 1


class Owner(Protocol):
    """What a link tells its pool."""

    def on_ready(self, link: Link) -> None:
        """Use it from now on."""

    def on_freed(self, link: Link) -> None:
        """Give it the next batch: it has answered one, whose outcomes follow in `on_answered`."""

    def on_answered(self, work: Work) -> None:
        """Hand over the outcomes of a batch; all are there."""

    def on_last_words(self, request: InferenceRequest) -> None:
        """Remember the request on which the model ran out of memory."""

    def on_retired(self, link: Link) -> None:
        """Forget it: it was not wanted any more and has nothing left to do."""

    def on_lost(self, link: Link) -> None:
        """Take back what it had in hand: `works`, `streams` and `running` still tell."""


class Link:
    """One replica, as long as its path is wanted."""

    def __init__(
        self, path: str, owner: Owner, loop: asyncio.AbstractEventLoop, name: str, version: str, digest: str
    ) -> None:
        """Prepare to connect to the socket at `path`; names go into the answers, and only a replica that has loaded just this is used."""
        self.path = path
        self.works: dict[int, Work] = {}
        self.streams: dict[int, Stream] = {}
        self.is_ready = False
        self.is_retiring = False
        """Gets no new work and closes when it has none."""
        self.can_stream = self.mixes_rows = self.wants_context = False
        self.pid = 0
        self.is_hung = False
        """Whether it was killed because it did not go on."""
        self.times: deque[float] = deque(maxlen=RECENT)
        """Seconds of the latest batches, from here and back."""
        self.status: StatusPage | None = None
        self.number = 0
        self._owner = owner
        self._loop = loop
        self._name = name
        self._version = version
        self._identity = frames.identity(version, digest)
        self._stranger = 0
        """The process that listens here and has loaded something else; it is told of once."""
        self._socket: socket.socket | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._pause = MIN_RETRY_S
        self._is_closed = False
        self._reset()

    def _reset(self) -> None:
        self._calls = 0
        self._cutter = Cutter()
        self._outbox = Outbox()
        self._packer = Packer(None)
        self._layouts: dict[int, Layout] = {}
        self._outputs: Arena | None = None
        self._taken = 0
        self._shared: dict[int, Sequence[Region]] = {}

    @property
    def running(self) -> int:
        """The call of this link that the replica has in hand, also after it has died; 0 when none, -1 when it does not tell."""
        if self.status is None:
            return -1
        connection, call, _ = self.status.read()
        return call if connection == self.number else 0

    # -- connecting ----------------------------------------------------------------------------------------------------

    def connect(self) -> None:
        """Try to connect now, and again until it is closed."""
        self._timer = None
        try:
            self._socket = connection = dial(self.path)
            inputs, self._outputs = say_hello(connection, self._identity)
        except OSError:
            # Not there yet, or not any more.
            self._disconnect()
            self._again()
            return
        self._packer = Packer(inputs)
        # The replica answers when it has time; until then it is not waited for.
        self._loop.add_reader(connection.fileno(), self._welcome)

    def _welcome(self) -> None:
        connection = self._socket
        if connection is None:
            return
        try:
            found = take_welcome(connection)
        except BlockingIOError:
            return
        except (BrokenFrame, OSError, ValueError) as exc:
            LOG.debug("a replica did not welcome this gateway", exc_info=exc)
            self._lose()
            return
        if found.identity != self._identity:
            self._refuse(found)
            return
        self.number, self.pid, self.can_stream, self.mixes_rows, self.wants_context, _, self.status = found
        self._pause = MIN_RETRY_S
        self._loop.add_reader(connection.fileno(), self._receive)
        self.is_ready = True
        self._owner.on_ready(self)

    def _refuse(self, found: Welcome) -> None:
        """Leave a replica that has loaded something else: its answers would be given as those of this version."""
        if found.pid != self._stranger:
            self._stranger = found.pid
            loaded = found.identity.rstrip(b"\0").decode(errors="replace")
            told = self._name, self._version, found.pid, loaded
            LOG.error("%s version %s: process %d has loaded %s and is not used", *told)
        self._lose()

    def _again(self) -> None:
        if not self._is_closed and not self.is_retiring:
            self._timer = self._loop.call_later(self._pause, self.connect)
            self._pause = min(self._pause * 1.5, MAX_RETRY_S)

    def _disconnect(self) -> None:
        connection, self._socket = self._socket, None
        if connection is not None:
            self._loop.remove_reader(connection.fileno())
            self._loop.remove_writer(connection.fileno())
            connection.close()

    def _lose(self) -> None:
        """Give back what the replica had, and try to connect again."""
        self._disconnect()
        was_ready, self.is_ready = self.is_ready, False
        if was_ready:
            self._owner.on_lost(self)
        self.works.clear()
        self.streams.clear()
        self.status = None
        self.is_hung = False
        self._reset()
        self._again()

    def retire(self) -> None:
        """Take no more work, and close when there is none left."""
        self.is_retiring = True
        self._close_if_done()

    def close(self) -> None:
        """Disconnect for good; what is in hand is not given back. Idempotent."""
        self._is_closed = True
        self.is_ready = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._disconnect()
        self._reset()

    # -- what goes out -------------------------------------------------------------------------------------------------

    def send(self, work: Work) -> None:
        """Have a batch run.

        Raises:
            LimenError: it cannot travel. Nothing was sent then.
        """
        batch = work.batch
        # Part of it may have been answered before another replica ended.
        work.results = []
        work.missing = len(batch)
        rows = [request.rows for request in batch]
        work.rows = sum(rows)
        work.call = self._begin(frames.BATCH, batch, rows, work.rows, work.deadline.at)
        work.link = self
        work.sent_at = time.monotonic()
        self.works[work.call] = work

    def open(self, stream: Stream, deadline_at: float) -> None:
        """Have a request answered in parts.

        Raises:
            LimenError: it cannot travel. Nothing was sent then.
        """
        rows = stream.request.rows
        stream.call = self._begin(frames.STREAM, (stream.request,), [rows], rows, deadline_at)
        stream.link = self
        self.streams[stream.call] = stream
        self.credit(stream.call, WINDOW_PARTS)

    def cancel(self, call: int) -> None:
        """Tell the replica that nobody waits for a call any more; it still says when it is over."""
        if call in self.works or call in self.streams:
            self._write(frames.frame(frames.CANCEL, call))

    def credit(self, call: int, parts: int) -> None:
        """Let the replica send more parts of a stream."""
        if call in self.streams:
            self._write(frames.frame(frames.CREDIT, call, count=parts))

    def _begin(
        self, kind: int, batch: Sequence[InferenceRequest], rows: list[int], total: int, deadline_at: float
    ) -> int:
        call = self._calls % _LAST_CALL + 1
        data, regions = self._packer.pack(
            kind,
            [request.inputs for request in batch],
            with_context(batch[0], self._version) if self.wants_context else batch[0].parameters,
            call=call,
            first=0,
            count=len(batch),
            rows=total,
            time=deadline_at,
            row_counts=rows if len(batch) > 1 else (),
            is_trial=batch[0].is_trial,
        )
        self._calls = call
        if regions:
            self._shared[call] = regions
        self._write(data)
        return call

    def _write(self, data: bytes) -> None:
        connection = self._socket
        if connection is not None:
            try:
                if not self._outbox.send(connection, data):
                    self._loop.add_writer(connection.fileno(), self._write_more)
            except OSError:
                # The end will be read, after the answers that came before it.
                return

    def _write_more(self) -> None:
        connection = self._socket
        if connection is not None:
            try:
                if self._outbox.send(connection):
                    self._loop.remove_writer(connection.fileno())
            except OSError:
                self._loop.remove_writer(connection.fileno())

    # -- what comes in -------------------------------------------------------------------------------------------------

    def _receive(self) -> None:
        connection = self._socket
        if connection is None:
            return
        try:
            data = connection.recv(self._cutter.wanted)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lose()
            return
        try:
            for buffer, start, end in self._cutter.feed(data):
                self._take(buffer, start, end)
                if self._socket is not connection:
                    return
        except Exception as exc:  # whatever was sent, the link does not stay as it is
            LOG.warning("a replica is disconnected: it sent %s", exc, exc_info=not isinstance(exc, BrokenFrame))
            self._lose()

    def _take(self, data: bytes, start: int, end: int) -> None:
        _, kind, flags, number, call, first, count, rows, _ = HEADER.unpack_from(data, start)
        start += SIZE
        if kind == frames.ANSWER:
            self._answer(data, start, end, flags, number, call, first, count, rows)
        elif kind == frames.LAYOUT:
            self._layouts[number] = decode_layout(data[start:end])
        elif kind == frames.RELEASE:
            self._packer.free(self._shared.pop(call, ()))
        elif kind == frames.FAILURE:
            self._fail(call, first, frames.decode_error(data[start:end]), flags)
        elif kind == frames.PART and call in self.streams:
            self.streams[call].part(self._unpack(data, start, end, rows, flags, number))
        elif kind == frames.END and call in self.streams:
            self.streams.pop(call).end()
            self._close_if_done()
        else:
            raise BrokenFrame("a kind of frame that no replica sends")

    def _answer(
        self, data: bytes, start: int, end: int, flags: int, number: int, call: int, first: int, count: int, rows: int
    ) -> None:
        work = self.works.get(call)
        if work is None:
            raise BrokenFrame("an answer to nothing")
        batch = work.batch
        is_whole = count == len(batch)
        if not is_whole:
            batch = batch[first : first + count]
        if (
            count < 1
            or len(batch) != count
            or (is_whole and first)
            or rows != (work.rows if is_whole else sum(request.rows for request in batch))
        ):
            raise BrokenFrame("an answer to other requests")
        if count == work.missing:
            self._end(work)
            self._owner.on_freed(self)
        try:
            outputs = self._unpack(data, start, end, rows, flags, number)
        except BrokenFrame:
            self.works[call] = work
            raise
        work.answer(first, batch, outputs, self._name, self._version)
        if work.missing == 0:
            self._owner.on_answered(work)
            self._close_if_done()

    def _fail(self, call: int, first: int, error: LimenError, flags: int) -> None:
        work, stream = self.works.get(call), self.streams.get(call)
        if work is not None and first < len(work.batch):
            request = work.batch[first]
        elif work is None and stream is not None:
            request = stream.request
        else:
            raise BrokenFrame("a failure of nothing")
        if error.incident and not request.is_trial:
            told = self._name, self._version, request.label, error.incident
            LOG.warning("%s version %s failed on request %s (incident %s)", *told)
        if flags & frames.LAST_WORDS:
            self._owner.on_last_words(request)
        if work is None:
            self.streams.pop(call).end(error)
        else:
            work.settle(first, [error])
            if work.missing == 0:
                self._end(work)
                self._owner.on_freed(self)
                self._owner.on_answered(work)
        self._close_if_done()

    def _end(self, work: Work) -> None:
        """Count a batch as over: the replica has nothing more to do for it."""
        del self.works[work.call]
        work.link = None
        self.times.append(time.monotonic() - work.sent_at)

    def _close_if_done(self) -> None:
        if self.is_retiring and not self.works and not self.streams:
            self.close()
            self._owner.on_retired(self)

    def _unpack(self, data: bytes, start: int, end: int, rows: int, flags: int, number: int) -> dict[str, Array]:
        layout = self._layouts.get(number)
        if layout is None:
            raise BrokenFrame("a layout that was not told")
        arena = self._outputs
        found = layout.unpack(data, start, end, rows, flags, arena)
        if flags & frames.SHARED and arena is not None:
            # Copied once, so that the replica may use the place again.
            found = {name: array.copy() if arena.holds(array) else array for name, array in found.items()}
            self._taken += 1
            arena.taken = self._taken
        return found
