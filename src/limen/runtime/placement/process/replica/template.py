"""The template of replicas: a process that has imported what one backend needs, and forks a replica whenever the supervisor asks.

Started below `limen serve` for each backend that is in use (`TemplateStart` on standard input, which is a socket). A fork is a replica
like any other from then on: `replica.main` reads what to load, closes the process off and serves. What a backend has done before
is its own to say (`Backend.prepare`); the code of packages never runs here.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from typing import Final

import msgspec
import numpy as np

from limen.contracts.errors import LimenError
from limen.contracts.validation.records import RecordCodec
from limen.contracts.validation.tensors import ContractCheck
from limen.packaging.manifest.decoder import decode_manifest
from limen.runtime.backends import backend
from limen.runtime.placement.process.replica import main as replica
from limen.runtime.placement.process.wire.start import TemplateStart
from limen.runtime.sandbox import template
from limen.runtime.sandbox.parent import read_line
from limen.runtime.sandbox.quiet import silence

_MANIFEST: Final = """\
name: rehearsal
backend: onnx
artifact: model.onnx
inputs: [{name: x, type: float32, shape: [1]}]
outputs: [{name: y, type: float32, shape: [1]}]
examples: [{inputs: {x: [1]}, outputs: {y: [1]}}]
"""
_WORD: Final = b'{"ready":{}}\n'
"""Says that it is ready, in the words of every process of a server."""


def main() -> None:
    """Run a template, and the replicas that are forked from it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Nothing is logged here: lines are written by a thread, and there may be only one.
    voice = os.dup(1)
    os.dup2(2, 1)
    start = msgspec.json.decode(read_line(0), type=TemplateStart)
    silence()
    source = template.prepare(lambda: _prepare(start.backend))
    os.write(voice, _WORD)
    os.close(voice)
    if template.serve(socket.socket(fileno=0), source):
        replica.main()


def _prepare(name: str) -> None:
    """Do what every replica of a backend does before its own package matters: what is in memory then is shared."""
    contract = decode_manifest(_MANIFEST).contract
    records, tensors = RecordCodec(contract), {"y": np.zeros((1, 1), np.float32)}
    records.tensors([contract.examples[0].inputs])
    records.encode(ContractCheck(contract).check_outputs(tensors, 1))
    # One that cannot be had is left out: each of its replicas says why.
    with contextlib.suppress(LimenError):
        if (prepare := getattr(backend(name), "prepare", None)) is not None:
            prepare()
