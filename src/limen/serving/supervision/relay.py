"""Standard error output of a server's processes besides their logs: crashes of native code, prints of a library.

Where the log is JSON the supervisor reads the standard error of every process and writes it on as lines of the log, so that a reader of
JSON meets nothing else. Used by `serving.supervision.child`.
"""

from __future__ import annotations

import asyncio

from limen.contracts.strict.printable import printable
from limen.telemetry.logs import pass_on, wrapped_line


async def relay(process: str, pid: int, said: asyncio.StreamReader) -> None:
    """Write on what a process says, line by line, until it has closed its end."""
    while True:
        try:
            line = await said.readline()
        except ValueError:  # a line without end
            continue
        if not line:
            return
        text = line.decode(errors="replace").rstrip("\r\n")
        if text:
            pass_on(wrapped_line(process, pid, printable(text)))
