"""Translates errors of the storage libraries into Limen's own.

Foreign errors carry SQL, paths and addresses with passwords in their text. None of it reaches a caller: the text is ours, and the
original is kept as the cause for the log of the process.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sqlalchemy import exc

from limen.contracts.errors import Internal, Reason, Unavailable
from limen.storage import causes

RETRY_AFTER_S: Final = 1.0

_UNREACHABLE: Final = (exc.OperationalError, exc.InterfaceError, exc.InternalError, exc.TimeoutError)
_OURS: Final = (exc.IntegrityError, exc.ProgrammingError, exc.DataError, exc.NotSupportedError)


@contextmanager
def database_faults(place: str = "") -> Iterator[None]:
    """Turn errors of the database into ours.

    Args:
        place: its file, for the person at this machine.

    Raises:
        Unavailable: STORAGE; it is locked, damaged, not ours or cannot be reached. STORAGE_FULL.
        Internal: a statement that it refuses, which is a mistake of ours.
    """
    try:
        yield
    except (*_OURS, *_UNREACHABLE, exc.DatabaseError) as error:
        driver = getattr(error, "orig", None)
        sqlstate = getattr(driver, "sqlstate", None)
        if isinstance(error, _OURS) and not causes.is_known_of_database(sqlstate):
            raise Internal from error
        state = causes.of_database(getattr(driver, "sqlite_errorcode", None), sqlstate)
        if state == causes.UNUSABLE and isinstance(error, exc.OperationalError):
            state = _of_a_line(driver)
        raise unavailable(f"the registry's database {state}", place=place) from error
    except exc.SQLAlchemyError as error:
        raise Internal from error


def _of_a_line(driver: object) -> str:
    """Return what happened to the line to a database server that has not said anything itself."""
    if type(driver).__module__.startswith("sqlite3"):
        return causes.UNUSABLE
    is_silent = str(driver) == causes.SILENT or type(driver).__name__ == "ConnectionTimeout"
    return causes.SILENT if is_silent else causes.UNREACHABLE


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
