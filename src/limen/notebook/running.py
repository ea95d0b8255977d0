"""A server next to a notebook: a separate `limen serve` process that ends with the notebook."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
import threading
import time
import weakref
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import msgspec

from limen.contracts.errors import Unavailable
from limen.runtime.sandbox import child
from limen.runtime.sandbox.child import python
from limen.serving.supervision.ports import Announcement

if TYPE_CHECKING:
    from limen.client.answers import Answer
    from limen.client.inference import Inputs

START_S: Final = 300.0
STOP_S: Final = 30.0
MAX_LINES: Final = 200
"""Of what a server says; enough for the reason why it does not start."""
_LOOK_S: Final = 0.05


class RunningServer:
    """A server that `PackagedModel.serve` has started. Use it in a `with` block, or call `stop`."""

    def __init__(self, model: str, announced: Announcement, process: subprocess.Popen[bytes]) -> None:
        """Take a process that is ready."""
        self.url = f"http://{announced.http}"
        self.grpc = announced.grpc
        self._model = model
        self._stop = weakref.finalize(self, _end, process)

    def __repr__(self) -> str:
        """Say where it is."""
        return f"{self._model} at {self.url} (docs: {self.url}/docs), gRPC {self.grpc}"

    def __enter__(self) -> Self:
        """Give the server for the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        self.stop()

    def predict(self, rows: Inputs) -> Answer:
        """Return the answer to one record, a list of records, columns by name, or a data frame; see `limen.client.Client`."""
        from limen.client import Client

        with Client(self.url) as client:
            return client.predict(self._model, rows)

    def stop(self) -> None:
        """End the server; requests that it works on are answered first."""
        self._stop()


def start(model: str, package: Path, home: Path, *, http_port: int, grpc_port: int, trust_code: bool) -> RunningServer:
    """Start a server of one package, and return it once it answers.

    Raises:
        Unavailable: it did not start; the text is what it said.
    """
    with tempfile.TemporaryDirectory(prefix="limen-serve-") as place:
        announcement = Path(place) / "ready.json"
        command = [*python("limen.cli"), "serve", str(package), "--home", str(home), "--watch"]
        command += ["--http-port", str(http_port), "--grpc-port", str(grpc_port), "--metrics-port", "0"]
        command += ["--announce", str(announcement), *(["--trust-code"] if trust_code else [])]
        process = child.start(command, stderr=subprocess.STDOUT)
        said: deque[bytes] = deque(maxlen=MAX_LINES)
        listener = threading.Thread(target=_listen, args=(process, said), daemon=True)
        listener.start()
        end = time.monotonic() + START_S
        while not announcement.exists():
            if process.poll() is not None or time.monotonic() > end:
                _end(process)
                listener.join(STOP_S)
                raise Unavailable("the server did not start: " + b"".join(said).decode(errors="replace").strip())
            time.sleep(_LOOK_S)
        announced = msgspec.json.decode(announcement.read_bytes(), type=Announcement)
    return RunningServer(model, announced, process)


def _listen(process: subprocess.Popen[bytes], said: deque[bytes]) -> None:
    """Read what the server says, so that it never waits for a reader; the last lines are kept."""
    if process.stdout is not None:
        with process.stdout as lines:
            said.extend(lines)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        process.stdin.close()
    with contextlib.suppress(OSError):
        process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
