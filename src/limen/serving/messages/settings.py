"""How a server stands to its settings file, as its status shows it. `limen.app` finds out."""

from __future__ import annotations

import msgspec


class SettingsView(msgspec.Struct, frozen=True):
    """What the file says beyond the settings that hold."""

    file: str = ""
    """Empty when there is none."""
    problem: str = ""
    """Why it cannot be followed; then the settings before still hold."""
    needs_restart: tuple[str, ...] = ()
    """Settings that the file now says differently, and that only a restart of the server changes."""
