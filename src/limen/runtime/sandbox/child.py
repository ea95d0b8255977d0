"""Starts child processes: the only place where Limen starts an interpreter.

Every child gets a safe path (`-P`: no module of the working directory is imported), a session of its own (a Ctrl-C on the terminal
reaches the parent, which then ends its children in order) and an environment that was chosen. A process that loads a model gets the
variables listed here and no others, because among the others are passwords and keys. No child lets a library report its use. Used by
the supervisor, by probes and by conversions.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

from limen.runtime.sandbox.quiet import SILENT

if TYPE_CHECKING:
    from asyncio.subprocess import Process

PASSED_VARIABLES: Final = frozenset(
    [
        *("PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR"),
        *("PYTHONPATH", "PYTHONHOME", "PYTHONWARNINGS", "PYTHONUTF8", "PYTHONHASHSEED", "PYTHONFAULTHANDLER"),
        *("PYTHONDONTWRITEBYTECODE", "VIRTUAL_ENV", "CONDA_PREFIX"),
        *("LD_LIBRARY_PATH", "LD_PRELOAD", "DYLD_LIBRARY_PATH", "MALLOC_ARENA_MAX"),
        *("CUDA_VISIBLE_DEVICES", "CUDA_HOME", "CUDA_PATH", "CUDA_DEVICE_ORDER", "NVIDIA_VISIBLE_DEVICES"),
        *("HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HF_HOME", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"),
        *("GRPC_VERBOSITY", "LIMEN_DEBUG", "LIMEN_LOG_FORMAT", "LIMEN_LOG_LEVEL"),
    ]
)
"""What a process that loads models inherits. Nothing here is a secret."""
PASSED_PREFIXES: Final = ("LC_", "OMP_", "KMP_", "GOMP_", "MKL_", "OPENBLAS_", "VECLIB_", "ORT_", "GLIBC_TUNABLES")
"""Families of variables that are inherited as well: languages, and the tuning of native libraries."""
_READ_EARLY: Final = ("PYTHON", "LD_", "DYLD_", "MALLOC_", "JE_", "TCMALLOC_")
"""What begins the names of variables that count only when they are there before the process begins."""
_SEARCH_PATHS: Final = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


def python(module: str) -> tuple[str, ...]:
    """Return the command of a process that begins in `main` of one of our modules, named in full."""
    return (sys.executable, "-P", "-c", f"from {module} import main; main()")


def passed_environment(names: Iterable[str] = ()) -> dict[str, str]:
    """Return what this process passes on to one that may not know its secrets.

    Args:
        names: variables to pass besides those of every such process.
    """
    wanted = PASSED_VARIABLES.union(names)
    passed = {n: text for n, text in os.environ.items() if n in wanted or n.startswith(PASSED_PREFIXES)}
    return without_here(passed)


def is_read_early(name: str) -> bool:
    """Return whether a variable that a package asks for must be there when its process begins, and not only when its code does."""
    return name not in PASSED_VARIABLES and name.startswith(_READ_EARLY)


def model_environment(cpus: int, names: Iterable[str] = ()) -> dict[str, str]:
    """Return the whole environment of a process that loads one model.

    Args:
        cpus: cores it is meant to use; native thread pools become that large.
        names: variables that its package asks for.
    """
    passed = passed_environment(names)
    threads = str(max(1, cpus))
    passed |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), threads)
    # On Linux the process raises this one itself, see `isolation.set_blas_threads`.
    passed["OPENBLAS_NUM_THREADS"] = "1" if sys.platform == "linux" else threads
    # Idle pool threads sleep: spinning ones take the cores of the other replicas.
    passed["OMP_WAIT_POLICY"] = "PASSIVE"
    return passed


def without_here(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment whose search paths do not lead to the working directory by accident.

    An empty entry (`PYTHONPATH=:/opt/lib`) means the working directory, and is almost always the trace of an unset variable.
    """
    found = dict(environment)
    for name in _SEARCH_PATHS:
        entries = found.get(name, "").split(os.pathsep)
        if "" in entries and name in found:
            found[name] = os.pathsep.join(entry for entry in entries if entry)
            if not found[name]:
                del found[name]
    return found


def start(
    argv: Iterable[str],
    environment: Mapping[str, str] | None = None,
    *,
    cwd: str | None = None,
    stderr: int | None = None,
) -> subprocess.Popen[bytes]:
    """Start a child whose standard input and output are pipes, for callers that block.

    Args:
        argv: the command.
        environment: all of its environment; that of this process when None.
        cwd: its working directory; that of this process when None.
        stderr: as `subprocess.Popen` takes it.
    """
    return subprocess.Popen(  # noqa: S603 - our own commands
        tuple(argv),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        cwd=cwd,
        env=given_environment(environment),
        start_new_session=True,
    )


async def start_async(
    argv: Iterable[str],
    environment: Mapping[str, str] | None = None,
    *,
    stdin: int = subprocess.PIPE,
    line_bytes: int = 1 << 16,
    stderr: int | None = None,
) -> Process:
    """Start a child whose standard input and output are pipes, from an event loop.

    Args:
        argv: the command.
        environment: all of its environment; that of this process when None.
        stdin: a descriptor that takes the place of the first pipe.
        line_bytes: the longest line that can be read from it.
        stderr: as `subprocess.Popen` takes it.
    """
    import asyncio  # a replica knows how others are started, and has no event loop

    return await asyncio.create_subprocess_exec(
        *argv,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=stderr,
        limit=line_bytes,
        env=given_environment(environment),
        start_new_session=True,
    )


def given_environment(environment: Mapping[str, str] | None) -> dict[str, str]:
    """Return the environment that a child really gets: of this process when None, and never one that lets libraries report."""
    return without_here(os.environ if environment is None else environment) | SILENT
