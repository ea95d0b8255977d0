"""What a connection is waiting for. Set by `gateway.engine.connection`; `gateway.engine.server` enforces the time limits."""

from __future__ import annotations

from enum import IntEnum


class Phase(IntEnum):
    """What a connection is waiting for."""

    IDLE = 0
    """The first byte of the next request."""
    HEAD = 1
    """The rest of a request's head."""
    BODY = 2
    """The rest of a request's body."""
    REFUSED = 3
    """Its turn to be refused: the answers before it go out first, and nothing more is read."""
    CLOSING = 4
    """The peer to go away; everything it sends is dropped."""
