"""Watches the free disk space of a running server: control can defer its own writes, and reports that it does.

Called by `serving.control.controlplane`.
"""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path
from typing import Final

from limen.contracts.conditions import ConditionReason

LOG = logging.getLogger("limen.control")
MIN_FREE_BYTES: Final = 1 << 20
"""Below this a disk counts as full: the next snapshot may not fit."""
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


class Room:
    """What is known of the disk that a server's folder is on."""

    def __init__(self, folder: Path, faults: dict[ConditionReason, str]) -> None:
        """Look after the disk of a folder; what is wrong with it goes to `faults`."""
        self._folder = folder
        self._faults = faults
        self._failure = ""
        """Why the last attempt to write came to nothing."""

    def look(self) -> None:
        """Note whether there is room now."""
        free = free_bytes(self._folder)
        if free is not None and free < MIN_FREE_BYTES:
            self._note(ConditionReason.STORAGE_FULL, f"the disk of {self._folder} is full ({free >> 10} KiB left)")
        elif self._failure:
            self._note(ConditionReason.STORAGE_FULL, self._failure)
        elif self._faults.pop(ConditionReason.STORAGE_FULL, ""):
            LOG.warning("the disk of %s has space again", self._folder)

    def failed(self, exc: OSError) -> None:
        """Note that something could not be written."""
        why = "is full" if exc.errno in _FULL else f"cannot be written: {exc.strerror or type(exc).__name__}"
        self._failure = f"the disk of {self._folder} {why}"
        self._note(ConditionReason.STORAGE_FULL, self._failure)

    def written(self) -> None:
        """Note that everything could be written."""
        self._failure = ""

    def _note(self, reason: ConditionReason, text: str) -> None:
        if reason not in self._faults:
            advice = "requests are still answered; nothing new is written until there is space"
            LOG.error("%s; %s", text, advice)
        self._faults[reason] = text


def free_bytes(folder: Path | str) -> int | None:
    """Return how much this process may still write where a folder is; None when that cannot be known."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return None
    return (found.f_bfree if os.getuid() == 0 else found.f_bavail) * found.f_frsize
