"""What control has to know about its server."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from limen.serving.messages.settings import SettingsView
from limen.serving.supervision.run_folder import ServerFile


class ControlConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What control has to know about its server."""

    run: str
    """The server's folder: snapshot, copies of packages, metrics."""
    watch: bool
    http: str
    grpc: str
    metrics: str
    server_pid: int
    server: ServerFile | None = None
    """What the folder says of the server; None for one that nobody has to find."""
    started_at: float
    settings: Callable[[], SettingsView] = SettingsView
    """Gives how the server stands to its settings file."""
