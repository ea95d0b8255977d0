"""Settings of the management API; `limen.settings` composes them with those of the other packages."""

from __future__ import annotations

from typing import Annotated

import msgspec

Port = Annotated[int, msgspec.Meta(ge=0, le=65_535)]


class AdminConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Where the management API listens. Static: read when a server starts."""

    host: str = "127.0.0.1"
    """Loopback: whoever reaches it may change everything."""
    port: Port = 8002
    """0 lets the system choose."""
