"""How many open files a server's processes need, and how many replicas a limit allows.

All processes of a server have the same limit (`ulimit -n`, raised as far as the system allows when it starts). What one more replica
takes: three files of the supervisor and one of each gateway. What one more caller takes: one file of a gateway.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from limen.runtime.sandbox.open_files import MAX_FILES, OWN_FILES, caller_files, spare_files
from limen.serving.fleet.records import Version

FILES_PER_CHILD: Final = 3
"""What the supervisor has open for each of its processes."""
TEMPLATES: Final = 2
"""Templates that a server is reckoned with; most have models of one or two backends."""
SUCCESSORS: Final = 2
"""Replicas for which there is room only when they follow others, so that a full server can still be brought another version."""


class Room(NamedTuple):
    """What one server has room for."""

    limit: int = MAX_FILES
    """Files that each of its processes may have open."""
    gateways: int = 1

    @property
    def replicas(self) -> int:
        """How many replicas there may be."""
        in_gateway = self.limit - OWN_FILES - spare_files(self.limit) - caller_files(self.limit)
        # Control, each gateway with the one that takes its place, and what replicas are forked from.
        in_supervisor = (self.limit - OWN_FILES) // FILES_PER_CHILD - 1 - 2 * self.gateways - TEMPLATES
        return max(0, min(in_gateway, in_supervisor))

    def lacks(self, wanted: int, versions: Iterable[Version], *, is_successor: bool) -> str:
        """Return why so many replicas cannot be started on top of what there is; empty when they can.

        Args:
            wanted: how many more.
            versions: all of the server.
            is_successor: whether they are to take the place of others.
        """
        most = self.replicas - (0 if is_successor else min(SUCCESSORS, self.replicas // 4))
        there = sum(len(version.replicas) for version in versions)
        if there + wanted <= most:
            return ""
        return (
            f"too few open files: each process of this server may have {self.limit} files open (ulimit "
            f"-n), enough for {self.replicas} replicas; raise the limit, or serve fewer endpoints or replicas"
        )

    def started(self, version: Version, starts: Sequence[str], versions: Iterable[Version]) -> Sequence[str]:
        """Return which of the replicas that a version in use should get may be started; the version says why not all."""
        if not starts or not (text := self.lacks(len(starts), versions, is_successor=any(starts))):
            return starts
        version.block = text
        return ()


AMPLE: Final = Room()
"""For a server whose limit nobody meets."""
