"""The run folder of a server and how commands find it: `<home>/run/<pid>/` (with a suffix if that is taken).

    server.json     who it is and where its control socket and addresses are
    snapshot.json   the last snapshot that control published
    conditions.json what control knew of the server and its endpoints, and since when
    packages/       copies of the package folders it serves
    metrics/        what its gateways count
    lock            held while the server runs, and touched every minute

Sockets are in a folder of their own, because the path of a socket has little room. Called by `limen.app`, control and the command line.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import tempfile
import time
from pathlib import Path
from typing import Final

import msgspec

from limen.contracts.snapshot import Snapshot
from limen.serving.supervision.facts import is_alive, start_of
from limen.storage.files import write_whole
from limen.storage.locks import hold, is_held
from limen.storage.private import make_private, make_private_folder
from limen.storage.sockets import make_socket_folder, remove_socket_folder

LOCK: Final = "lock"
TOUCH_S: Final = 60.0
ABSENT_S: Final = 3600.0
"""After how long a server on another machine counts as gone that does not touch its lock: locks may not reach that far."""
_NEW: Final = ".new-"
_GONE: Final = ".gone-"
_HELD: Final[dict[Path, int]] = {}
"""The locks of this process."""


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
    def is_of_this_machine(self) -> bool:
        """Whether it runs under the same kernel, if in another container: there a lock tells whether it lives."""
        boot = this_host().rpartition(" ")[2]
        return bool(boot) and self.host.rpartition(" ")[2] == boot

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

    Raises:
        OSError: they cannot be made; nothing is left of them.
    """
    clean(home)
    runs = home.absolute() / "run"
    make_private_folder(runs, is_passage=True)
    # Locked before it has its name: whoever sees a folder here also sees whether it is in use.
    folder = Path(tempfile.mkdtemp(prefix=_NEW, dir=runs))
    sockets = ""
    try:
        keep(folder)
        make_private(folder, is_passage=True)
        (folder / "metrics").mkdir(mode=0o700)
        sockets = make_socket_folder()
        pid = os.getpid()
        identity = _identity(folder)
        own = ServerFile(pid, start_of(pid), this_host(), sockets, http, grpc, metrics, admin, identity)
        write_whole(folder / "server.json", msgspec.json.encode(own))
        return _named(folder, runs / str(pid)), own
    except BaseException:
        remove(folder, sockets)
        raise


def _named(folder: Path, name: Path) -> Path:
    """Give a new folder its name, or a similar one if another container's server has that."""
    for candidate in (name, *(name.with_name(f"{name.name}-{os.urandom(4).hex()}") for _ in range(8))):
        with contextlib.suppress(FileExistsError, OSError):
            if not candidate.exists():
                folder.rename(candidate)
                _HELD[candidate] = _HELD.pop(folder)
                return candidate
    raise FileExistsError(f"there is no free name like {name}")


def keep(folder: Path) -> None:
    """Say that a server's folder is in use; call it when it is made, and every `TOUCH_S` from then on.

    Raises:
        OSError: it is gone, or its lock cannot be made.
    """
    lock = folder / LOCK
    if folder not in _HELD or not lock.exists():
        descriptor = hold(lock)
        if descriptor is not None:
            _let_go(folder)
            _HELD[folder] = descriptor
    os.utime(lock)


def _let_go(folder: Path) -> None:
    descriptor = _HELD.pop(folder, None)
    if descriptor is not None:
        os.close(descriptor)


def restore(folder: Path, server: ServerFile) -> bool:
    """Make the folders of a running server again if somebody has removed them or a part of them, and return whether that was so.

    Copies of packages and sockets are not brought back; gateways write what they have counted again.

    Raises:
        OSError: it cannot be made.
    """
    parts = [part for part in (metrics(folder), Path(server.sockets)) if not part.is_dir()]
    if not parts and (folder / "server.json").exists():
        return False
    for part in parts:
        part.mkdir(mode=0o700, parents=True, exist_ok=True)
    keep(folder)
    own = msgspec.structs.replace(server, folder=_identity(folder))
    write_whole(folder / "server.json", msgspec.json.encode(own))
    return True


def remove(folder: Path, sockets: str) -> None:
    """Remove everything that a server kept."""
    _let_go(folder)
    gone = folder if folder.name.startswith(_GONE) else folder.with_name(f"{_GONE}{os.urandom(4).hex()}")
    # A process that is killed in the middle leaves what anybody may remove, and not half a server without its lock.
    with contextlib.suppress(OSError):
        folder.rename(gone)
    for left in (folder, gone):
        shutil.rmtree(left, ignore_errors=True)
    if sockets:
        remove_socket_folder(sockets)


def find(home: Path) -> list[ServerFile]:
    """Return the servers of a home that run, oldest first."""
    clean(home)
    found = [
        (path.stat().st_mtime_ns, server)
        for path in (folder / "server.json" for folder in _folders(home))
        if (server := _read(path)) is not None and server.is_running and server.folder == _identity(path.parent)
    ]
    return [server for _, server in sorted(found, key=lambda item: item[0])]


def clean(home: Path) -> None:
    """Remove what servers have left that ended without a chance to do so, on this machine or another, in a container or not."""
    for folder in _folders(home):
        server = _read(folder / "server.json")
        if _is_left(folder, server):
            # The sockets of another host are not here, and one of the same name would be somebody else's.
            remove(folder, server.sockets if server is not None and server.is_here else "")


def _is_left(folder: Path, server: ServerFile | None) -> bool:
    """Return whether nobody uses a server's folder any more."""
    if folder.name.startswith(_GONE):
        return True
    if server is not None and server.is_here:
        return server.is_dead
    lock = folder / LOCK
    if is_held(lock):
        return False
    if server is not None and (server.is_dead or (server.is_of_this_machine and lock.exists())):
        return True
    if server is not None and not lock.exists():  # of a version of Limen without locks
        return False
    try:
        touched = max(path.stat().st_mtime for path in (folder, lock) if path.exists())
    except (OSError, ValueError):
        return False
    return time.time() - touched > ABSENT_S


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


def _identity(folder: Path) -> str:
    facts = folder.stat()
    return f"{facts.st_dev}:{facts.st_ino}"


def _folders(home: Path) -> list[Path]:
    return [path for path in (home / "run").glob("*") if path.is_dir()]


def _read(path: Path) -> ServerFile | None:
    with contextlib.suppress(OSError, msgspec.DecodeError):
        return msgspec.json.decode(path.read_bytes(), type=ServerFile)
    return None
