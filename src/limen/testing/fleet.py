"""A fleet whose processes exist only in the test: it decides as a real one does, and the test says what happens."""

from __future__ import annotations

from typing import Any, Final

from limen.runtime.versions.lifecycle import State, VersionLoad, VersionStatus
from limen.serving.fleet.fleet import Fleet
from limen.serving.fleet.launching import Launcher
from limen.serving.fleet.records import Opened, Version
from limen.serving.messages.lines import FirstWord, ProcessPhase, ProcessSpec, ProcessState, Report

FIRST_GATEWAY_PID: Final = 1001
FIRST_REPLICA_PID: Final = 2000


def launch(opened: Opened, number: str, name: str, path: str) -> ProcessSpec:
    """Return the spec of a replica that is never started."""
    return ProcessSpec(name, "replica", ("replica", opened.root, number, path))


class FakeFleet:
    """A fleet and the processes it believes in. Call what happens, then `tick`, then look at `fleet` and the last four methods."""

    def __init__(self, *, gateways: int = 2, fleet: Fleet | None = None, is_all_or_nothing: bool = True) -> None:
        """Make a fleet without endpoints.

        Args:
            gateways: how many gateways it wants, named g1, g2 and so on.
            fleet: the fleet to use; a new one when None.
            is_all_or_nothing: whether a new fleet serves nothing until everything can be served.
        """
        self.now = 100.0
        specs = tuple(ProcessSpec(f"g{i}", "gateway", ("gateway",)) for i in range(1, gateways + 1))
        self.fleet = fleet or Fleet(specs, Launcher(launch, "/sockets/"), is_all_or_nothing=is_all_or_nothing)
        self.gateways = {f"g{i}": FIRST_GATEWAY_PID - 1 + i for i in range(1, gateways + 1)}
        self.pids: dict[str, int] = {}
        self.phases: dict[str, ProcessPhase] = {}
        self.holds: dict[int, dict[tuple[str, str], State]] = {pid: {} for pid in self.gateways.values()}

    def tick(self, seconds: float = 0.0) -> None:
        """Let time pass, then have the fleet decide."""
        self.now += seconds
        self.fleet.tick(self.now)

    def start_gateways(self) -> None:
        """Start every gateway and connect it to control."""
        for name, pid in self.gateways.items():
            self.process(name, ProcessPhase.STARTING, pid, kind="gateway")
            self.fleet.link(name, pid)

    def process(self, name: str, phase: ProcessPhase, pid: int = 0, *, kind: str = "replica", **fields: Any) -> None:
        """Put a process in a phase; `fields` are others of `ProcessState`, and `is_oom` when the system killed it."""
        if kind == "replica":
            pid = pid or self.pids.setdefault(name, FIRST_REPLICA_PID + len(self.pids))
        self.phases[name] = phase
        is_oom = fields.pop("is_oom", False)
        state = ProcessState(name, kind, phase, pid, **fields)
        self.fleet.take_process(state, self.now, is_killed_by_system=is_oom)

    def ready(self, *names: str) -> None:
        """Have replicas say that they are ready."""
        for name in names:
            self.process(name, ProcessPhase.RUNNING, word=FirstWord(ready={"load_s": 0.5}))

    def died(self, name: str, status: int, *, is_oom: bool = False, phase: ProcessPhase = ProcessPhase.PAUSED) -> None:
        """End a replica with an exit status."""
        word = FirstWord(ready={}) if self.phases.get(name) is ProcessPhase.RUNNING else None
        self.process(name, phase, status=status, word=word, is_oom=is_oom)

    def report(self, *pids: int, loads: list[VersionLoad] | None = None) -> None:
        """Have gateways, all when none is named, report what they hold and that they follow the newest snapshot."""
        for pid in pids or tuple(self.gateways.values()):
            versions = tuple(
                VersionStatus(m, v, state, "wrong" * (state is State.FAILED))
                for (m, v), state in self.holds[pid].items()
            )
            self.fleet.take_report(pid, Report(self.fleet.snapshot.revision, versions, tuple(loads or ())), self.now)

    def follow(self) -> None:
        """Have every gateway do what the snapshot says, and report."""
        for pid in self.gateways.values():
            self.holds[pid] = {
                (m.name, v.number): State.FAILED if v.failure else State.READY
                for m in self.fleet.snapshot.endpoints
                for v in m.versions
            }
        self.report()

    def replicas(self) -> list[str]:
        """Return the names of the replicas that are wanted."""
        return [s.name for s in self.fleet.specs() if s.kind == "replica"]

    def served(self, model: str = "m") -> dict[str, tuple[str, ...]]:
        """Return the replicas of each version of an endpoint in the snapshot."""
        found = next((m for m in self.fleet.snapshot.endpoints if m.name == model), None)
        return {v.number: v.replicas for v in found.versions} if found else {}

    def version(self, number: str, model: str = "m") -> Version:
        """Return what the fleet knows of a version."""
        return self.fleet.endpoints[model].versions[number]
