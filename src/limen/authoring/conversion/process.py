"""Starts the converting process and reads its single answer. Called by `authoring.importing`."""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from limen.authoring.conversion.messages import Converted, Said, Task, rows_of
from limen.contracts.errors import InvalidPackage
from limen.contracts.tensors import Array
from limen.runtime.sandbox.child import model_environment, python, start
from limen.runtime.sandbox.exchange import Fault, Heard, ask

COMMAND: Final = python("limen.authoring.conversion.program")
TIMEOUT_S: Final = 300.0
MEMORY_MB: Final = 4096
MAX_ANSWER_BYTES: Final = 2 << 30
"""The most that a converted model may come to, in all formats together."""
LOG: Final = logging.getLogger("limen.import")


def convert(
    model: bytes, targets: Sequence[str], sample: Mapping[str, Array], *, timeout_s: float = TIMEOUT_S
) -> Converted:
    """Return what became of a pickle. It is unpickled in a process that is cut off from everything but the libraries.

    Args:
        model: the pickle.
        targets: formats to try.
        sample: example rows; columns without values say only their types.
        timeout_s: the process is killed after that long.

    Raises:
        InvalidPackage: why it cannot be converted.
    """
    task = Task(model=model, targets=tuple(targets), sample=rows_of(sample), memory_mb=MEMORY_MB)
    process = start(COMMAND, model_environment(1), cwd="/", stderr=subprocess.PIPE)
    heard = ask(process, msgspec.msgpack.encode(task), timeout_s=timeout_s, max_bytes=MAX_ANSWER_BYTES)
    if heard.complaints:
        LOG.info("output of the converting process: %s", heard.complaints[-4000:].decode(errors="replace"))
    return _understood(heard, timeout_s)


def _understood(heard: Heard, timeout_s: float) -> Converted:
    if heard.fault is Fault.TOO_MUCH:
        raise InvalidPackage(f"the converted model is larger than {MAX_ANSWER_BYTES >> 20} MiB")
    if heard.fault is not None:
        raise InvalidPackage(f"the pickle was not converted within {timeout_s:g} s")
    try:
        said = msgspec.msgpack.decode(heard.said, type=Said)
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError):
        said = Said()
    if said.converted is not None:
        return said.converted
    if said.refused is not None:
        raise InvalidPackage(said.refused.message)
    raise InvalidPackage(f"the process that unpickles ended with status {heard.status} and no answer")
