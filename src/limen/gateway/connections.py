"""How many connections a gateway may have, so that it always has files left for its models, its log and its control socket."""

from __future__ import annotations

import resource
from typing import Final

RESERVED: Final = 64
"""Open files for everything that is no caller's connection; replicas take two each."""
MAX_CONNECTIONS: Final = 1 << 16


def connection_limit() -> int:
    """Return how many connections each of the two listeners may have under this process's limit of open files."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return max(4, min(MAX_CONNECTIONS, (soft - RESERVED) // 2))
