"""The other end of the gate model (`packages.write_gate`), which holds its requests until a test lets them go."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.services.process import WAIT_S


class Gate:
    """Knows when a request is inside the model, and lets it out."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._inside: list[socket.socket] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._listener.settimeout(WAIT_S)

    def wait_for_request(self) -> None:
        """Return when a request is inside the model."""
        self._inside.append(self._listener.accept()[0])

    def open(self) -> None:
        """Let everything that is inside finish."""
        while self._inside:
            self._inside.pop().close()


@contextmanager
def gate_in(folder: Path) -> Iterator[Gate]:
    gate = Gate(folder / "gate.socket")
    try:
        yield gate
    finally:
        gate.open()
        gate._listener.close()
