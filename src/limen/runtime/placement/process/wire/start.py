"""A replica's start message and its first reply: one JSON line each.

Called by whoever starts replicas (`own` here, the control process in production) and by `replica`.
"""

from __future__ import annotations

from typing import Final

import msgspec

from limen.runtime.sandbox.child import python

COMMAND: Final = python("limen.runtime.placement.process.replica.main")
"""Starts a replica; `ReplicaStart` goes to its standard input, which stays open for as long as it should live."""
TEMPLATE_COMMAND: Final = python("limen.runtime.placement.process.replica.template")
"""Starts a template of replicas; `TemplateStart` goes to its standard input, which is a socket that `sandbox.forking` holds the other end of."""
OOM_STATUS: Final = 86
"""The exit status of a replica whose model wanted more memory than it may have."""
RECYCLE_AT: Final = 0.9
"""The share of its memory at which a replica is replaced, before it reaches the limit and fails a request."""


class ReplicaStart(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One replica to be."""

    root: str
    """Folder of the package."""
    version: str
    digest: str = ""
    """Of the package; gateways use the replica only when they expect the same one."""
    trust_code: bool
    """Whether code that the package brings may run."""
    socket: str
    """Path of the Unix socket to listen on; what lies there is replaced."""
    memory_mb: int | None = None
    """Mebibytes of heap and anonymous memory; None for no limit."""
    cpus: int = 1
    """Cores it is meant to use."""
    isolate: bool = True
    """Take away the network, privileges and, where possible, the user id."""
    environment: tuple[str, ...] = ()
    """Variables that the package asks for, on top of those that every replica inherits."""
    scratch: str = ""
    """The one folder that it may write to, unless the package brings code; made when it is not there."""
    pin: bool = False
    """Also bind it to `cpus` cores. The scheduler does better as long as replicas do not outnumber the cores."""


class TemplateStart(msgspec.Struct, frozen=True):
    """One template to be."""

    backend: str
    """Whose libraries it imports."""


class Ready(msgspec.Struct, frozen=True):
    """The package is loaded and the socket listens."""

    load_s: float
    can_stream: bool
    isolation: tuple[str, ...]
    """What holds of: no-network, no-new-privs, landlock, seccomp, uid, no-capabilities."""


class Failed(msgspec.Struct, frozen=True):
    """The package cannot be loaded."""

    message: str
    """Catalogue text."""
    reason: str


class Said(msgspec.Struct, frozen=True, omit_defaults=True):
    """The one line on standard output; one of the two is set."""

    ready: Ready | None = None
    failed: Failed | None = None


def resident_share(pid: int, memory_mb: int) -> float:
    """Return how much of its memory limit a replica uses, from 0 to 1; 0 where the platform does not tell."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:  # noqa: PTH123 - read on every check
            for line in file:
                if line.startswith(b"VmData:"):
                    return int(line.split()[1]) / 1024 / memory_mb
    except (OSError, ValueError, IndexError):
        return 0.0
    return 0.0
