"""Tests a package in a disposable process: whether it loads, and its answers to examples.

This is the side that asks. The process (`limen.app.probe`, which runs `publishing.trial`) has the limits and the isolation of a replica,
gets one order and says one JSON line for each thing that happened; whatever it does, it is gone afterwards. What it says is read
up to a limit and decoded strictly: a package that takes its process over can lie about its answers, and nothing else.
Blocking. Called by `publishing.publisher`.
"""

from __future__ import annotations

import logging
import signal
import subprocess
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from limen.contracts.contract import Json
from limen.contracts.errors import Cancelled, InvalidPackage, Reason, Unavailable
from limen.contracts.independence import Independence
from limen.contracts.trial import Answer, Loaded, Probed
from limen.packaging.archive.package import Package
from limen.publishing.config import PublishConfig
from limen.runtime.sandbox.child import model_environment, start
from limen.runtime.sandbox.exchange import Fault, Heard, Stop, ask
from limen.runtime.sandbox.room import Room
from limen.runtime.sandbox.scratch import scratch_folder

LOG = logging.getLogger("limen.model")
MAX_SAID_BYTES: Final = 64 << 20
"""What a process may say in all."""
_NOT_UNDERSTOOD: Final = "the process that tested the package sent an invalid message"


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What the process is told: this line, then the inputs of the examples as a JSON list of that many bytes."""

    room: Room
    """Its `root` is the folder of the package."""
    trust_code: bool
    inputs_bytes: int


class Refused(msgspec.Struct, frozen=True):
    """The package cannot be loaded."""

    message: str
    reason: str


class Said(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line; one of the four is set."""

    loaded: Loaded | None = None
    answer: Answer | None = None
    independence: Independence | None = None
    refused: Refused | None = None


class Probe:
    """Starts one process for each package."""

    def __init__(self, command: Sequence[str], config: PublishConfig, *, is_quiet: bool = False) -> None:
        """Say how the process is started, what it may take, and whether what it logs is of no interest."""
        self._command = tuple(command)
        self._config = config
        self._is_quiet = is_quiet

    def run(
        self,
        package: Package,
        examples: Sequence[Mapping[str, Json]],
        *,
        trust_code: bool,
        stop: Stop | None = None,
    ) -> Probed:
        """Load a package and return its answers.

        Args:
            package: its files were verified.
            examples: the inputs of each example.
            trust_code: whether code that the package brings may run.
            stop: ends it early.

        Raises:
            Cancelled: it was ended early.
            InvalidPackage: it cannot be loaded, or REJECTED: its process ended, took too much or too long.
            Unavailable: no process can be started.
        """
        with scratch_folder() as scratch:
            return self._run(package, examples, str(scratch), trust_code=trust_code, stop=stop)

    def _run(
        self,
        package: Package,
        examples: Sequence[Mapping[str, Json]],
        scratch: str,
        *,
        trust_code: bool,
        stop: Stop | None,
    ) -> Probed:
        resources = package.manifest.serving.resources
        inputs = msgspec.json.encode(list(examples))
        room = Room(
            root=str(package.root),
            scratch=scratch,
            brings_code=package.manifest.needs_trust,
            memory_mb=resources.memory_mb or self._config.probe_memory_mb,
            cpus=resources.cpus,
            time_s=self._config.probe_time_s,
        )
        order = Order(room=room, trust_code=trust_code, inputs_bytes=len(inputs))
        try:
            process = start(
                self._command, model_environment(room.cpus, package.manifest.environment), stderr=subprocess.PIPE
            )
        except OSError as exc:
            raise Unavailable("cannot start a process to test the package") from exc
        heard = ask(
            process,
            msgspec.json.encode(order) + b"\n" + inputs,
            timeout_s=self._config.probe_time_s,
            max_bytes=MAX_SAID_BYTES,
            stop=stop,
            stays_open=True,
        )
        if heard.complaints and not self._is_quiet:
            text = heard.complaints.decode(errors="replace").strip()
            LOG.warning("output of the process that tested a package: %s", text)
        return _understood(heard, len(examples), room)


def _understood(heard: Heard, examples: int, room: Room) -> Probed:
    if heard.fault is Fault.STOPPED:
        raise Cancelled("the caller disconnected while the package was being tested")
    if heard.fault is Fault.TOO_MUCH:
        raise _rejected("the model's answers to its examples are too large")
    if heard.fault is Fault.TOO_LONG:
        raise _rejected(f"the model took more than {room.time_s} s to load and answer its examples")
    loaded: Loaded | None = None
    answers: list[Answer] = []
    independence: Independence | None = None
    try:
        for line in heard.said.splitlines():
            word = msgspec.json.decode(line, type=Said)
            if word.refused is not None:
                raise InvalidPackage(word.refused.message, reason=Reason(word.refused.reason))
            loaded = word.loaded or loaded
            independence = word.independence or independence
            if word.answer is not None:
                answers.append(word.answer)
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError) as exc:
        raise _rejected(_NOT_UNDERSTOOD) from exc
    wanted = 0 if loaded is not None and loaded.can_stream else examples
    if len(answers) > wanted:
        raise _rejected(_NOT_UNDERSTOOD)
    if loaded is None or len(answers) < wanted:
        when = "loading the model" if loaded is None else f"answering example {len(answers) + 1}"
        raise _rejected(f"the model's process ended while {when}{_why(heard.status, room)}")
    return Probed(loaded, tuple(answers), independence)


def _why(status: int, room: Room) -> str:
    if status >= 0:
        return ""
    if -status == signal.SIGXCPU:
        return f": it took more than {room.time_s} s of processor time"
    if -status in (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL):
        return f": it crashed ({signal.Signals(-status).name}); its memory was limited to {room.memory_mb} MiB"
    return ""


def _rejected(text: str) -> InvalidPackage:
    return InvalidPackage(text, reason=Reason.REJECTED)
