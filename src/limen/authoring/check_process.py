"""The disposable process in which `limen check` loads and runs a package. Its counterpart is `authoring.check`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from limen.authoring.check import Task, check_model
from limen.authoring.disposable import attend


def main() -> None:
    """Check one package in this process."""
    attend(Task, _work)


def _work(task: Task, say: Callable[[object], None]) -> None:
    asyncio.run(check_model(task, say))
