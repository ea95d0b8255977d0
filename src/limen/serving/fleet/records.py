"""Control's records of models, versions, replicas and gateways: plain records, changed only by `serving.fleet.fleet`."""

from __future__ import annotations

import math
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import msgspec

from limen.contracts.contract import Slo
from limen.contracts.endpoint import Route
from limen.contracts.oip.repository_index import UNLOADED
from limen.contracts.serving import Serving
from limen.contracts.snapshot import ServedEndpoint, ServedVersion
from limen.runtime.placement.process.wire.start import OOM_STATUS
from limen.runtime.versions.lifecycle import State, VersionLoad, VersionStatus
from limen.serving.fleet.scaling import ScalingState
from limen.serving.messages.lines import FirstWord, ModelSummary, ProcessPhase, ProcessSpec, ProcessState, Report

DEATH_WINDOW_S = 600.0
MAX_OOMS = 3
"""How often a version may run out of memory within the window and still be started again."""


class Phase(StrEnum):
    """Where a version is on its way into and out of use."""

    STARTING = "STARTING"
    """Its replicas are loading; gateways do not know of it yet."""
    LOADED = "LOADED"
    """A replica is ready; it waits for the versions it is to come into use with."""
    OFFERED = "OFFERED"
    """In the snapshot; gateways are getting it ready beside the one before."""
    LIVE = "LIVE"
    """Every gateway answers with it."""
    RETIRING = "RETIRING"
    """No longer wanted; its replicas stay while a gateway holds it."""
    FAILED = "FAILED"
    """Did not come into use; the reason is kept and shown."""
    UNLOADED = "UNLOADED"
    """Its endpoint is paused, and nothing of it is left but its number and where it comes from."""


class Aim(msgspec.Struct, frozen=True):
    """What an endpoint is to consist of."""

    routes: tuple[Route, ...] = ()
    """Shares of the requests that name no version."""
    aliases: dict[str, str] = {}
    """Alias to the number of its version."""
    versions: tuple[str, ...] = ()
    """Every version that is kept ready."""

    def without(self, numbers: frozenset[str]) -> Aim:
        """Return what is left of it when these versions cannot be had."""
        return Aim(
            tuple(r for r in self.routes if str(r.version) not in numbers),
            {alias: number for alias, number in self.aliases.items() if number not in numbers},
            tuple(n for n in self.versions if n not in numbers),
        )


class Opened(msgspec.Struct, frozen=True):
    """A package that was verified and may be served by an endpoint."""

    endpoint: str
    root: str
    digest: str
    origin: str
    serving: Serving
    summary: ModelSummary
    is_inline: bool = False
    """Whether it lives in the gateways, and has no replica."""
    inputs: dict[str, int] = {}
    """Protobuf numbers that the registry keeps for the inputs, by field."""
    outputs: dict[str, int] = {}
    """The same for the outputs."""
    environment: tuple[str, ...] = ()
    """Variables that its replicas are given on top of what every replica inherits."""


@dataclass(slots=True)
class Replica:
    """One wanted replica."""

    name: str
    path: str
    """Of its socket."""
    spec: ProcessSpec
    phase: ProcessPhase = ProcessPhase.STARTING
    pid: int = 0
    word: FirstWord | None = None
    status: int | None = None
    share: float = 0.0
    """How much it uses of the memory it may use, up to 1."""
    growth: tuple[float, float] = (0.0, 0.0)
    """By how much that grew in a second, at the last two looks."""
    end: str = ""
    """How its process ended the last time."""
    failed: str = ""
    """Why its last start failed; empty once it is ready."""
    was_ready: bool = False
    """Whether it has been ready once; then gateways may know it, and its socket comes back with it."""
    replaces: str = ""
    """The replica whose place it takes because that one has grown too large."""
    leaves_after: int = 0
    """The first revision without it; 0 while it is to stay."""
    leaves_by: float = 0.0

    @property
    def is_staying(self) -> bool:
        """Whether it is part of what should run."""
        return not self.leaves_after

    def learn(self, state: ProcessState) -> None:
        """Take note of what became of its process."""
        self.phase, self.pid, self.word = state.phase, state.pid, state.word
        self.status = state.status if state.status is not None else self.status
        if state.phase is ProcessPhase.RUNNING:
            self.was_ready, self.failed = True, ""
        elif state.word is not None and state.word.failed is not None:
            self.failed = state.word.failed.message
        elif state.word is None and state.phase in (ProcessPhase.PAUSED, ProcessPhase.ENDED):
            if self.was_ready and self.status == -signal.SIGKILL:
                return  # somebody killed it, which says nothing about the next start
            self.failed = f"the model's process ended while it was loading (status {self.status})"
            if self.status == OOM_STATUS:
                self.failed = "the model needs more memory to load than its limit"


@dataclass(slots=True)
class Version:
    """One version of a model."""

    number: str
    opened: Opened
    since: float
    """When its phase began."""
    phase: Phase = Phase.STARTING
    reason: str = ""
    revision: int = 0
    """The first revision in which it is offered, or no longer wanted."""
    was_offered: bool = False
    replicas: dict[str, Replica] = field(default_factory=dict)
    scaling: ScalingState | None = None
    """What the scaling rule remembers."""
    load_s: float = 0.0
    """How long its last replica took to load."""
    busy_at: float = -1.0
    """When it last had a request; negative before that is known."""
    requests: float = 0.0
    """How many it has had."""
    recycled_at: float = -math.inf
    """When a replica that had grown too large was last replaced."""
    recycle_pause_s: float = 0.0
    """How long the next one waits after that."""
    overgrown: str = ""
    """Why none can take the place of a replica that has grown too large; empty when one can, or none has."""
    ooms: list[float] = field(default_factory=list)
    block: str = ""
    """Why no replica is started for the time being."""
    blocked_until: float = 0.0
    lost: str = ""
    """Why its package, which is not whole, cannot be made again."""
    is_woken: bool = False
    """A request waits for it and it has no replica."""

    @property
    def is_coming(self) -> bool:
        """Whether it is on its way into use."""
        return self.phase in (Phase.STARTING, Phase.LOADED, Phase.OFFERED)

    @property
    def down(self) -> str:
        """Why nothing of it answers and nothing will soon: none of its replicas could be started the last time; empty otherwise."""
        staying = self.staying()
        if self.phase not in (Phase.OFFERED, Phase.LIVE) or not all(r.failed for r in staying):
            return ""
        text = staying[-1].failed if staying else self.block
        return f"{text}; {self.lost}" if self.lost else text

    @property
    def is_returning(self) -> bool:
        """Whether it has no replica that runs and may have one soon."""
        staying = self.staying()
        is_up = any(r.phase is ProcessPhase.RUNNING for r in staying)
        may_be_up = any(r.phase is ProcessPhase.STARTING or not r.failed for r in staying)
        return self.phase is Phase.LIVE and may_be_up and not is_up

    @property
    def is_gone(self) -> bool:
        """Whether it is only remembered, and would have to be loaded anew."""
        return self.phase in (Phase.FAILED, Phase.UNLOADED)

    def staying(self) -> list[Replica]:
        """Return the replicas that should go on."""
        return [r for r in self.replicas.values() if r.is_staying]

    def served(self) -> ServedVersion:
        """Return how gateways are told of it."""
        opened = self.opened
        told = ServedVersion(
            self.number,
            opened.root,
            opened.digest,
            opened.origin,
            is_inline=opened.is_inline,
            inputs=opened.inputs,
            outputs=opened.outputs,
        )
        if self.is_gone:
            return msgspec.structs.replace(told, failure=self.reason)
        paths = tuple(r.path for r in self.staying() if r.was_ready)
        return msgspec.structs.replace(told, replicas=paths, down=self.down)


@dataclass(slots=True)
class Endpoint:
    """One endpoint and its versions, oldest first."""

    name: str
    versions: dict[str, Version] = field(default_factory=dict)
    last_number: int = 0
    """Of the versions that are numbered here; those of a registry come with their numbers."""
    aim: Aim = field(default_factory=Aim)
    """What is wanted."""
    offer: Aim | None = None
    """What the snapshot says and gateways are still getting ready."""
    offered_at: float = 0.0
    revision: int = 0
    """The first revision with the offer."""
    good: Aim | None = None
    """What every gateway has answered with; what the snapshot says when nothing is offered."""
    serving: Serving | None = None
    slo: Slo | None = None
    problem: str = ""
    """Why the last thing that was wanted of it could not be had."""
    lacks_room: bool = False
    """Whether that was because this server has no room for it."""
    is_paused: bool = False
    """Nothing of it is to be loaded until it is wanted again."""
    is_expected: bool = False
    """Whether its packages are still brought here, so that nothing is decided about it yet."""
    is_removed: bool = False
    """It is wanted no more, and forgotten once nothing of it is left."""

    def find(self, phase: Phase) -> Version | None:
        """Return the newest version in a phase."""
        return next((v for v in reversed(self.versions.values()) if v.phase is phase), None)

    def holds_other(self, opened: Mapping[str, Opened]) -> bool:
        """Whether another package than one of these is there under its number."""
        return any(
            not version.is_gone and version.opened.digest != opened[number].digest
            for number, version in self.versions.items()
            if number in opened
        )

    def forget(self, version: Version, now: float) -> None:
        """Let a version go that nobody uses; while the endpoint is paused it is remembered."""
        if self.is_paused:
            version.phase, version.since, version.reason = Phase.UNLOADED, now, UNLOADED
            version.replicas.clear()
        else:
            del self.versions[version.number]

    @property
    def newest(self) -> Version:
        """The newest version that answers, or the newest one when none does."""
        return self.find(Phase.LIVE) or list(self.versions.values())[-1]

    @property
    def is_settled(self) -> bool:
        """Whether it is what it should be, or what is left of that."""
        return self.good is not None and self.offer is None and self.aim == self.good

    @property
    def is_empty(self) -> bool:
        """Whether nothing answers for it, and nothing is on its way."""
        return not (self.good or Aim()).versions and not any(v.is_coming for v in self.versions.values())

    def served(self) -> ServedEndpoint:
        """Return how gateways are told of it: what is offered or good, and what failed, for people to see."""
        now = self.offer or self.good or Aim()
        told = tuple(v.served() for v in self.versions.values() if v.number in now.versions or v.is_gone)
        is_paused = self.is_paused and not now.versions
        return ServedEndpoint(self.name, told, now.routes, now.aliases, self.serving, self.slo, is_paused)


@dataclass(slots=True)
class Gateway:
    """One gateway process."""

    name: str
    pid: int
    phase: ProcessPhase = ProcessPhase.STARTING
    is_linked: bool = False
    report: Report | None = None
    reported_at: float = 0.0
    """When it reported last."""
    statuses: dict[tuple[str, str], VersionStatus] = field(default_factory=dict)
    """What it reports, by endpoint and version."""
    loads: dict[tuple[str, str], VersionLoad] = field(default_factory=dict)

    def take(self, report: Report, now: float) -> None:
        """Learn what it reports. It is looked up by version: each of them is looked at several times a second."""
        self.report, self.reported_at = report, now
        self.statuses = {(s.model, s.version): s for s in report.versions}
        self.loads = {(w.model, w.version): w for w in report.loads}

    def status(self, model: str, number: str) -> VersionStatus | None:
        """Return what it reports of a version."""
        return self.statuses.get((model, number))

    @property
    def is_serving(self) -> bool:
        """Whether it answers callers, as far as is known."""
        return self.phase is ProcessPhase.RUNNING or self.is_linked

    def has_ready(self, model: str, number: str) -> bool:
        """Whether it answers with a version."""
        status = self.status(model, number)
        return status is not None and status.state is State.READY

    def holds(self, model: str, number: str) -> bool:
        """Whether it may still send requests to a version."""
        status = self.status(model, number)
        return status is not None and status.state not in (State.FAILED, State.UNLOADED)
