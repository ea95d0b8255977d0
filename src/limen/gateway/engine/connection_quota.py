"""Limits callers' share of a gateway's open files, so that some are always left for its models and itself."""

from __future__ import annotations

import os
from typing import Final

from limen.runtime.sandbox.open_files import OWN_FILES, file_limit, spare_files

MAX_CONNECTIONS: Final = 1 << 16


def grpc_connections() -> int:
    """Return how many connections the gRPC listener takes, which cannot give any up for another caller."""
    return max(4, min(MAX_CONNECTIONS, (file_limit() - OWN_FILES) // 4))


class FileMark:
    """Knows when so many files are open that no caller should get another one.

    The system gives every new file the lowest number that is free, so the number alone says how many are open.
    """

    def __init__(self) -> None:
        """Take the limit of this process as it is now."""
        limit = file_limit()
        self.most = limit - spare_files(limit)
        """The number from which on a file is one of those that callers do not get."""

    def is_reached(self, descriptor: int) -> bool:
        """Whether the file that was opened last was one too many for a caller."""
        return descriptor >= self.most

    def has_room(self, descriptor: int) -> bool:
        """Whether one more caller may have a file; `descriptor` is any that is open."""
        try:
            lowest = os.dup(descriptor)
        except OSError:
            return False
        os.close(lowest)
        return lowest < self.most
