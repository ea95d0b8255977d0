"""Translates errors of the storage libraries into Limen's own.

Foreign errors carry SQL, paths and addresses with passwords in their text. None of it reaches a caller: the text is ours, and the
original is kept as the cause for the log of the process. Here are files; `database_faults` is apart, because processes without a database do
not import the library for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from limen.contracts.errors import Reason, Unavailable
from limen.storage import causes

RETRY_AFTER_S: Final = 1.0


@contextmanager
def file_faults(what: str) -> Iterator[None]:
    """Turn errors of the file system into ours; `what` names the store.

    Raises:
        Unavailable: STORAGE; it cannot be read or written. STORAGE_FULL.
    """
    try:
        yield
    except OSError as error:
        place = error.filename if isinstance(error.filename, str) else ""
        raise unavailable(f"{what} {causes.of_file(error)}", place=place) from error


def unavailable(text: str, *, place: str = "") -> Unavailable:
    """Return the error of a store that does not work just now, and where on this machine that is."""
    reason = Reason.STORAGE_FULL if causes.IS_FULL in text else Reason.STORAGE
    error = Unavailable(text, reason=reason, retry_after_s=RETRY_AFTER_S)
    error.place = str(Path(place).absolute()) if place else ""
    return error
