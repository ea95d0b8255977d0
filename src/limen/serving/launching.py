"""What a new replica is called, where it listens and how it is run. Used by `serving.fleet`; no input or output."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from limen.serving.fleet_records import Opened, Replica, Version
from limen.serving.messages import ProcessPhase, ProcessSpec

Launch = Callable[[Opened, str, str, str], ProcessSpec]
"""Takes a package, a version number, a process name and a socket path; gives the replica to run."""


class Launcher:
    """Makes the replicas of one server. No two have the same name or socket, whichever control process made them."""

    def __init__(self, launch: Launch, sockets: str) -> None:
        """Start with no replica.

        Args:
            launch: makes the spec of one.
            sockets: what the paths of their sockets begin with; no earlier control process has used it.
        """
        self._launch = launch
        self._sockets = sockets
        self._serial = 0
        self._named: dict[str, int] = {}
        """How many replicas of each version have had a name. A version that comes back does not meet those that are still ending."""

    def start(self, version: Version, *, replaces: str = "") -> Replica:
        """Want one more replica of a version, and return it."""
        self._serial += 1
        stem = f"{version.opened.endpoint}-v{version.number}"
        self._named[stem] = self._named.get(stem, 0) + 1
        name = f"{stem}-{self._named[stem]}"
        path = f"{self._sockets}r{self._serial}"
        spec = self._launch(version.opened, version.number, name, path)
        labels = {"version": version.number, "path": path, "replaces": replaces}
        spec = msgspec.structs.replace(spec, labels=labels | {"opened": msgspec.json.encode(version.opened).decode()})
        version.replicas[name] = replica = Replica(name, path, spec, replaces=replaces)
        return replica

    def restart(self, version: Version) -> None:
        """Start the replicas of a version anew that could not be started, without waiting for the supervisor's pause."""
        for replica in [r for r in version.staying() if r.failed and r.phase is not ProcessPhase.STARTING]:
            del version.replicas[replica.name]
            # Nothing is better yet.
            self.start(version, replaces=replica.replaces).failed = replica.failed

    def note(self, name: str, path: str = "") -> None:
        """Learn of a replica that an earlier control process has made, or that is still there."""
        stem, _, count = name.rpartition("-")
        self._named[stem] = max(self._named.get(stem, 0), int(count))
        if path:
            self._serial = max(self._serial, int(path.rpartition("r")[2]))
