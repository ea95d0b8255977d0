"""Chooses the version for a request that names none: pure, with the same answer for the same request everywhere.

A share is a part of the numbers that requests hash to. Raising the first version's share keeps what it had, so that a caller who asks
again with the same id gets the same version as long as the shares allow it. Called by `serving.dataplane.plane`.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

from limen.contracts.endpoint import Route

_UNITS = 1 << 64


class Split:
    """The shares of one endpoint whose requests go to several versions."""

    __slots__ = ("_bounds", "_salt")

    def __init__(self, endpoint: str, routes: Sequence[Route]) -> None:
        """Prepare to choose; whatever the weights sum to is shared as they say."""
        self._salt = blake2b(endpoint.encode(), digest_size=16).digest()
        self._bounds: list[tuple[int, str]] = []
        whole, total = sum(route.weight for route in routes), 0
        for route in routes:
            total += route.weight
            self._bounds.append((total * _UNITS // whole, str(route.version)))

    def route(self, unit: str) -> str:
        """Return the number of the version that answers a unit, such as a request id."""
        drawn = int.from_bytes(blake2b(unit.encode(), digest_size=8, salt=self._salt).digest())
        return next(version for bound, version in self._bounds if drawn < bound)
