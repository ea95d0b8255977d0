"""Placements: where a version's code runs. One folder each, with the same file names and a shared conformance suite."""

from __future__ import annotations

from typing import Protocol

from limen.packaging.archive.package import Package
from limen.runtime.predictor import Sink


class Placement(Protocol):
    """Starts what answers for a package."""

    async def start(self, package: Package, version: str) -> Sink:
        """Load the package and return what answers for it.

        Raises:
            InvalidPackage: the package cannot be loaded as it is.
        """
        ...
