"""The replica process: serves one loaded version to every process that connects to its socket.

It is told what to load on standard input (`start.ReplicaStart`), says once on standard output that it is ready or why it cannot be,
and then serves until it is told to end (SIGTERM: the batch in hand is finished), or its parent has gone (standard input closes). It
holds no port, no credential and no other model, so what a model breaks or leaks is gone with the process. Not here: answering
(`server`) and what is taken away from it (`isolation`).
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import stat
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType

import msgspec

from limen.contracts.errors import InvalidPackage, LimenError
from limen.packaging.archive.intact import ensure_intact, is_small
from limen.packaging.manifest.decoder import read_manifest
from limen.packaging.manifest.values import Manifest
from limen.runtime.binding.binding import Binding
from limen.runtime.execution import load
from limen.runtime.golden import ensure_right
from limen.runtime.placement.process.replica.server import Loaded, Server
from limen.runtime.placement.process.wire.frames import identity
from limen.runtime.placement.process.wire.start import Failed, Ready, ReplicaStart, Said
from limen.runtime.placement.trust import ensure_trusted
from limen.runtime.predictor import LoadedModel
from limen.runtime.sandbox import isolation, namespaces, scratch
from limen.runtime.sandbox.allocator import keep_buffers
from limen.runtime.sandbox.confinement import confine_from_others, confine_to_scratch
from limen.runtime.sandbox.parent import die_with, read_line, take_streams
from limen.runtime.sandbox.room import give_up_rights
from limen.telemetry.logs import ABOUT_A_PACKAGE, log_to_stderr

LOG = logging.getLogger("limen.model")
BACKLOG = 128
_SMALL_STACK = 1 << 18


def main() -> None:
    """Run a replica; returns when it has ended in order."""
    # A Ctrl-C on the terminal is for the supervisor, which ends this process in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    log_to_stderr()
    parent, voice = take_streams()
    if not (said := read_line(parent)):
        return  # nobody wants it any more
    start = msgspec.json.decode(said, type=ReplicaStart)
    try:
        server = _prepare(start)
    except LimenError as exc:
        _say(voice, Said(failed=Failed(exc.message, exc.reason.value)))
        sys.exit(1)
    die_with(parent)
    stop = _stop_on_signal()
    _say(voice, Said(ready=server.ready))
    server.run(parent, stop)


def _prepare(start: ReplicaStart) -> Server:
    """Load the package and listen.

    Raises:
        LimenError: why that is not possible.
    """
    keep_buffers(start.memory_mb)
    isolation.limit_resources(start.memory_mb, start.cpus if start.pin else None)
    root = Path(start.root)
    manifest = _read(start, root)
    ensure_trusted(manifest, trust_code=start.trust_code)
    began = time.perf_counter()
    listener = _bind(start.socket)
    # Before there are threads: a namespace is left by one thread at a time.
    held = _confine(start, root, brings_code=manifest.needs_trust) if start.isolate else []
    isolation.set_blas_threads(start.cpus)
    model, binding, digest = _load_intact(start, root, manifest)
    ensure_right(manifest.contract, model, binding, start.version)
    gc.collect()
    # What is loaded stays; later collections look at what requests leave behind only.
    gc.freeze()
    if start.isolate and manifest.needs_trust:
        held += give_up_rights(root)
    listener.listen(BACKLOG)
    ready = Ready(time.perf_counter() - began, model.can_stream, tuple(held))
    contract = manifest.contract
    known_as = identity(start.version, digest)
    label = f"{contract.name} version {start.version}"
    return Server(Loaded(model, binding, contract.batching.max_rows, known_as, label), listener, ready)


def _read(start: ReplicaStart, root: Path) -> Manifest:
    try:
        return read_manifest(root)
    except LimenError:
        if start.digest:
            ensure_intact(root, start.digest)
        raise


def _load_intact(start: ReplicaStart, root: Path, manifest: Manifest) -> tuple[LoadedModel, Binding, str]:
    """Load the package, and return with it the digest of its files.

    A small package is hashed first, and so is code, of which not a line runs before that is right; a large one is hashed meanwhile.

    Raises:
        InvalidPackage: it cannot be loaded; when the files are damaged, that is why, whatever else went wrong.
    """
    if not start.digest:
        return *_load(start, root, manifest), ""
    before = threading.stack_size(_SMALL_STACK)  # it counts against the memory of the model
    with ThreadPoolExecutor(1) as beside:
        hashing = beside.submit(ensure_intact, root, start.digest)
        threading.stack_size(before)
        if manifest.needs_trust or is_small(root):
            hashing.result()
        try:
            loaded = _load(start, root, manifest)
        finally:
            digest = hashing.result()
    return *loaded, digest


def _load(start: ReplicaStart, root: Path, manifest: Manifest) -> tuple[LoadedModel, Binding]:
    try:
        return load(root, manifest)
    except LimenError:
        raise
    except MemoryError as exc:
        raise InvalidPackage(f"the model needs more than its {start.memory_mb} MiB of memory to be loaded") from exc
    except Exception as exc:
        LOG.warning("the package could not be loaded", exc_info=exc, extra=ABOUT_A_PACKAGE)
        raise InvalidPackage("the package could not be loaded; the log says why") from exc


def _confine(start: ReplicaStart, root: Path, *, brings_code: bool) -> list[str]:
    """Take away what a model has no use for. Code that is trusted may change files, and is loaded with the rights of the server."""
    held = namespaces.leave() + isolation.forbid_new_privileges()
    writable: list[Path] = []
    if start.scratch:
        try:
            scratch.empty(Path(start.scratch))
            scratch.use(Path(start.scratch))
            writable.append(Path(start.scratch))
        except OSError as exc:
            # Hardly a model needs it to answer: on a full disk the others go on.
            LOG.warning("there is no folder for temporary files: %s", exc.strerror or exc)
    if brings_code:
        return held + confine_from_others()
    return held + confine_to_scratch(writable) + give_up_rights(root)


def _bind(path: str) -> socket.socket:
    """Return a socket at `path` that only its owner may connect to. It refuses everybody until it listens."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        if os.path.lexists(path) and stat.S_ISSOCK(os.lstat(path).st_mode):
            os.unlink(path)  # noqa: PTH108 - of one that has gone
        listener.bind(path)
    except OSError as exc:
        listener.close()
        LOG.warning("the replica cannot listen", exc_info=exc)
        raise InvalidPackage("the replica's socket cannot be made") from exc
    finally:
        os.umask(before)
    listener.setblocking(False)
    return listener


def _say(voice: int, said: Said) -> None:
    os.write(voice, msgspec.json.encode(said) + b"\n")
    os.close(voice)


def _stop_on_signal() -> socket.socket:
    """Return what becomes readable at SIGTERM. The handler itself does nothing: a model in the middle of its run goes on."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    ours.setblocking(False)
    signal.signal(signal.SIGTERM, _go_on)
    signal.set_wakeup_fd(theirs.detach(), warn_on_full_buffer=False)
    return ours


def _go_on(number: int, frame: FrameType | None) -> None:
    """Leave it to the loop, which sees the signal when the batch in hand is answered."""
