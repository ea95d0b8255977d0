"""Labels for the metrics of versions that are no longer served.

Each of them would stay for as long as the server runs, so those of one endpoint are shown as one series. A counter may not jump: its
rate would show requests that nobody sent now. So the series has another name whenever a version joins it or leaves it, made of the
revision with which that happened: it begins where it is, sums over versions stay what they were, and there is one at a time. What
endpoints counted that are gone is shown the same way, without a name.

Called by control for every snapshot, and for the text of the metrics.
"""

from __future__ import annotations

from collections.abc import Callable

from limen.contracts.snapshot import Snapshot
from limen.telemetry.metrics.file import Labels
from limen.telemetry.metrics.instrument import RETIRED, Scope

_SCOPES = (Scope.GATEWAY.value, Scope.RUNTIME.value)


class Retired:
    """Remembers since which revision each endpoint has had the versions that it has."""

    def __init__(self) -> None:
        """Start with no endpoint."""
        self._versions: dict[str, frozenset[str]] = {}
        self._since: dict[str, int] = {}
        """By endpoint; that of the empty name is the last one in which an endpoint came or went."""

    def note(self, snapshot: Snapshot) -> None:
        """Learn which versions are served from now on."""
        versions = {e.name: frozenset(v.number for v in e.versions) for e in snapshot.endpoints}
        for name, numbers in versions.items():
            if self._versions.get(name) != numbers:
                self._since[name] = snapshot.revision
        if versions.keys() != self._versions.keys():
            self._since = {name: since for name, since in self._since.items() if name in versions}
            self._since[""] = snapshot.revision
        self._versions = versions

    def naming(self) -> Callable[[Labels], Labels]:
        """Return what gives the labels under which a series is shown now."""
        versions, since = self._versions, dict(self._since)

        def shown(labels: Labels) -> Labels:
            if labels[0] not in _SCOPES:
                return labels
            scope, endpoint, version, *rest = labels
            known = versions.get(endpoint)
            if version in (known or ()) or (not version and (known is not None or not endpoint)):
                return labels
            name = endpoint if known is not None else ""
            return (scope, name, f"{RETIRED}-{since.get(name, 0)}", *rest)

        return shown
