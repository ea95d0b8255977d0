"""The replica's loop: takes calls from all gateways and runs one at a time, in turn.

A turn is one batch, or one part of a stream; whoever streams lets the others in between. Everything that a turn gives leaves in one
write. Not here: frames (`channel`) and starting (`replica`).
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import socket
import time
from collections import deque
from typing import Final, NamedTuple

from limen.contracts.errors import Cancelled, DeadlineExceeded, InvalidOutput, LimenError, ModelFailed
from limen.contracts.tensors import Array
from limen.runtime.binding.binding import Binding
from limen.runtime.execution import log_failure, run
from limen.runtime.placement.process.replica.channel import Call, Channel
from limen.runtime.placement.process.wire import frames
from limen.runtime.placement.process.wire.arena import StatusPage, create_memory, seal
from limen.runtime.placement.process.wire.frames import BrokenFrame
from limen.runtime.placement.process.wire.start import OOM_STATUS, Ready
from limen.runtime.predictor import LoadedModel
from limen.runtime.sandbox.allocator import QUIET_S, Bursts, trim

LOG = logging.getLogger("limen.model")
LAST_FLUSH_S: Final = 1.0
"""How long an ending replica waits for gateways to read their answers."""
_RESERVE_BYTES: Final = 1 << 20
_QUIET_MS: Final = round(QUIET_S * 1000)


class Loaded(NamedTuple):
    """The version that is served."""

    model: LoadedModel
    binding: Binding
    max_rows: int
    identity: bytes
    """Which version it is, see `frames.identity`."""
    label: str
    """What the log calls it."""


class Server:
    """Answers the gateways that connect to a listening socket."""

    def __init__(self, loaded: Loaded, listener: socket.socket, ready: Ready) -> None:
        """Take over a loaded model and a listening socket that does not block."""
        self.ready = ready
        self._model, self._binding, self._max_rows, self._identity, self._label = loaded
        self._incidents = 0
        self._listener = listener
        self._poll = select.poll()
        self._channels: dict[int, Channel] = {}
        self._turns: deque[Channel] = deque()
        self._numbers = 0
        self._status, self._status_file = _status_page()
        # Given up when memory runs out, so that there is enough to say so.
        self._reserve: bytearray | None = bytearray(_RESERVE_BYTES)
        self._is_out_of_memory = False

    def run(self, parent: int, stop: socket.socket) -> None:
        """Serve until `parent` closes or `stop` can be read; then close the model."""
        listening = self._listener.fileno()
        poll = self._poll
        for descriptor in (listening, parent, stop.fileno()):
            poll.register(descriptor, select.POLLIN)
        channels, turns = self._channels, self._turns
        bursts, has_worked = Bursts(), False
        try:
            while True:
                ready = poll.poll(0 if turns else _QUIET_MS if has_worked else None)
                if not ready and not turns:
                    # Quiet for long enough to give back what the last burst took, and to sleep until there is work.
                    has_worked = False
                    if bursts.are_over(QUIET_S, is_busy=False):
                        trim()
                        bursts.settle()
                for descriptor, event in ready:
                    channel = channels.get(descriptor)
                    if channel is not None:
                        self._attend(channel, event)
                    elif descriptor == listening:
                        self._accept()
                    else:
                        return
                if turns:
                    has_worked = True
                    self._turn(turns.popleft())
        finally:
            self._end()

    # -- connections ---------------------------------------------------------------------------------------------------

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionError):
            connection, _ = self._listener.accept()
            connection.setblocking(False)
            self._numbers += 1
            channel = Channel(connection, -self._numbers)
            self._channels[connection.fileno()] = channel
            self._poll.register(connection.fileno(), select.POLLIN)

    def _attend(self, channel: Channel, event: int) -> None:
        """Take in what a gateway has sent, and send it what has been waiting."""
        try:
            if event & select.POLLOUT and channel.flush():
                self._poll.modify(channel.socket.fileno(), select.POLLIN)
            if event & ~select.POLLOUT:
                if channel.number < 0:
                    channel.number = -channel.number
                    if not channel.greet(self._status_file, traits=_traits(self._model), identity=self._identity):
                        # It has been told what is loaded here, and says so; its requests are not answered.
                        self._drop(channel)
                        return
                elif not channel.receive():
                    self._drop(channel)
                    return
        except (BrokenFrame, OSError) as exc:
            if isinstance(exc, BrokenFrame):
                LOG.warning("a gateway is disconnected: it sent %s", exc)
            self._drop(channel)
            return
        if channel.waiting and channel.is_open and channel not in self._turns:
            self._turns.append(channel)

    def _drop(self, channel: Channel) -> None:
        """Forget a gateway and everything it wanted."""
        self._poll.unregister(channel.socket.fileno())
        del self._channels[channel.socket.fileno()]
        channel.socket.close()
        if channel in self._turns:
            self._turns.remove(channel)
        channel.waiting.clear()
        for call in channel.calls.values():
            _close_parts(call)

    # -- turns ---------------------------------------------------------------------------------------------------------

    def _turn(self, channel: Channel) -> None:
        """Work on the next call of one gateway and send what it gives."""
        call = channel.waiting.popleft()
        status = self._status
        if status is not None:
            status.begin(channel.number, call.id)
        if call.is_stream:
            self._continue(channel, call)
        else:
            if call.is_cancelled:
                self._fail_all(channel, call, Cancelled())
            elif call.deadline <= time.monotonic():
                self._fail_all(channel, call, DeadlineExceeded())
            else:
                self._answer(channel, call, 0, call.count)
            channel.finish(call)
        if status is not None:
            status.end()
        try:
            is_sent = channel.flush()
        except OSError:
            self._drop(channel)
            return
        if self._is_out_of_memory:
            self._die_of_memory()
        if not is_sent:
            self._poll.modify(channel.socket.fileno(), select.POLLIN | select.POLLOUT)
        if channel.waiting and channel.is_open:
            self._turns.append(channel)

    def _answer(self, channel: Channel, call: Call, first: int, count: int) -> None:
        """Run the requests from `first` on; when the run breaks, run its halves, so that what broke it fails alone."""
        inputs = call.inputs
        start, stop = call.starts[first], call.starts[first + count]
        if stop - start != call.rows:
            inputs = {name: array[start:stop] for name, array in inputs.items()}
        began = time.perf_counter()
        try:
            outputs = run(self._model, self._binding, inputs, call.layout.parameters, stop - start, self._max_rows)
            _check_rows(outputs, stop - start)
            channel.answer(call, first, count, outputs, time.perf_counter() - began)
        except Exception as exc:  # noqa: BLE001 - whatever a model raises is its failure; the text is not for callers
            if count == 1:
                self._fail(channel, call, first, exc)
                return
        else:
            return
        half = count // 2
        self._answer(channel, call, first, half)
        self._answer(channel, call, first + half, count - half)

    def _continue(self, channel: Channel, call: Call) -> None:
        """Give the next part of a stream, if the gateway takes one."""
        try:
            if call.is_cancelled:
                raise Cancelled
            if call.deadline <= time.monotonic():
                raise DeadlineExceeded
            if call.parts is None:
                call.parts = iter(self._model.stream(self._binding.pack(call.inputs), call.layout.parameters))
            if call.credit == 0:
                return
            part = next(call.parts, None)
            if part is not None:
                channel.part(call, self._binding.unpack(part, call.rows))
                call.credit -= 1
                channel.waiting.append(call)
                return
            channel.out.append(frames.frame(frames.END, call.id))
        except Exception as exc:  # noqa: BLE001 - as above
            self._fail(channel, call, 0, exc)
        _close_parts(call)
        channel.finish(call)

    def _fail(self, channel: Channel, call: Call, index: int, exc: Exception) -> None:
        """Say that one request failed."""
        if _is_out_of_memory(exc):
            self._reserve = None
            self._is_out_of_memory = True
            LOG.error("%s ran out of memory; the replica ends", self._label)
            channel.fail(call, index, ModelFailed(), is_last=True)
        elif isinstance(exc, LimenError) and exc.__cause__ is None:
            channel.fail(call, index, exc)
        else:
            failed = exc if isinstance(exc, LimenError) else ModelFailed()
            self._incidents += 1
            # The gateway knows which request it is, and says so under the same name.
            failed.incident = f"{os.getpid()}-{self._incidents}"
            if not call.is_trial:
                log_failure(self._label, f"a request (incident {failed.incident})", exc)
            channel.fail(call, index, failed)

    def _fail_all(self, channel: Channel, call: Call, exc: LimenError) -> None:
        for index in range(call.count):
            channel.fail(call, index, exc)

    # -- the end -------------------------------------------------------------------------------------------------------

    def _end(self) -> None:
        """Say what is left to be said, and close the model."""
        self._listener.close()
        self._flush_all()
        for channel in list(self._channels.values()):
            self._drop(channel)
        self._model.close()

    def _flush_all(self) -> None:
        until = time.monotonic() + LAST_FLUSH_S
        for channel in list(self._channels.values()):
            with contextlib.suppress(OSError):
                channel.socket.settimeout(LAST_FLUSH_S)
                while not channel.flush() and time.monotonic() < until:
                    pass

    def _die_of_memory(self) -> None:
        """End at once: a model that has met its limit will meet it again, and its own clean-up may need memory."""
        self._flush_all()
        os._exit(OOM_STATUS)


def _traits(model: LoadedModel) -> int:
    found = frames.CAN_STREAM * model.can_stream | frames.MIXES_ROWS * bool(model.mixes_rows)
    return found | frames.WANTS_CONTEXT * model.wants_context


def _status_page() -> tuple[StatusPage | None, int | None]:
    try:
        descriptor = create_memory(StatusPage.SIZE)
        page = StatusPage(descriptor, is_reader=False)
        seal(descriptor, against_writing=True)
    except OSError:
        return None, None
    return page, descriptor


def _check_rows(outputs: dict[str, Array], rows: int) -> None:
    for name, array in outputs.items():
        if array.ndim == 0 or len(array) != rows:
            raise InvalidOutput(f"the model's output {name} must have one row for each row of the request")


def _is_out_of_memory(exc: BaseException | None) -> bool:
    """Return whether memory ran out somewhere behind this error; native libraries have words of their own for it."""
    while exc is not None:
        if isinstance(exc, MemoryError) or "bad_alloc" in str(exc) or "bad allocation" in str(exc):
            return True
        exc = exc.__cause__
    return False


def _close_parts(call: Call) -> None:
    """Let a stream's own clean-up run."""
    close = getattr(call.parts, "close", None)
    call.parts = None
    if close is not None:
        try:
            close()
        except Exception as exc:  # nobody is left to tell
            LOG.warning("a stream could not be closed", exc_info=exc)
