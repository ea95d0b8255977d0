"""Runs the `check_…` functions of a client program one after another and prints what became of each as JSON.

Runs in the environment of the clients, which has neither Limen nor pytest.
"""

import asyncio
import inspect
import json
import logging
import sys
import traceback
from collections.abc import Callable
from typing import Any


def run(program: dict[str, Any]) -> None:
    """Run every check of a program on the addresses of its command line; the results go to standard output."""
    http, grpc = sys.argv[1:3]
    logging.disable()  # the clients log what they are told; the results say it too
    checks = {name: value for name, value in program.items() if name.startswith("check_")}
    print(json.dumps({name: _outcome(check, http, grpc) for name, check in checks.items()}))


def _outcome(check: Callable[..., Any], http: str, grpc: str) -> str:
    try:
        if inspect.iscoroutinefunction(check):
            asyncio.run(check(http, grpc))
        else:
            check(http, grpc)
    except Exception:
        return traceback.format_exc()
    return ""
