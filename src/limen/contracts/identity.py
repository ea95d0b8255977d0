"""Who asks. Until callers identify themselves there is one: whoever can reach the server."""

from __future__ import annotations

from typing import Final

import msgspec


class Principal(msgspec.Struct, frozen=True):
    """Somebody who may ask something of the server.

    It belongs to one request. The head of an HTTP request must not hold it: heads are remembered whole and used again.
    """

    id: str
    """What the registry records as the author of a change, and what a request is counted for."""


LOCAL: Final = Principal("local")
"""Everyone who can reach the server."""
