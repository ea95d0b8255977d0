"""Where a running server keeps its files, and how commands find it: `<home>/run/<pid>/` (with a suffix when that is taken).

    server.json     who it is and where its control socket and addresses are
    snapshot.json   the last snapshot that control published
    conditions.json what control knew of the server and its endpoints, and since when
    packages/       copies of the package folders it serves
    metrics/        what its gateways count

Sockets are in a folder of their own, because the path of a socket has little room. Called by `limen.app`, control and the command line.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import tempfile
from pathlib import Path

import msgspec

from limen.contracts.snapshot import Snapshot
from limen.serving.process_facts import is_alive, start_of
from limen.storage.private import make_private, make_private_file, make_private_folder

SOCKETS_PREFIX = "limen-"
MAX_SOCKET_FOLDER = 80
"""Characters: a socket's path has at most 107, on some systems 103."""


class ServerFile(msgspec.Struct, frozen=True):
    """What `server.json` says."""

    pid: int
    start: str
    """Tells this process from a later one with the same id."""
    host: str
    """Where process ids mean the same as to the server: a machine since its last start, or a container."""
    sockets: str
    """Folder of its sockets."""
    http: str
    grpc: str
    metrics: str
    admin: str = ""
    """Where its management API is; empty when it serves packages and no registry."""
    folder: str = ""
    """What its own folder is: a copy of it, as in a backup of the home, is not this server's."""

    @property
    def control(self) -> str:
        """The control socket."""
        return control_socket(self.sockets)

    @property
    def is_here(self) -> bool:
        """Whether its process id means something here; a home may be shared by containers."""
        return self.host == this_host()

    @property
    def is_running(self) -> bool:
        """Whether the server that wrote this still runs, as far as that can be seen from here."""
        return self.is_here and is_alive(self.pid, self.start)

    @property
    def is_dead(self) -> bool:
        """Whether it is known that the server has ended: it ran here, or before this machine was started the last time."""
        return not is_alive(self.pid, self.start) if self.is_here else _is_earlier(self.host, this_host())


def create(home: Path, http: str, grpc: str, metrics: str, admin: str = "") -> tuple[Path, ServerFile]:
    """Make the folder of this process's server and the folder of its sockets.

    Returns:
        The folder, and what its `server.json` says.
    """
    clean(home)
    runs = home.absolute() / "run"
    make_private_folder(runs, is_passage=True)
    folder = runs / str(os.getpid())
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:  # the same id in another container
        folder = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=runs))
    make_private(folder, is_passage=True)
    (folder / "metrics").mkdir(mode=0o700)
    own = ServerFile(
        os.getpid(), start_of(os.getpid()), this_host(), _make_sockets(), http, grpc, metrics, admin, _identity(folder)
    )
    write(folder / "server.json", msgspec.json.encode(own))
    return folder, own


def restore(folder: Path, server: ServerFile) -> bool:
    """Make a running server's folder again if somebody has removed it, and return whether that was so.

    Copies of packages and what was counted are not brought back.

    Raises:
        OSError: it cannot be made.
    """
    if (folder / "server.json").exists():
        return False
    (folder / "metrics").mkdir(parents=True, exist_ok=True)
    own = msgspec.structs.replace(server, folder=_identity(folder))
    write(folder / "server.json", msgspec.json.encode(own))
    return True


def remove(folder: Path, sockets: str) -> None:
    """Remove everything that a server kept."""
    shutil.rmtree(folder, ignore_errors=True)
    # The name comes from a file: whatever it says, only a folder that we have made goes.
    found = Path(sockets)
    is_made_here = found.name.startswith(SOCKETS_PREFIX) and not found.is_symlink() and found.is_dir()
    if is_made_here and found.stat().st_uid == os.getuid():
        shutil.rmtree(found, ignore_errors=True)


def find(home: Path) -> list[ServerFile]:
    """Return the servers of a home that run, oldest first."""
    clean(home)
    found = [
        (path.stat().st_mtime_ns, server)
        for path in _files(home)
        if (server := _read(path)) is not None and server.is_running and server.folder == _identity(path.parent)
    ]
    return [server for _, server in sorted(found, key=lambda item: item[0])]


def clean(home: Path) -> None:
    """Remove what servers have left that ended without a chance to do so."""
    for path in _files(home):
        server = _read(path)
        if server is not None and server.is_dead:
            remove(path.parent, server.sockets)


def snapshot(run: str | Path) -> Path:
    """Return where the last snapshot is."""
    return Path(run) / "snapshot.json"


def read_snapshot(run: str | Path) -> Snapshot | None:
    """Return the last snapshot; None when there is none that can be read."""
    with contextlib.suppress(OSError, msgspec.DecodeError):
        return msgspec.json.decode(snapshot(run).read_bytes(), type=Snapshot)
    return None


def conditions(run: str | Path) -> Path:
    """Return where the conditions are that control knows."""
    return Path(run) / "conditions.json"


def copies(run: str | Path) -> Path:
    """Return where copies of package folders are."""
    return Path(run) / "packages"


def metrics(run: str | Path) -> Path:
    """Return where gateways count."""
    return Path(run) / "metrics"


def control_socket(sockets: str) -> str:
    """Return the path of the control socket."""
    return f"{sockets}/control"


def write(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    staging = path.with_name(f".{path.name}.{os.getpid()}")
    staging.unlink(missing_ok=True)
    make_private_file(staging)
    staging.write_bytes(data)
    staging.replace(path)


def this_host() -> str:
    """Return what tells this machine since its last start, or this container, from others."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    return " ".join(parts)


def _is_earlier(host: str, here: str) -> bool:
    """Whether a host is this one before it was started the last time: all but the last part is the same."""
    return host != here and host.rpartition(" ")[0] == here.rpartition(" ")[0] != ""


def _make_sockets() -> str:
    folder = tempfile.mkdtemp(prefix=SOCKETS_PREFIX)
    if len(folder) > MAX_SOCKET_FOLDER:
        Path(folder).rmdir()
        folder = tempfile.mkdtemp(prefix=SOCKETS_PREFIX, dir="/tmp")
    return folder


def _identity(folder: Path) -> str:
    facts = folder.stat()
    return f"{facts.st_dev}:{facts.st_ino}"


def _files(home: Path) -> list[Path]:
    return list((home / "run").glob("*/server.json"))


def _read(path: Path) -> ServerFile | None:
    with contextlib.suppress(OSError, msgspec.DecodeError):
        return msgspec.json.decode(path.read_bytes(), type=ServerFile)
    return None
