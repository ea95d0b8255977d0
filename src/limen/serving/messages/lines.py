"""Messages between the processes of one server: JSON, one message per line.

Three conversations use it: the supervisor with the control process (over its standard input and output), gateways with control
and commands with control (both over the control socket). Every other process says one line, `FirstWord`, on standard output.
The module only names the messages; who may say what stands with each.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

from limen.contracts.conditions import Condition
from limen.contracts.errors import ErrorCode, LimenError, Violation
from limen.contracts.oip.repository_index import IndexEntry
from limen.contracts.snapshot import LogLevels, Snapshot
from limen.runtime.versions.lifecycle import VersionLoad, VersionStatus
from limen.serving.messages.settings import SettingsView

MAX_LINE_BYTES = 16 << 20
"""A longer line is a fault of the other end; a snapshot of a thousand versions has about half a mebibyte."""


class Failure(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why something cannot be done, for people."""

    message: str
    reason: str = ""
    """A catalogue reason; empty when the failure is not one of a package."""
    violations: tuple[Violation, ...] = ()
    hint: str = ""


class FirstWord(msgspec.Struct, frozen=True, omit_defaults=True):
    """The first line of every process: exactly one of the two is set."""

    ready: dict[str, Any] | None = None
    """It can be used; what else it has to say."""
    failed: Failure | None = None
    """It cannot, and why."""


class ProcessSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """One wanted process. The name is its identity: a spec that changes under the same name counts from the next start."""

    name: str
    kind: str
    """Processes are ended kind by kind; others are forked from one of the kind `template`."""
    argv: tuple[str, ...]
    hello: str = ""
    """The line it reads first."""
    environment: dict[str, str] | None = None
    """All of its environment; the supervisor's own when None."""
    template: str = ""
    """The name of the process that it is forked from; it is started as a program when that one cannot be had."""
    is_restarted: bool = True
    stop_s: float = 20.0
    """How long it may take to stop before it is killed."""
    silence_s: float = 0.0
    """How long it may say nothing, once it is ready, before it is taken for hung and started again; 0 for a process that says nothing."""
    is_essential: bool = False
    """Whether it is never waited for long before it is started again."""
    budget: int = 0
    """How often it may be restarted in ten minutes before it is given up; 0 for any number of times."""
    labels: dict[str, str] = {}
    """Whatever a later control process needs to recognise it."""


class ProcessPhase(StrEnum):
    """Where a process is in its life."""

    STARTING = "starting"
    """It has not said its first word."""
    RUNNING = "running"
    """It has said that it is ready."""
    REFUSING = "refusing"
    """It has said why it cannot be ready, and has not ended yet."""
    PAUSED = "paused"
    """It has ended and is started again after a pause."""
    STOPPING = "stopping"
    """It was asked to end."""
    ENDED = "ended"
    """It was removed and stays so."""


class ProcessState(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the supervisor knows of one process."""

    name: str
    kind: str
    phase: ProcessPhase
    pid: int = 0
    """Of the running process, or of the last one."""
    word: FirstWord | None = None
    """What it said first in this life."""
    status: int | None = None
    """How it ended the last time; negative for a signal."""
    restarts: int = 0
    hangs: int = 0
    """How many of these were because it did not go on."""
    started_at: float = 0.0
    """Seconds since the epoch."""
    is_oom: bool = False
    """Whether the system killed it the last time for want of memory."""


class Resume(msgspec.Struct, frozen=True, tag="resume"):
    """Supervisor to control, first of all: what an earlier control process wanted, and what is so."""

    specs: tuple[ProcessSpec, ...] = ()
    states: tuple[ProcessState, ...] = ()


class Changed(msgspec.Struct, frozen=True, tag="changed"):
    """Supervisor to control: a process has changed."""

    state: ProcessState


class Want(msgspec.Struct, frozen=True, tag="want"):
    """Control to supervisor: exactly these processes are wanted beside control itself."""

    specs: tuple[ProcessSpec, ...]


class Tell(msgspec.Struct, frozen=True, tag="tell"):
    """Control to whoever started the server; the supervisor passes it on unread."""

    payload: msgspec.Raw


class Beat(msgspec.Struct, frozen=True, tag="beat"):
    """Control and gateways to the supervisor, about once a second: they go on. One that says nothing for long is ended and started again."""


ToSupervisor = Want | Tell


class ModelSummary(msgspec.Struct, frozen=True):
    """One model as the summary of a started server shows it."""

    name: str
    backend: str
    inputs: int
    outputs: int
    title: str = ""
    example: str = ""
    """The body of a request that works, when it may be shown and fits on a line."""


class Started(msgspec.Struct, frozen=True, tag="started"):
    """In a `Tell`: every gateway answers for every model."""

    models: tuple[ModelSummary, ...]
    grpc_engine: str = ""
    """The gRPC engine."""
    waiting: tuple[str, ...] = ()
    """Endpoints that nothing answers for yet."""


class Notice(msgspec.Struct, frozen=True, tag="notice"):
    """In a `Tell`: something happened that whoever watches the server wants to read."""

    text: str


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """In a `Tell`: the server cannot start. To a command: what it asked for cannot be done."""

    failure: Failure


Told = Started | Notice | Refused


# -- gateways and control --------------------------------------------------------------------------------------------------


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """Gateway to control, first of all."""

    name: str
    pid: int


class Report(msgspec.Struct, frozen=True, tag="report"):
    """Gateway to control, after every change and once a second."""

    revision: int
    """Of the last snapshot that it works towards."""
    versions: tuple[VersionStatus, ...] = ()
    loads: tuple[VersionLoad, ...] = ()
    is_draining: bool = False


class Wake(msgspec.Struct, frozen=True, tag="wake"):
    """Gateway to control: a request waits for a version that has no replica."""

    model: str
    version: str


class Poison(msgspec.Struct, frozen=True, tag="poison"):
    """Gateway to control: a request with this fingerprint has killed a replica."""

    fingerprint: str


class Apply(msgspec.Struct, frozen=True, tag="apply"):
    """Control to gateway: serve this."""

    snapshot: Snapshot
    is_first: bool = False
    """Whether the server has not been ready yet: then a model that fails keeps the ports closed."""
    is_started: bool = True
    """Whether everything has answered once: then a gateway that joins waits for all of it."""


# -- commands and control --------------------------------------------------------------------------------------------------


class AskStatus(msgspec.Struct, frozen=True, tag="status"):
    """Command to control: how are you?"""


class AskReload(msgspec.Struct, frozen=True, tag="reload"):
    """Command to control: load the package of a model again, as its next version."""

    model: str
    package: str = ""
    """Another folder or archive of the same name; the one it was loaded from when empty."""


class AskIndex(msgspec.Struct, frozen=True, tag="index"):
    """Gateway to control: which versions are there?"""


class AskLoad(msgspec.Struct, frozen=True, tag="load"):
    """Gateway to control: have an endpoint answer, with what it is to consist of now."""

    name: str


class AskUnload(msgspec.Struct, frozen=True, tag="unload"):
    """Gateway to control: have an endpoint let everything go until it is loaded again."""

    name: str


class AskLog(msgspec.Struct, frozen=True, tag="log"):
    """Gateway to control: log these requests in all gateways; the settings that are None stay."""

    info: bool | None = None
    warning: bool | None = None
    error: bool | None = None


class Index(msgspec.Struct, frozen=True, tag="indexed"):
    """Control to gateway: every endpoint with its versions."""

    entries: tuple[IndexEntry, ...]


class Logging(msgspec.Struct, frozen=True, tag="logging"):
    """Control to gateway: what is logged."""

    levels: LogLevels


class Done(msgspec.Struct, frozen=True, tag="done"):
    """Control to gateway: it is as was asked for."""


class Denied(msgspec.Struct, frozen=True, tag="denied"):
    """Control to gateway: what was asked for cannot be done."""

    code: ErrorCode
    failure: Failure


class ProcessView(msgspec.Struct, frozen=True):
    """One process in a status."""

    name: str
    kind: str
    pid: int
    phase: str
    rss_bytes: int
    """0 where the system does not say."""
    restarts: int
    uptime_s: float
    note: str = ""
    model: str = ""
    version: str = ""
    hangs: int = 0


class VersionView(msgspec.Struct, frozen=True):
    """One version in a status, over all gateways."""

    version: str
    state: str
    reason: str
    digest: str
    origin: str
    replicas: int
    leases: int
    in_hand: int
    waiting: int
    wait_s: float


class WindowView(msgspec.Struct, frozen=True):
    """What callers have seen of a model in the last minutes."""

    over_s: float
    """How long that is."""
    requests: int
    errors: int
    p50_ms: float
    p95_ms: float
    p99_ms: float


class TrafficView(msgspec.Struct, frozen=True):
    """What callers have seen of a model since the server started."""

    requests: int
    errors: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    recent: WindowView | None = None


class ModelView(msgspec.Struct, frozen=True):
    """One model in a status."""

    name: str
    versions: tuple[VersionView, ...]
    problem: str = ""
    """Why the last package that was given for it was not loaded."""
    traffic: TrafficView | None = None
    conditions: tuple[Condition, ...] = ()


class Status(msgspec.Struct, frozen=True, tag="answer"):
    """Control to command: the whole server at one moment."""

    pid: int
    uptime_s: float
    http: str
    grpc: str
    metrics: str
    revision: int
    is_ready: bool
    """The condition Ready, in short."""
    processes: tuple[ProcessView, ...]
    models: tuple[ModelView, ...]
    conditions: tuple[Condition, ...] = ()
    """Of the server; each model has its own."""
    settings: SettingsView = SettingsView()


class Reloaded(msgspec.Struct, frozen=True, tag="reloaded"):
    """Control to command: how a reload ended."""

    model: str
    version: str
    replaced: str
    """The version that answered before."""
    took_s: float
    failure: str = ""
    """Why it did not come into use; the version before goes on."""


Operation = AskIndex | AskLoad | AskUnload | AskLog
"""What a gateway asks on a connection of its own, for a caller of the protocol's management extensions."""
ToOperation = Index | Logging | Done | Denied
FromClient = Hello | Report | Wake | Poison | AskStatus | AskReload | Operation
ToCommand = Status | Reloaded | Refused


def line(message: msgspec.Struct) -> bytes:
    """Return a message as it goes over the wire."""
    return msgspec.json.encode(message) + b"\n"


def failure_of(exc: LimenError) -> Failure:
    """Return an error as it crosses a process boundary."""
    return Failure(exc.message, exc.reason.value, exc.violations)
