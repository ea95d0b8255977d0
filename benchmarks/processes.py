"""CPU time, priority and cores of process trees, from /proc (Linux). Called by `servers`, `generators` and `compare`."""

from __future__ import annotations

import contextlib
import os
import resource
from pathlib import Path
from typing import Literal

import msgspec

Cores = Literal["free", "apart", "one"]

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def cpu_seconds(root: int) -> float:
    """Return the CPU time that a process and its living descendants have used, with what they reaped."""
    parents: dict[int, int] = {}
    used: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            # A process may end while it is looked at.
            with contextlib.suppress(OSError):
                pid = int(entry.name)
                parents[pid], used[pid] = read_stat((entry / "stat").read_text())
    return sum(ticks for pid, ticks in used.items() if _descends(pid, root, parents)) / _TICKS_PER_S


def read_stat(text: str) -> tuple[int, int]:
    """Return parent and CPU ticks (own and reaped children's) from the text of /proc/PID/stat."""
    # The command's name stands in brackets and may hold anything, brackets and spaces included.
    fields = text.rpartition(")")[2].split()
    return int(fields[1]), sum(map(int, fields[11:15]))


def _descends(pid: int, root: int, parents: dict[int, int]) -> bool:
    while pid and pid != root:
        pid = parents.get(pid, 0)
    return pid == root


def machine_seconds() -> float:
    """Return the CPU time that everything on this machine has used so far, and what its host took from it."""
    return machine_ticks(Path("/proc/stat").read_text()) / _TICKS_PER_S


def machine_ticks(text: str) -> int:
    """Return the ticks that are not idle from the text of /proc/stat."""
    user, nice, system, _idle, _wait, *interrupts_and_steal = map(int, text.splitlines()[0].split()[1:9])
    return user + nice + system + sum(interrupts_and_steal)


def reaped_seconds() -> float:
    """Return the CPU time of the children that this process has waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class Conditions(msgspec.Struct, frozen=True):
    """Under what conditions servers and load generators run."""

    nice: int = 0
    """Priority of both, where it may be set."""
    cores: Cores = "free"
    """`free` leaves the placement to the kernel. `apart` gives the generator the first core and the servers the others. `one` puts
    all on the last core: nothing is woken across cores, which is what makes figures jump on virtual machines."""

    def of_servers(self) -> set[int]:
        """Return the cores that servers may use."""
        allowed = sorted(os.sched_getaffinity(0))
        return set({"free": allowed, "apart": allowed[1:] or allowed, "one": allowed[-1:]}[self.cores])

    def of_generators(self) -> set[int]:
        """Return the cores that load generators may use."""
        allowed = sorted(os.sched_getaffinity(0))
        return set({"free": allowed, "apart": allowed[:1], "one": allowed[-1:]}[self.cores])


def settle(pid: int, nice: int, cores: set[int]) -> None:
    """Give a process that was just started, and its session, a priority and its cores; without the right to, nothing happens.

    The session counts as well where the kernel shares the machine between sessions first (autogroups). Threads inherit both.
    """
    with contextlib.suppress(OSError):
        os.sched_setaffinity(pid, cores)
        os.setpriority(os.PRIO_PROCESS, pid, nice)
        Path(f"/proc/{pid}/autogroup").write_text(str(nice))
