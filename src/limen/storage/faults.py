"""What goes wrong below the store, told in our own words.

Foreign errors carry SQL, paths and addresses with passwords in their text. None of it reaches a caller: the text is ours, and the
original is kept as the cause for the log of the process.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from sqlalchemy import exc

from limen.contracts.errors import Internal, Reason, Unavailable

RETRY_AFTER_S: Final = 1.0

_UNREACHABLE: Final = (exc.OperationalError, exc.InterfaceError, exc.InternalError, exc.TimeoutError)
_OURS: Final = (exc.IntegrityError, exc.ProgrammingError, exc.DataError, exc.NotSupportedError)
_FULL: Final = frozenset([errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
_IS_FULL: Final = "is full"
_SQLITE_BUSY, _SQLITE_LOCKED, _SQLITE_FULL = 5, 6, 13
_LOCK_NOT_AVAILABLE, _DISK_FULL = "55P03", "53100"


@contextmanager
def database_faults() -> Iterator[None]:
    """Turn errors of the database into ours.

    Raises:
        Unavailable: STORAGE; it is locked, damaged or cannot be reached. STORAGE_FULL.
        Internal: a statement that it refuses, which is a mistake of ours.
    """
    try:
        yield
    except _OURS as error:
        raise Internal from error
    except (*_UNREACHABLE, exc.DatabaseError) as error:
        state = _database_state(error)
        raise unavailable(f"the registry's database {state}", is_full=state == _IS_FULL) from error
    except exc.SQLAlchemyError as error:
        raise Internal from error


@contextmanager
def file_faults(what: str) -> Iterator[None]:
    """Turn errors of the file system into ours; `what` names the store.

    Raises:
        Unavailable: STORAGE; it cannot be read or written. STORAGE_FULL.
    """
    try:
        yield
    except OSError as error:
        is_full = error.errno in _FULL
        raise unavailable(f"{what} {_IS_FULL if is_full else 'cannot be read or written'}", is_full=is_full) from error


def unavailable(text: str, *, is_full: bool = False) -> Unavailable:
    """Return the error of a store that does not work just now."""
    reason = Reason.STORAGE_FULL if is_full else Reason.STORAGE
    return Unavailable(text, reason=reason, retry_after_s=RETRY_AFTER_S)


def _database_state(error: exc.SQLAlchemyError) -> str:
    driver = getattr(error, "orig", None)
    # Extended codes of SQLite carry the plain one in their low byte; PostgreSQL says it with an SQLSTATE.
    number = (getattr(driver, "sqlite_errorcode", None) or 0) & 0xFF
    state = getattr(driver, "sqlstate", None)
    if number == _SQLITE_FULL or state == _DISK_FULL:
        return _IS_FULL
    if number in {_SQLITE_BUSY, _SQLITE_LOCKED} or state == _LOCK_NOT_AVAILABLE:
        return "is locked by someone else"
    return "cannot be used just now"
