"""Loads a package into this process."""

from __future__ import annotations

import asyncio

from limen.packaging.archive.intact import ensure_intact
from limen.packaging.archive.package import Package
from limen.runtime.execution import load
from limen.runtime.placement.inline.sink import InlineSink
from limen.runtime.placement.trust import ensure_trusted


class InlinePlacement:
    """Runs every version inside the worker that serves it.

    A crash of the model is a crash of the worker, so this is for native runtimes and code that is trusted.
    """

    def __init__(self, *, trust_code: bool = False) -> None:
        """Say whether packages that bring their own code may run it here."""
        self._trust_code = trust_code

    async def start(self, package: Package, version: str) -> InlineSink:
        """Load the artifact in a thread, so that the worker goes on serving meanwhile."""
        ensure_trusted(package.manifest, trust_code=self._trust_code)
        return await asyncio.to_thread(_load, package, version)


def _load(package: Package, version: str) -> InlineSink:
    if package.digest:
        ensure_intact(package.root, package.digest)
    model, binding = load(package.root, package.manifest)
    is_native = not package.manifest.needs_trust
    return InlineSink(package.manifest.contract, version, model, binding, is_native=is_native)
