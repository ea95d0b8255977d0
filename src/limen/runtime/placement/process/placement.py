"""Starts a replica process for a package."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from asyncio.subprocess import DEVNULL, Process

from limen.packaging.archive import Package
from limen.runtime.placement.process.frames import Start
from limen.runtime.placement.process.predictor import ProcessPredictor
from limen.runtime.placement.trust import ensure_trusted

_COMMAND = "from limen.runtime.placement.process.replica import main; main()"
_ENVIRONMENT = {
    # One replica, one core: native thread pools as large as the machine would fight over it.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}


class ProcessPlacement:
    """Runs every version in a process of its own, on one end of a socket pair that has no name for others to find."""

    def __init__(self, *, trust_code: bool = False) -> None:
        """Say whether packages that bring their own code may run it."""
        self._trust_code = trust_code

    async def start(self, package: Package, version: str) -> ProcessPredictor:
        """Start the replica and return when it has loaded the package."""
        ensure_trusted(package.manifest, trust_code=self._trust_code)
        start = Start(str(package.root), version, self._trust_code)
        predictor = ProcessPredictor(package.manifest.contract.name, version, start, launch)
        await predictor.open()
        return predictor


async def launch() -> tuple[Process, socket.socket]:
    """Start a replica process and return it with our end of the connection."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with theirs:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                _COMMAND,
                str(theirs.fileno()),
                stdin=DEVNULL,
                stdout=DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
                env=os.environ | _ENVIRONMENT,
            )
    except BaseException:
        ours.close()
        raise
    ours.setblocking(False)
    return process, ours
