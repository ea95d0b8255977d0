"""Conditions of endpoints and servers, in the form that Kubernetes established: type, status, reason and time of the last change.

Derived in one place, `serving.control.condition_rules`; status, management API, command line and metrics show the same ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from typing import Final

import msgspec


class ConditionType(StrEnum):
    """What a condition is about. An endpoint and a server each have all four."""

    READY = "Ready"
    """Callers get answers."""
    STALE = "Stale"
    """It is served from its last known state, because the registry cannot be read."""
    PROGRESSING = "Progressing"
    """It is changing to match its spec."""
    DEGRADED = "Degraded"
    """It does not match its spec, and waiting does not help."""


class ConditionStatus(StrEnum):
    """Whether a condition holds."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"
    """No process has reported its status yet."""


class ConditionReason(StrEnum):
    """Why a condition has its status, for programs. The message says it for people."""

    ANSWERS = "Answers"
    """Every gateway answers with the versions that take requests."""
    PAUSED = "Paused"
    """The spec says that nothing of it is loaded."""
    LOADING = "Loading"
    """Versions are being loaded."""
    STARTING = "Starting"
    """The server has not been ready since it started."""
    NO_VERSION = "NoVersion"
    """Nothing of it has been loaded yet."""
    NO_GATEWAY = "NoGateway"
    """No gateway has its ports open."""
    NOT_REPORTED = "NotReported"
    """No gateway has reported yet; the control process has just restarted."""
    VERSION_NOT_READY = "VersionNotReady"
    """A gateway cannot serve a version it should serve."""
    VERSION_FAILED = "VersionFailed"
    """The newest version could not be put into use."""
    PACKAGE_UNAVAILABLE = "PackageUnavailable"
    """A package is unavailable or not allowed to be served."""
    NO_ROOM = "NoRoom"
    """The limit of open files leaves no room for its replicas."""
    REPLICAS_MISSING = "ReplicasMissing"
    """Replicas have died and are not back."""
    MEMORY_LIMIT = "MemoryLimit"
    """A replica has outgrown its memory limit, and none can start in its place."""
    GATEWAYS_MISSING = "GatewaysMissing"
    """Gateways are gone or silent."""
    ENDPOINTS_NOT_READY = "EndpointsNotReady"
    """Endpoints of the server are not ready."""
    ENDPOINTS_DEGRADED = "EndpointsDegraded"
    """Endpoints of the server are degraded."""
    ENDPOINTS_PROGRESSING = "EndpointsProgressing"
    """Endpoints of the server are changing to match their specs."""
    SETTLED = "Settled"
    """It matches its spec."""
    AS_SPECIFIED = "AsSpecified"
    """No problems are known."""
    SOURCE_FOLLOWED = "SourceFollowed"
    """Its source can be read."""
    STORAGE_FULL = "StorageFull"
    """The disk of the server's folder is full or read-only."""
    SETTINGS_INVALID = "SettingsInvalid"
    """The settings file has a mistake or is gone; the settings before still hold."""
    REGISTRY_UNAVAILABLE = "RegistryUnavailable"
    """The registry cannot be reached or read."""


class Condition(msgspec.Struct, frozen=True):
    """One condition of an endpoint or a server."""

    type: ConditionType
    status: ConditionStatus
    reason: ConditionReason
    message: str
    """The reason for people, with its particulars."""
    since: datetime
    """When the status became this one."""

    @property
    def is_true(self) -> bool:
        """Whether it is known to hold."""
        return self.status is ConditionStatus.TRUE

    @property
    def is_as_hoped(self) -> bool:
        """Whether it is how it should be in quiet times: ready, and nothing else."""
        return self.is_true if self.type is ConditionType.READY else self.status is ConditionStatus.FALSE

    @property
    def needs_attention(self) -> bool:
        """Whether it is not how it should be, for a reason that does not pass by itself."""
        is_passing = self.type is ConditionType.PROGRESSING or self.status is ConditionStatus.UNKNOWN
        return not self.is_as_hoped and not is_passing and self.reason not in _EXPECTED


_EXPECTED: Final = (ConditionReason.LOADING, ConditionReason.STARTING)
"""Reasons for not being ready that pass by themselves."""


def find(conditions: Iterable[Condition], kind: ConditionType) -> Condition | None:
    """Return the condition of a type; None where nothing is known."""
    return next((c for c in conditions if c.type is kind), None)


def holds(conditions: Iterable[Condition], kind: ConditionType) -> bool:
    """Whether the condition of a type is known to hold."""
    found = find(conditions, kind)
    return found is not None and found.is_true
