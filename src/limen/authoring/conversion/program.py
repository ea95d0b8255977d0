"""The converting process: the only place in Limen where a pickle is loaded.

It reads one `Task`, gives away the network, privileges, the user id, files, sockets and other processes, and only then unpickles. What
the pickle does with what is left is lost with the process. Its answer is data that nobody trusts. Started by `process`.
"""

from __future__ import annotations

import io
import os
import resource
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec

from limen.authoring.conversion.formats import converted
from limen.authoring.conversion.messages import Converted, Refused, Said, Task
from limen.contracts.errors import InvalidPackage, LimenError
from limen.runtime.sandbox import confinement, isolation, namespaces

CPU_S = 600


def main() -> None:
    """Convert one pickle; returns when the answer is written."""
    task = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Task)
    held = namespaces.leave(mounts=True, processes=True)
    namespaces.split(own_processes="own-processes" in held)
    voice = _take_voice()
    try:
        said = Said(converted=_convert(task, held))
    except LimenError as exc:
        said = Said(refused=Refused(exc.message))
    except MemoryError:
        said = Said(refused=Refused(f"the model needs more than {task.memory_mb} MiB of memory to be converted"))
    with os.fdopen(voice, "wb") as out:
        out.write(msgspec.msgpack.encode(said))


def _take_voice() -> int:
    """Return where the answer goes; what the model reads and prints goes elsewhere."""
    voice = os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return voice


def _convert(task: Task, left: list[str]) -> Converted:
    held = _give_away(task.memory_mb, left)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = _unpickle(task.model)
    notes = dict.fromkeys(str(w.message).partition("\n")[0][:300] for w in caught)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = converted(model, task)
    return msgspec.structs.replace(found, notes=tuple(notes), isolation=held)


def _give_away(memory_mb: int, held: list[str]) -> tuple[str, ...]:
    """Take from this process what the pickle has no use for, and return what holds.

    Args:
        memory_mb: mebibytes that it may use.
        held: what was left before.

    Raises:
        InvalidPackage: this system cannot cut a process off from the network.
    """
    isolation.limit_resources(memory_mb, 1)
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    held = held + isolation.forbid_new_privileges()
    if "no-network" not in held:
        raise InvalidPackage(
            "this system cannot isolate a process from the network, so the pickle was not loaded; import it on Linux"
        )
    # What is still imported after this must be readable for everybody.
    libraries = (Path(module.__file__ or "").parent for module in (os, isolation))
    needed = (Path(sys.prefix), Path(sys.base_prefix), Path(msgspec.__file__).parents[1], *libraries)
    if "own-mounts" in held:
        held += namespaces.make_read_only()
    held += isolation.become_nobody(needed) + isolation.drop_capabilities()
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    return tuple(held + confinement.confine_to_libraries())


def _unpickle(data: bytes) -> Any:
    if find_spec("joblib") is None:
        raise InvalidPackage("converting a pickle needs scikit-learn: install limen[sklearn]")
    import joblib  # type: ignore[import-untyped] # published without types

    try:
        # Reads pickle, cloudpickle and joblib's own, compressed or not.
        return joblib.load(io.BytesIO(data))
    except ModuleNotFoundError as exc:
        name = str(exc.name).partition(".")[0]
        text = f"the pickle needs the Python module {name}, which is not installed here"
        hint = (
            "install the version that the model was trained with" if find_spec(name) is None else "its version differs"
        )
        raise InvalidPackage(f"{text}; {hint}") from exc
    except MemoryError:
        raise
    except Exception as exc:
        text = f"the pickle cannot be loaded ({type(exc).__name__}: {str(exc)[:200]})"
        hint = "most often the installed library versions differ from those that wrote it"
        raise InvalidPackage(f"{text}; {hint}") from exc
