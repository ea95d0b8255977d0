"""Trying a package out in a process that is thrown away: whether it loads, and what it answers to examples.

This is the side that asks. The process (`limen.app.probe`, which runs `serving.trial`) has the limits and the isolation of a replica,
gets one order and says one JSON line for each thing that happened; whatever it does, it is gone afterwards. What it says is read
up to a limit and decoded strictly: a package that takes its process over can lie about its answers, and nothing else.
Blocking. Called by `serving.publishing`.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import msgspec

from limen.contracts.contract import Json
from limen.contracts.errors import InvalidPackage, Reason, Unavailable
from limen.contracts.independence import Independence
from limen.packaging.archive import Package
from limen.runtime.placement.process.start import replica_environment
from limen.serving.config import PublishConfig

MAX_SAID_BYTES: Final = 64 << 20
"""What a process may say in all."""
_NOT_UNDERSTOOD: Final = "the process that tried the package out said something that nobody understands"
KEPT_VARIABLES: Final = frozenset(
    [
        *("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"),
        *("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PYTHONWARNINGS"),
    ]
)
"""The environment a package is tried out in. Others stay out, because some of them are secrets."""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What the process is told: this line, then the inputs of the examples as a JSON list of that many bytes."""

    root: str
    """Folder of the package."""
    trust_code: bool
    memory_mb: int
    cpus: int
    time_s: int
    """Seconds of processor time."""
    inputs_bytes: int


class Loaded(msgspec.Struct, frozen=True):
    """The model is loaded and has the tensors that its contract says."""

    load_s: float
    can_stream: bool
    isolation: tuple[str, ...]
    """What was taken away from the process, as `runtime.placement.process.isolation` calls it."""


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the model makes of one example: its outputs, or why there are none."""

    outputs: dict[str, Json] | None = None
    problem: str = ""


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


class Probed(msgspec.Struct, frozen=True):
    """What was found out."""

    loaded: Loaded
    answers: tuple[Answer, ...]
    """One for each example, in their order; none of a model that streams."""
    independence: Independence | None = None
    """Whether rows leave each other's answers alone; None when the process ended over it."""


class Probe:
    """Starts one process for each package."""

    def __init__(self, command: Sequence[str], config: PublishConfig) -> None:
        """Say how the process is started and what it may take."""
        self._command = tuple(command)
        self._config = config

    def run(self, package: Package, examples: Sequence[Mapping[str, Json]], *, trust_code: bool) -> Probed:
        """Load a package and return its answers.

        Args:
            package: its files were verified.
            examples: the inputs of each example.
            trust_code: whether code that the package brings may run.

        Raises:
            InvalidPackage: it cannot be loaded, or REJECTED: its process ended, took too much or too long.
            Unavailable: no process can be started.
        """
        resources = package.manifest.serving.resources
        inputs = msgspec.json.encode(list(examples))
        order = Order(
            root=str(package.root),
            trust_code=trust_code,
            memory_mb=resources.memory_mb or self._config.probe_memory_mb,
            cpus=resources.cpus,
            time_s=self._config.probe_time_s,
            inputs_bytes=len(inputs),
        )
        try:
            process = subprocess.Popen(  # noqa: S603 - our own command
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=_environment(order.cpus),
                start_new_session=True,
            )
        except OSError as exc:
            raise Unavailable("no process can be started to try the package out") from exc
        with _thrown_away(process):
            said = self._ask(process, msgspec.json.encode(order) + b"\n" + inputs)
        return _understood(said, process.returncode, len(examples), order)

    def _ask(self, process: subprocess.Popen[bytes], words: bytes) -> bytes:
        until = time.monotonic() + self._config.probe_time_s
        if process.stdin is None or process.stdout is None:
            return b""
        with contextlib.suppress(BrokenPipeError):
            # Read before anything of the package is looked at. Left open: the process ends when this one does.
            process.stdin.write(words)
            process.stdin.flush()
        said = bytearray()
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while selector.select(max(0.0, until - time.monotonic())):
                piece = os.read(process.stdout.fileno(), 1 << 16)
                if not piece:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(max(0.0, until - time.monotonic()))
                    return bytes(said)
                said += piece
                if len(said) > MAX_SAID_BYTES:
                    raise _rejected("the model's answers to its examples are too large")
        raise _rejected(f"the model took more than {self._config.probe_time_s} s to load and answer its examples")


def _environment(cpus: int) -> dict[str, str]:
    return {name: text for name, text in os.environ.items() if name in KEPT_VARIABLES} | replica_environment(cpus)


@contextlib.contextmanager
def _thrown_away(process: subprocess.Popen[bytes]) -> Iterator[None]:
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            # Its group, too: whatever it started is thrown away with it.
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


def _understood(said: bytes, status: int | None, examples: int, order: Order) -> Probed:
    loaded: Loaded | None = None
    answers: list[Answer] = []
    independence: Independence | None = None
    try:
        for line in said.splitlines():
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
        raise _rejected(f"the model's process ended while {when}{_why(status, order)}")
    return Probed(loaded, tuple(answers), independence)


def _why(status: int | None, order: Order) -> str:
    if status is None or status >= 0:
        return ""
    if -status == signal.SIGXCPU:
        return f": it took more than {order.time_s} s of processor time"
    if -status in (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL):
        return f": it crashed ({signal.Signals(-status).name}); its memory was limited to {order.memory_mb} MiB"
    return ""


def _rejected(text: str) -> InvalidPackage:
    return InvalidPackage(text, reason=Reason.REJECTED)
