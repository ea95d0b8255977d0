"""Starts each version in its placement: in the gateway itself, or in replicas managed by the control process."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from limen.packaging.archive.package import Package
from limen.runtime.placement.inline import InlinePlacement
from limen.runtime.placement.process.placement import ProcessPlacement
from limen.runtime.predictor import Sink


class ChosenPlacement:
    """Two placements, and which one each version has."""

    def __init__(self, inline: InlinePlacement, process: ProcessPlacement) -> None:
        """Start with every version in replicas."""
        self._inline = inline
        self._process = process
        self._inside: set[tuple[str, str]] = set()

    def set_inline(self, model: str, version: str) -> None:
        """Have a version run in this process when it is started next."""
        self._inside.add((model, version))

    def set_replicas(self, model: str, version: str, paths: Sequence[str], down: str = "") -> None:
        """Have a version use the replicas at these sockets, or refuse requests while none can be started."""
        self._inside.discard((model, version))
        self._process.set_replicas(model, version, paths, down)

    def set_quarantined(self, fingerprints: Iterable[str]) -> None:
        """Run these requests no more in any replica."""
        self._process.set_quarantined(fingerprints)

    async def start(self, package: Package, version: str) -> Sink:
        """Load the package where it is to run.

        Raises:
            InvalidPackage: the package cannot be loaded as it is.
            Unavailable: no replica answers.
        """
        is_inside = (package.manifest.contract.name, version) in self._inside
        return await (self._inline if is_inside else self._process).start(package, version)
