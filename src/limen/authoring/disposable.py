"""Runs work on a model in a separate process: if a library crashes, only that process ends, and the error is one line.

`run` starts the process and returns what it said; `attend` is what the process does. Used by `limen check`, and by whatever makes a
package of a file (`authoring.workbench`). What comes back is decoded strictly: it may come from a file that has taken the process over.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, Generic, TypeVar

import msgspec

from limen.contracts.errors import InvalidPackage, Reason, Unavailable, Violation
from limen.contracts.serving import Resources
from limen.runtime.sandbox.child import model_environment, python, start
from limen.runtime.sandbox.exchange import Fault, Heard, ask
from limen.runtime.sandbox.parent import take_streams
from limen.runtime.sandbox.room import Room, enter
from limen.runtime.sandbox.scratch import scratch_folder
from limen.telemetry.logs import log_to_stderr

T = TypeVar("T")
LOG: Final = logging.getLogger("limen.model")
TIME_S: Final = 900
"""How long any one piece of work may take."""
MAX_SAID_BYTES: Final = 256 << 20
_CRASHES: Final = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP)
_LENGTH: Final = 8


class Refused(msgspec.Struct, frozen=True):
    """Why the work cannot be done, as the error that it was."""

    message: str
    reason: str
    violations: tuple[Violation, ...] = ()


class Ran(msgspec.Struct, Generic[T], frozen=True):
    """What came of the work."""

    said: tuple[T, ...]
    problem: InvalidPackage | None = None
    """Why it was not finished."""


class _Word(msgspec.Struct, frozen=True, omit_defaults=True):
    """One message of the process; one of the two is set, and the end of the work is a message with neither."""

    said: bytes | None = None
    refused: Refused | None = None


def run(
    module: str,
    task: msgspec.Struct,
    kind: type[T],
    *,
    root: Path,
    brings_code: bool = False,
    resources: Resources | None = None,
    environment: Iterable[str] = (),
) -> Ran[T]:
    """Have a module of ours do a piece of work with a model, and return everything that it said. Blocking.

    Args:
        module: its `main` calls `attend`.
        task: what to do.
        kind: the type of what it says.
        root: the package, or the file that a package is made of.
        brings_code: whether code of the package runs, which is trusted then.
        resources: what the process may use; as much as there is when None.
        environment: variables that the package asks for.

    Raises:
        Unavailable: no process can be started.
    """
    resources = resources or Resources()
    with scratch_folder() as scratch:
        room = Room(
            root=str(root.absolute()),
            scratch=str(scratch),
            brings_code=brings_code,
            memory_mb=resources.memory_mb,
            cpus=resources.cpus,
        )
        words = b"".join(_framed(msgspec.msgpack.encode(part)) for part in (room, task))
        try:
            process = start(python(module), model_environment(resources.cpus, environment), stderr=subprocess.PIPE)
        except OSError as exc:
            raise Unavailable("cannot start a process to inspect the model") from exc
        heard = ask(process, words, timeout_s=TIME_S, max_bytes=MAX_SAID_BYTES)
    if heard.complaints:
        LOG.warning("output of the model's process: %s", heard.complaints.decode(errors="replace").strip())
    return _understood(heard, kind)


def one(ran: Ran[T]) -> T:
    """Return the one thing that was said.

    Raises:
        InvalidPackage: why there is none.
    """
    if ran.problem is not None:
        raise ran.problem
    if len(ran.said) != 1:
        raise InvalidPackage("the model's process ended without an answer", reason=Reason.REJECTED)
    return ran.said[0]


def attend(kind: type[T], work: Callable[[T, Callable[[object], None]], None]) -> None:
    """Be the process: close it off, do the work, and end.

    Args:
        kind: the type of the task.
        work: does it, and says what it finds; an `InvalidPackage` that it raises is told.
    """
    # A Ctrl-C on the terminal is for the parent, which ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Whoever waits for this process is the author of the package, and no caller has asked anything.
    log_to_stderr(shows_text=True)
    parent, voice = take_streams()
    room = msgspec.msgpack.decode(_read(parent), type=Room)
    task = msgspec.msgpack.decode(_read(parent), type=kind)
    enter(room)

    def tell(word: _Word) -> None:
        left = _framed(msgspec.msgpack.encode(word))
        while left:
            left = left[os.write(voice, left) :]

    try:
        work(task, lambda found: tell(_Word(said=msgspec.msgpack.encode(found))))
    except InvalidPackage as exc:
        tell(_Word(refused=Refused(exc.message, exc.reason.value, exc.violations)))
    except MemoryError:
        text = f"the model needs more than its {room.memory_mb} MiB of memory"
        tell(_Word(refused=Refused(text, Reason.REJECTED.value)))
    except Exception as exc:
        LOG.exception("unexpected failure")
        text = f"Limen failed unexpectedly ({type(exc).__name__}); please report it"
        tell(_Word(refused=Refused(text, Reason.INTERNAL.value)))
    else:
        tell(_Word())
    logging.shutdown()
    # The model's own clean-up is nobody's loss.
    os._exit(0)


def _understood(heard: Heard, kind: type[T]) -> Ran[T]:
    said: list[T] = []
    is_done, problem, left = False, None, heard.said
    try:
        while left and not is_done:
            length = int.from_bytes(left[:_LENGTH], "big")
            word = msgspec.msgpack.decode(left[_LENGTH : _LENGTH + length], type=_Word)
            left = left[_LENGTH + length :]
            if word.said is not None:
                said.append(msgspec.msgpack.decode(word.said, type=kind))
            elif word.refused is not None:
                told = word.refused
                problem = InvalidPackage(told.message, reason=Reason(told.reason), violations=told.violations)
                is_done = True
            else:
                is_done = True
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError):
        is_done = False
    if not is_done:
        problem = InvalidPackage(_why(heard), reason=Reason.REJECTED)
    return Ran(tuple(said), problem)


def _why(heard: Heard) -> str:
    if heard.fault is Fault.TOO_LONG:
        return f"the model took more than {TIME_S} s"
    if heard.fault is Fault.TOO_MUCH:
        return "the model's answers are too large"
    if -heard.status in _CRASHES:
        name = signal.Signals(-heard.status).name
        return f"the library that reads the model crashed ({name}): the file is damaged or malicious"
    if heard.status == -signal.SIGKILL:
        return "the model's process was killed; the machine may be out of memory"
    return f"the model's process ended with status {heard.status} and did not finish"


def _framed(data: bytes) -> bytes:
    return len(data).to_bytes(_LENGTH, "big") + data


def _read(descriptor: int) -> bytes:
    return _exactly(descriptor, int.from_bytes(_exactly(descriptor, _LENGTH), "big"))


def _exactly(descriptor: int, count: int) -> bytes:
    data = bytearray()
    while len(data) < count and (piece := os.read(descriptor, min(1 << 20, count - len(data)))):
        data += piece
    return bytes(data)
