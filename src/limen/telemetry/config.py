"""The `[log]` section of the settings."""

from __future__ import annotations

from typing import Literal

import msgspec


class LogConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How the processes of a server log."""

    format: Literal["text", "json"] = "text"
    """`text` for people, or `json` with one object per line. Applies to all lines of all processes."""
    level: Literal["debug", "info", "warning", "error"] = "info"
    """Lowest level of Limen's own lines that is logged; libraries log from `warning` up."""
