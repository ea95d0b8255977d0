"""Disables usage reporting in third-party libraries.

A library reads its variable when it is imported. So every child is started with all of them (`sandbox.child`), and a process that
loads a model itself sets them before the first import (`backends.artifact.require`).
"""

from __future__ import annotations

import os
from typing import Final

SILENT: Final = {
    "DO_NOT_TRACK": "1",
    "ORT_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "RAY_USAGE_STATS_ENABLED": "0",
    "VLLM_NO_USAGE_STATS": "1",
}
"""What turns reporting off, whatever the environment of the server says."""


def silence() -> None:
    """Turn reporting off for what this process imports from now on."""
    os.environ.update(SILENT)
