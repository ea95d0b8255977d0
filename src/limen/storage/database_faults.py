"""What goes wrong in the database, told in our own words, as `storage.faults` does it for files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from sqlalchemy import exc

from limen.contracts.errors import Internal
from limen.storage import causes
from limen.storage.faults import unavailable

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
