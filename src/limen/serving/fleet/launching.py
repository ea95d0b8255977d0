"""The name, socket and settings of a new replica. Used by `serving.fleet.fleet`; nothing is started here."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable

import msgspec

from limen.serving.fleet.records import Opened, Phase, Replica, Version
from limen.serving.messages.lines import ProcessPhase, ProcessSpec

LOG = logging.getLogger("limen.control")
AT_ONCE = max(2, os.cpu_count() or 2)
"""New versions that are loaded at the same time."""
TURN_S = 10.0
"""How long a version that loads may keep others from being started."""
Launch = Callable[[Opened, str, str, str], ProcessSpec]
"""Takes a package, a version number, a process name and a socket path; gives the replica to run."""

FindTemplate = Callable[[Opened], ProcessSpec | None]
"""Takes a package; gives the process that its replicas are forked from, if they are."""


class Launcher:
    """Makes the replicas of one server. No two have the same name or socket, whichever control process made them."""

    def __init__(self, launch: Launch, sockets: str, template: FindTemplate = lambda _: None) -> None:
        """Start with no replica.

        Args:
            launch: makes the spec of one.
            sockets: what the paths of their sockets begin with; no earlier control process has used it.
            template: finds what they are forked from.
        """
        self._template = template
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
        spec, template = self._launch(version.opened, version.number, name, path), self._template(version.opened)
        labels = {"version": version.number, "path": path, "replaces": replaces}
        labels["opened"] = msgspec.json.encode(version.opened).decode()
        spec = msgspec.structs.replace(spec, labels=labels, template=template.name if template is not None else "")
        version.replicas[name] = replica = Replica(name, path, spec, replaces=replaces)
        return replica

    def templates(self, versions: Iterable[Version]) -> tuple[ProcessSpec, ...]:
        """Return what the replicas of these versions are forked from, also those that have none just now."""
        found = (self._template(v.opened) for v in versions if not v.opened.is_inline and not v.is_gone)
        return tuple({spec.name: spec for spec in found if spec is not None}.values())

    def restart(self, version: Version) -> None:
        """Start the replicas of a version anew that could not be started, without waiting for the supervisor's pause."""
        for replica in [r for r in version.staying() if r.failed and r.phase is not ProcessPhase.STARTING]:
            del version.replicas[replica.name]
            # Nothing is better yet.
            self.start(version, replaces=replica.replaces).failed = replica.failed

    def replace_unreachable(self, versions: Iterable[Version], is_there: Callable[[str], bool]) -> None:
        """Have another replica take the place of each whose socket is gone: gateways that use it go on, and none that starts could."""
        for version in versions:
            replicas = version.staying() if version.phase is Phase.LIVE else []
            lost = [r for r in replicas if r.phase is ProcessPhase.RUNNING and not is_there(r.path)]
            if lost and not any(r.replaces for r in replicas):
                LOG.error("the socket of %s was lost; a new replica replaces it", lost[0].name)
                self.start(version, replaces=lost[0].name)

    def turns(self, versions: Iterable[Version], now: float) -> int:
        """Return how many new versions may be started now: a few at a time load sooner than all at once.

        One that takes long holds up the others for a moment only.
        """
        loading = (v for v in versions if v.phase is Phase.STARTING and v.replicas and now - v.since < TURN_S)
        return max(0, AT_ONCE - sum(not any(r.was_ready for r in v.replicas.values()) for v in loading))

    def note(self, name: str, path: str = "") -> None:
        """Learn of a replica that an earlier control process has made, or that is still there."""
        stem, _, count = name.rpartition("-")
        self._named[stem] = max(self._named.get(stem, 0), int(count))
        if path:
            self._serial = max(self._serial, int(path.rpartition("r")[2]))
