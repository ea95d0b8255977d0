"""Steps of `limen serve` before it starts a process: refuse unsafe settings, reserve its ports, and announce them.

Called by `limen.app`. It imports nothing heavy, because the process that starts the others stays small.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import msgspec

from limen.storage.files import write_whole


class ServeError(Exception):
    """The server cannot start: what happened, and what to do."""

    def __init__(self, what: str, hint: str = "") -> None:
        """Keep a text for people and a hint about the next step."""
        super().__init__(what)
        self.what = what
        self.hint = hint


class Announcement(msgspec.Struct, frozen=True):
    """What `--announce` writes: where a server is."""

    http: str
    """host:port"""
    grpc: str
    """host:port"""
    metrics: str
    """host:port"""
    pid: int
    admin: str = ""
    """host:port of the management API; empty for a server of packages."""


def check_exposure(host: str) -> None:
    """Refuse to listen where strangers can connect, as long as callers cannot be authenticated."""
    try:
        is_loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_loopback = host == "localhost"
    if not is_loopback:
        raise ServeError(
            f"refusing to listen on {host}: anyone who can reach this machine could call the models, because this version of "
            "Limen cannot authenticate callers yet",
            "Use --host 127.0.0.1 and put a reverse proxy that authenticates in front; it must send `Host: localhost`.",
        )


def reserve(host: str, port: int, option: str) -> socket.socket:
    """Return a bound socket that holds a port for other processes without accepting anything.

    Args:
        host: address to listen on.
        port: the port; 0 for a free one.
        option: what of the command line says which port.

    Raises:
        ServeError: the address cannot be used or somebody listens there.
    """
    address = (host, port)
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        if port:
            # Without SO_REUSEPORT first: with it, a second server on the same port would start unnoticed.
            with socket.socket(family) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
        held = shared_socket(family)
        held.bind(address)
    except OSError as exc:
        why = "Another program listens there; choose" if exc.errno == errno.EADDRINUSE else "Choose"
        hint = f"{why} another port with {option}, or 0 for a free one." if port else ""
        raise ServeError(f"cannot listen on {host}:{port} ({option}): {exc.strerror or exc}", hint) from exc
    return held


def shared_socket(family: int) -> socket.socket:
    """Return an unbound socket whose address several processes may share."""
    found = socket.socket(family)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    return found


def shared_listener(host: str, port: int) -> socket.socket:
    """Return a bound socket on a port that this server holds; listening on it is left to whoever serves."""
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    found = shared_socket(family)
    found.bind((host, port))
    found.setblocking(False)
    return found


def shown_address(host: str, port: int) -> str:
    """Return host:port as it stands in a URL."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def announce(path: Path, announcement: Announcement) -> None:
    """Write the real addresses for other programs, whole or not at all."""
    with _announcing(path):
        write_whole(path, msgspec.json.encode(announcement), is_private=False)


def forget_announcement(path: str) -> None:
    """Remove what an earlier server announced, so that the file is there only once this one is ready.

    Raises:
        ServeError: nothing can be announced there; better said before the models are loaded.
    """
    if path:
        with _announcing(Path(path)):
            Path(path).unlink(missing_ok=True)
            if not Path(path).parent.is_dir():
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))


@contextlib.contextmanager
def _announcing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        hint = "--announce takes a file, new or old, in a folder that exists."
        raise ServeError(f"cannot announce the addresses in {path}: {exc.strerror}", hint) from exc
