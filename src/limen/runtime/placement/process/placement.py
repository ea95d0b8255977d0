"""Answers with replicas managed by the control process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from limen.packaging.archive.package import Package
from limen.runtime.placement.process.pool.pool import ReplicaPool
from limen.runtime.placement.trust import ensure_trusted

CONNECT_S: Final = 30.0
"""How long the first replica of a version may take to answer; it is loaded by then."""


class ProcessPlacement:
    """Knows which replicas each version has, now and before it is started."""

    def __init__(
        self,
        *,
        trust_code: bool = False,
        on_poison: Callable[[str], None] | None = None,
    ) -> None:
        """Prepare.

        Args:
            trust_code: whether packages that bring their own code may run it.
            on_poison: is told the fingerprint of each request that is quarantined here.
        """
        self._trust_code = trust_code
        self._on_poison = on_poison
        self._paths: dict[tuple[str, str], tuple[str, ...]] = {}
        self._down: dict[tuple[str, str], str] = {}
        """Why no replica of a version can be started."""
        self._pools: dict[tuple[str, str], ReplicaPool] = {}
        self._quarantined: set[str] = set()

    def set_replicas(self, model: str, version: str, paths: Sequence[str], down: str = "") -> None:
        """Use the replicas at these sockets for a version, from now on or as soon as it is started; none forgets it.

        Args:
            model: the endpoint.
            version: its number.
            paths: of the sockets.
            down: why none of the replicas can be started, so that requests are refused at once.
        """
        key = model, version
        if paths:
            self._paths[key] = tuple(paths)
        else:
            self._paths.pop(key, None)
        if down:
            self._down[key] = down
        else:
            self._down.pop(key, None)
        pool = self._pools.get(key)
        if pool is not None:
            pool.set_replicas(paths)
            pool.set_down(down)

    def set_quarantined(self, fingerprints: Iterable[str]) -> None:
        """Run these requests no more, whatever version they are for."""
        self._quarantined.update(fingerprints)
        for pool in self._pools.values():
            pool.set_quarantined(self._quarantined)

    async def start(self, package: Package, version: str) -> ReplicaPool:
        """Return a pool once a replica answers; at once when the version has none just now.

        Raises:
            InvalidPackage: the package may not run here.
            Unavailable: no replica answers.
        """
        ensure_trusted(package.manifest, trust_code=self._trust_code)
        key = package.manifest.contract.name, version

        def forget() -> None:
            if self._pools.get(key) is pool:
                del self._pools[key]

        hang_after_s = package.manifest.serving.hang_after_s
        pool = ReplicaPool(
            *key, digest=package.digest, hang_after_s=hang_after_s, on_poison=self._on_poison, on_close=forget
        )
        self._pools[key] = pool
        pool.set_quarantined(self._quarantined)
        paths = self._paths.get(key, ())
        pool.set_replicas(paths)
        pool.set_down(self._down.get(key, ""))
        if paths or pool.down:
            try:
                await pool.wait_ready(CONNECT_S)
            except BaseException:
                await pool.close()
                raise
        return pool
