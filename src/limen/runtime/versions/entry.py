"""The version manager's record of one version, loaded or not. Used only by `runtime.versions.manager`."""

from __future__ import annotations

from limen.packaging.archive.package import Package
from limen.runtime.versions.handle import VersionHandle
from limen.runtime.versions.lifecycle import State, VersionStatus


class Entry:
    """One version: what was wanted of it, and how far it has come."""

    __slots__ = ("handle", "package", "reason", "state", "version")

    def __init__(self, version: str, package: Package) -> None:
        """Begin with a version that is wanted."""
        self.version = version
        self.package = package
        self.state = State.NEW
        self.reason = ""
        self.handle: VersionHandle | None = None

    def status(self, model: str) -> VersionStatus:
        """Return what is to be known of it; one that is loaded and whose replicas cannot be started has failed as far as callers see."""
        handle, state, reason = self.handle, self.state, self.reason
        if state is State.READY and handle is not None and handle.predictor.down:
            state, reason = State.FAILED, handle.predictor.down
        leases = handle.leases if handle is not None else 0
        return VersionStatus(model, self.version, state, reason, self.package.digest, leases)
