"""Starting the converting process and taking its one answer. Called by `serving.importing`."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

import msgspec

from limen.contracts.errors import InvalidPackage
from limen.contracts.tensors import Array
from limen.runtime.conversion.messages import Converted, Said, Task, rows_of
from limen.runtime.placement.process.start import replica_environment

COMMAND: Final = (sys.executable, "-P", "-c", "from limen.runtime.conversion.program import main; main()")
TIMEOUT_S: Final = 300.0
MEMORY_MB: Final = 4096
_KEPT: Final = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PYTHONPATH", "TZ")
"""Variables that are handed on: no credential of the person who imports is among them."""
LOG: Final = logging.getLogger("limen.import")


def convert(
    model: bytes, targets: Sequence[str], sample: Mapping[str, Array], *, timeout_s: float = TIMEOUT_S
) -> Converted:
    """Return what became of a pickle. It is unpickled in a process without network, files, privileges or secrets.

    Args:
        model: the pickle.
        targets: formats to try.
        sample: example rows; columns without values say only their types.
        timeout_s: the process is killed after that long.

    Raises:
        InvalidPackage: why it cannot be converted.
    """
    task = Task(model=model, targets=tuple(targets), sample=rows_of(sample), memory_mb=MEMORY_MB)
    environment = {key: os.environ[key] for key in _KEPT if key in os.environ} | replica_environment(1)
    environment["JOBLIB_MULTIPROCESSING"] = "0"  # it would try to write a file to see whether it can
    with subprocess.Popen(  # noqa: S603 - our own program
        COMMAND,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        cwd="/",
        start_new_session=True,
    ) as process:
        try:
            answer, complaints = process.communicate(msgspec.msgpack.encode(task), timeout=timeout_s)
        except subprocess.TimeoutExpired:
            raise InvalidPackage(f"the pickle was not converted within {timeout_s:g} s") from None
        finally:
            # With whatever it has started.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    if complaints:
        LOG.info("the converting process said: %s", complaints[-4000:].decode(errors="replace"))
    try:
        said = msgspec.msgpack.decode(answer, type=Said)
    except msgspec.DecodeError:
        said = Said()
    if said.converted is not None:
        return said.converted
    if said.refused is not None:
        raise InvalidPackage(said.refused.message)
    raise InvalidPackage(f"the process that unpickles ended with status {process.returncode} and no answer")
