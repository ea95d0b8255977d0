"""The replica process: one loaded version that answers what its worker asks, one thing at a time.

Started by `placement` with one end of a socket pair as its only connection; ends when that closes. It holds no port, no credential
and no other model, so what a model breaks or leaks is gone with the process.
"""

from __future__ import annotations

import logging
import select
import signal
import socket
import sys
import time
from collections import deque
from pathlib import Path

from limen.contracts.errors import DeadlineExceeded, LimenError, ModelFailed
from limen.packaging.decoder import read_manifest
from limen.runtime.binding import Binding
from limen.runtime.execution import load, run
from limen.runtime.placement.process import frames
from limen.runtime.placement.process.frames import Answer, Call, Cancel, Frames, Ready, Start
from limen.runtime.placement.trust import ensure_trusted
from limen.runtime.predictor import LoadedModel

LOG = logging.getLogger("limen.model")
_PIECE = 1 << 18


class Replica:
    """The answering loop over one socket."""

    def __init__(self, connection: socket.socket) -> None:
        """Talk over a connected stream socket."""
        self._connection = connection
        self._frames = Frames()
        self._waiting: deque[Call] = deque()
        self._cancelled: set[int] = set()
        self._current = 0
        self._out: list[bytes] = []

    def run(self) -> None:
        """Load what the worker names and answer until the connection ends."""
        start = self._read_start()
        try:
            model, binding, max_rows = _load(start)
        except LimenError as exc:
            self._say(frames.failure(0, exc))
            self._flush()
            return
        self._say(Ready(model.can_stream))
        self._flush()
        try:
            while self._receive(wait=not self._waiting):
                while self._waiting:
                    call = self._waiting.popleft()
                    if call.id in self._cancelled:
                        self._cancelled.discard(call.id)
                        continue
                    self._answer(call, model, binding, max_rows)
                # Everything asked in one go is answered in one write.
                self._flush()
        finally:
            model.close()

    def _answer(self, call: Call, model: LoadedModel, binding: Binding, max_rows: int) -> None:
        self._current = call.id
        try:
            if call.deadline_at <= time.monotonic():
                raise DeadlineExceeded
            if call.is_stream:
                self._stream(call, model, binding)
            else:
                outputs = run(model, binding, frames.tensors(call.inputs), call.parameters, call.rows, max_rows)
                self._say(Answer(call.id, frames.blocks(outputs)))
        except LimenError as exc:
            self._say(frames.failure(call.id, exc))
        except Exception as exc:  # whatever a model raises is the model's failure, and its text is not for callers
            LOG.warning("the model failed on a request", exc_info=exc)
            self._say(frames.failure(call.id, ModelFailed()))

    def _stream(self, call: Call, model: LoadedModel, binding: Binding) -> None:
        parts = model.stream(binding.pack(frames.tensors(call.inputs)), call.parameters)
        try:
            for part in parts:
                self._say(Answer(call.id, frames.blocks(binding.unpack(part, call.rows)), is_last=False))
                self._flush()
                self._receive(wait=False)
                if call.id in self._cancelled:
                    self._cancelled.discard(call.id)
                    return
                if call.deadline_at <= time.monotonic():
                    raise DeadlineExceeded
            self._say(Answer(call.id, []))
        finally:
            close = getattr(parts, "close", None)
            if close is not None:
                close()

    def _receive(self, *, wait: bool) -> bool:
        """Take in what the worker has sent; return False when it has gone."""
        while wait or select.select([self._connection], [], [], 0)[0]:
            data = self._connection.recv(_PIECE)
            if not data:
                return False
            for body in self._frames.feed(data):
                message = frames.decode_to_replica(body)
                if isinstance(message, Call):
                    self._waiting.append(message)
                    wait = False
                elif isinstance(message, Cancel) and self._is_open(message.id):
                    self._cancelled.add(message.id)
        return True

    def _is_open(self, call_id: int) -> bool:
        """Return whether a call is still to be answered; cancelling any other would be remembered for ever."""
        return call_id == self._current or any(call.id == call_id for call in self._waiting)

    def _read_start(self) -> Start:
        while True:
            data = self._connection.recv(_PIECE)
            if not data:
                sys.exit(0)
            for body in self._frames.feed(data):
                message = frames.decode_to_replica(body)
                if isinstance(message, Start):
                    return message

    def _say(self, message: frames.ToWorker) -> None:
        self._out.append(frames.frame(message))

    def _flush(self) -> None:
        if self._out:
            out, self._out = self._out, []
            self._connection.sendall(b"".join(out))


def _load(start: Start) -> tuple[LoadedModel, Binding, int]:
    root = Path(start.root)
    manifest = read_manifest(root)
    ensure_trusted(manifest, trust_code=start.trust_code)
    model, binding = load(root, manifest)
    return model, binding, manifest.contract.batching.max_rows


def main() -> None:
    """Run the replica on the socket whose descriptor is the first argument."""
    # A Ctrl-C on the terminal is for the worker, which ends this process in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    with socket.socket(fileno=int(sys.argv[1])) as connection:
        try:
            Replica(connection).run()
        except (BrokenPipeError, ConnectionResetError):
            return  # the worker has gone; nobody is left to answer


if __name__ == "__main__":
    main()
