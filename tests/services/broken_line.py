"""A line to a PostgreSQL server that breaks around COMMIT: before it arrives, or after it was done and before the answer."""

import contextlib
import random
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SOCKET = ".s.PGSQL.5432"


class BrokenLine:
    """Listens in a folder and passes on what it hears; `breaks` of the commits break it."""

    def __init__(self, server: Path, folder: Path, seed: int) -> None:
        self.breaks = 0.0
        self.broken = 0
        self._server = server
        self._chance = random.Random(seed)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / SOCKET))
        self._listener.listen()
        self._lines: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._listener.close()
        for line in self._lines:
            line.join()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._lines.append(threading.Thread(target=self._pass_on, args=(client,)))
                self._lines[-1].start()

    def _pass_on(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as server:
            server.connect(str(self._server / SOCKET))
            while True:
                ready, _, _ = select.select([client, server], [], [])
                data = ready[0].recv(1 << 16)
                if not data:
                    return
                if ready[0] is client and b"COMMIT" in data and self._chance.random() < self.breaks:
                    self.broken += 1
                    if self._chance.random() < 0.5:
                        server.sendall(data)
                        server.recv(1 << 16)  # it is done, and the client will never hear of it
                    return
                (server if ready[0] is client else client).sendall(data)


@contextmanager
def broken_line(server: Path, folder: Path, seed: int) -> Iterator[BrokenLine]:
    """Lay a line in a folder that breaks when its `breaks` is set."""
    line = BrokenLine(server, folder, seed)
    try:
        yield line
    finally:
        line.close()
