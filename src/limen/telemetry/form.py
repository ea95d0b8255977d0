"""The log format of this process: chosen once for a whole server, and passed on in the environment.

A process knows the form before it reads anything, so that its very first line has it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from limen.telemetry.config import LogConfig

FORMAT_VARIABLE: Final = "LIMEN_LOG_FORMAT"
LEVEL_VARIABLE: Final = "LIMEN_LOG_LEVEL"
NAME_VARIABLE: Final = "LIMEN_PROCESS"
"""What a process is called in its lines."""


def choose(config: LogConfig, name: str) -> None:
    """Choose the form of this process's log, and of those that it starts; `telemetry.logs.log_to_stderr` follows.

    Args:
        config: the `[log]` settings.
        name: what this process is called in its lines.
    """
    os.environ |= {FORMAT_VARIABLE: config.format, LEVEL_VARIABLE: config.level, NAME_VARIABLE: name}


def is_json() -> bool:
    """Whether the lines of this process are JSON."""
    return os.environ.get(FORMAT_VARIABLE) == "json"


def process_name() -> str:
    """Return what this process is called in its lines; empty where it is the only one."""
    return os.environ.get(NAME_VARIABLE, "")
