"""The replica's end of one connection: splits a gateway's bytes into calls, and packs the answers.

Not here: running the model (`server`). Nothing here blocks: what the socket does not take waits until it does.
"""

from __future__ import annotations

import os
import socket
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

from limen.contracts.errors import LimenError
from limen.contracts.tensors import Array
from limen.runtime.placement.process.wire import frames
from limen.runtime.placement.process.wire.arena import Arena, Region
from limen.runtime.placement.process.wire.frames import HEADER, SIZE, BrokenFrame, Cutter, Outbox
from limen.runtime.placement.process.wire.layout import Layout, decode_layout
from limen.runtime.placement.process.wire.packer import NO_PARAMETERS, Packer

BACKLOG_BYTES = 1 << 20
"""Bytes that wait for a gateway to read them, above which nothing more is worked on for it."""


class Call:
    """What a gateway wants answered: one run for several requests, or one stream."""

    __slots__ = (
        "count",
        "credit",
        "deadline",
        "id",
        "inputs",
        "is_cancelled",
        "is_stream",
        "is_trial",
        "layout",
        "parts",
        "rows",
        "starts",
    )

    def __init__(
        self,
        call: int,
        layout: Layout,
        inputs: dict[str, Array],
        starts: list[int],
        deadline: float,
        *,
        is_stream: bool,
    ) -> None:
        self.id = call
        self.layout = layout
        self.inputs = inputs
        self.starts = starts
        """The first row of each request, and the end of the last."""
        self.count = len(starts) - 1
        self.rows = starts[-1]
        self.deadline = deadline
        self.is_stream = is_stream
        self.is_trial = False
        """Whether its rows were made up."""
        self.is_cancelled = False
        self.credit = 0
        """Parts that the gateway will take."""
        self.parts: Iterator[dict[str, Array]] | None = None
        """What the model gives, once the stream has begun."""


class Channel:
    """One connected gateway."""

    def __init__(self, connection: socket.socket, number: int) -> None:
        """Take over a connected socket that does not block; its first bytes are the gateway's hello."""
        self.socket = connection
        self.number = number
        self.waiting: deque[Call] = deque()
        """Calls to be worked on, a little each turn."""
        self.calls: dict[int, Call] = {}
        """Calls that have not been answered."""
        self.out: list[bytes] = []
        self._outbox = Outbox()
        self._cutter = Cutter()
        self._layouts: dict[int, Layout] = {}
        self._inputs: Arena | None = None
        self._packer = Packer(None)
        self._written: deque[Sequence[Region]] = deque()
        self._taken = 0
        self._kept: list[tuple[int, list[Array]]] = []

    def greet(self, status: int | None, *, traits: int, identity: bytes) -> bool:
        """Read the gateway's hello and answer it with the descriptor of the status page; return whether it wants what is loaded here.

        Raises:
            BrokenFrame: no hello of this version.
        """
        hello, descriptors, _, _ = socket.recv_fds(self.socket, frames.HELLO.size, 2)
        try:
            if len(hello) != frames.HELLO.size:
                raise BrokenFrame("no hello")
            magic, inputs, outputs, wanted = frames.HELLO.unpack(hello)
            if magic != frames.MAGIC:
                raise BrokenFrame("a hello of another version")
            if len(descriptors) == 2:
                self._inputs = Arena(descriptors[0], inputs, is_reader=True)
                self._packer = Packer(Arena(descriptors[1], outputs))
        except (OSError, ValueError) as exc:
            raise BrokenFrame("shared memory that cannot be mapped") from exc
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        welcome = frames.WELCOME.pack(frames.MAGIC, self.number, os.getpid(), traits, identity)
        socket.send_fds(self.socket, [welcome], [] if status is None else [status])
        return bool(wanted == identity)

    def receive(self) -> bool:
        """Take in what has come; return False when the gateway has gone.

        Raises:
            BrokenFrame: what has come is no frame.
        """
        try:
            data = self.socket.recv(self._cutter.wanted)
        except BlockingIOError:
            return True
        if not data:
            return False
        for buffer, start, end in self._cutter.feed(data):
            self._take(buffer, start, end)
        return True

    def _take(self, data: bytes, start: int, end: int) -> None:
        _, kind, flags, layout_number, call_id, _, count, rows, deadline = HEADER.unpack_from(data, start)
        start += SIZE
        if kind in (frames.BATCH, frames.STREAM):
            layout = self._layouts.get(layout_number)
            if layout is None or not layout.is_batched or call_id in self.calls or not count:
                raise BrokenFrame("a call that cannot be")
            starts = [0, rows]
            if count > 1:
                starts, start = _starts(data, start, end, count, rows)
            inputs = layout.unpack(data, start, end, rows, flags, self._inputs)
            call = Call(call_id, layout, inputs, starts, deadline, is_stream=kind == frames.STREAM)
            call.is_trial = bool(flags & frames.TRIAL)
            self.calls[call_id] = call
            self.waiting.append(call)
        elif kind == frames.LAYOUT:
            self._layouts[layout_number] = decode_layout(data[start:end])
        elif kind == frames.CANCEL:
            if (found := self.calls.get(call_id)) is not None:
                found.is_cancelled = True
                self._wake(found)
        elif kind == frames.CREDIT:
            if (found := self.calls.get(call_id)) is not None:
                found.credit += count
                self._wake(found)
        else:
            raise BrokenFrame("a kind of frame that no gateway sends")

    def _wake(self, call: Call) -> None:
        if call.is_stream and call not in self.waiting:
            self.waiting.append(call)

    # -- what goes back ------------------------------------------------------------------------------------------------

    def answer(self, call: Call, first: int, count: int, outputs: dict[str, Array], seconds: float) -> None:
        """Queue the outputs of the requests from `first` on.

        Raises:
            LimenError: outputs that cannot travel.
        """
        rows = call.starts[first + count] - call.starts[first]
        self._pack(frames.ANSWER, call, outputs, rows, first=first, count=count, seconds=seconds)

    def part(self, call: Call, outputs: dict[str, Array]) -> None:
        """Queue one answer of a stream.

        Raises:
            LimenError: outputs that cannot travel.
        """
        lengths = {len(array) if array.ndim else -1 for array in outputs.values()}
        if len(lengths) == 1 and -1 not in lengths:
            self._pack(frames.PART, call, outputs, lengths.pop())
        else:
            self._pack(frames.PART, call, outputs, 1, is_batched=False)

    def fail(self, call: Call, first: int, exc: LimenError, *, is_last: bool = False) -> None:
        """Queue why one request has no answer."""
        flags = frames.LAST_WORDS if is_last else 0
        self.out.append(
            frames.text_frame(frames.FAILURE, frames.encode_error(exc), call=call.id, flags=flags, first=first)
        )

    def finish(self, call: Call) -> None:
        """Forget a call whose last answer is queued, and give back the shared memory of its inputs.

        A model may keep its inputs. Then their memory is given back once it has let go of them.
        """
        del self.calls[call.id]
        arena = self._inputs
        if arena is not None:
            shared = [array for array in call.inputs.values() if arena.holds(array)]
            if shared:
                self._kept.append((call.id, shared))
        call.inputs = {}
        call.parts = None
        if self._kept:
            self._release()

    def _release(self) -> None:
        kept = []
        for call_id, arrays in self._kept:
            # The list, the loop's name and the function's argument; whatever is more belongs to the model.
            if all(sys.getrefcount(array) <= 3 for array in arrays):
                self.out.append(frames.frame(frames.RELEASE, call_id))
            else:
                kept.append((call_id, arrays))
        self._kept = kept

    def flush(self) -> bool:
        """Send what is queued in one go; return whether everything went.

        Raises:
            OSError: the gateway has gone.
        """
        out = self.out
        data = b"" if not out else out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        return self._outbox.send(self.socket, data)

    @property
    def is_open(self) -> bool:
        """Whether the gateway takes what is sent, so that more can be worked on for it."""
        return self._outbox.size < BACKLOG_BYTES

    def _pack(
        self,
        kind: int,
        call: Call,
        outputs: dict[str, Array],
        rows: int,
        *,
        first: int = 0,
        count: int = 1,
        seconds: float = 0.0,
        is_batched: bool = True,
    ) -> None:
        packer = self._packer
        if self._written and packer.arena is not None:
            # Take back the places of answers that the gateway has taken out.
            taken = packer.arena.taken
            while self._taken < taken and self._written:
                packer.free(self._written.popleft())
                self._taken += 1
        data, regions = packer.pack(
            kind,
            (outputs,),
            NO_PARAMETERS,
            call=call.id,
            first=first,
            count=count,
            rows=rows,
            time=seconds,
            is_batched=is_batched,
        )
        self.out.append(data)
        if regions:
            self._written.append(regions)


def _starts(data: bytes, start: int, end: int, count: int, rows: int) -> tuple[list[int], int]:
    """Return the first row of each request and the end of the last, and where the tensors begin."""
    size = 4 * count + 7 & ~7
    if size > end - start:
        raise BrokenFrame("a batch without its rows")
    starts: list[Any] = [0]
    total = 0
    for number in memoryview(data)[start : start + 4 * count].cast("I"):
        total += number
        starts.append(total)
    if total != rows:
        raise BrokenFrame("a batch of another number of rows")
    return starts, start + size
