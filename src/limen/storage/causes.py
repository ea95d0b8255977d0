"""Explains storage failures: what happened to a file or a database, and what to do about it.

The words are for everybody. Where it happened is kept apart (`LimenError.place`): only the person at this machine may know its paths.
"""

from __future__ import annotations

import errno
from typing import Final

IS_FULL: Final = "is full"
NOT_PERMITTED: Final = "is not readable and writable by this user"
READ_ONLY: Final = "is on a file system that is read-only"
IN_THE_WAY: Final = "cannot be created: a file is in the way"
NOT_A_DATABASE: Final = "is not a database"
OF_ANOTHER: Final = "belongs to another program"
NEWER: Final = "was written by a newer release of Limen, which this release cannot read"
DAMAGED: Final = "is damaged"
DAMAGED_PACKAGE: Final = "the package stored for this version is damaged"
LOST_PACKAGE: Final = "the blob store has lost the package"
LOCKED: Final = "is locked by someone else"
BROKEN_DISK: Final = "cannot be read or written: the disk reports an error"
SILENT: Final = "does not answer"
TAKES_NO_CHANGES: Final = "is read-only"
NO_CONNECTION: Final = "has no free connections"
UNREACHABLE: Final = "cannot be reached"
REFUSED: Final = "refuses the credentials of this server"
NO_BUCKET: Final = "does not have the bucket"
WRONG_CLOCK: Final = "refuses requests, because the clock of this machine is wrong"
OVERLOADED: Final = "is overloaded"
GONE: Final = "is gone"
ANOTHER: Final = "is not the registry that this home follows"
GONE_BACK: Final = "has gone back to an earlier state"
UNREADABLE: Final = "cannot be read or written"
UNUSABLE: Final = "is temporarily unavailable"

_ELSEWHERE: Final = "Nothing was changed. Choose another folder with --home or LIMEN_HOME."
_BY_ERRNO: Final = {
    errno.ENOSPC: IS_FULL,
    errno.EDQUOT: IS_FULL,
    errno.EFBIG: IS_FULL,
    errno.EACCES: NOT_PERMITTED,
    errno.EPERM: NOT_PERMITTED,
    errno.EROFS: READ_ONLY,
    errno.ENOTDIR: IN_THE_WAY,
    errno.EEXIST: IN_THE_WAY,
    errno.EIO: BROKEN_DISK,
}
_BY_SQLITE: Final = {
    3: NOT_PERMITTED,
    5: LOCKED,
    6: LOCKED,
    8: NOT_PERMITTED,
    10: BROKEN_DISK,
    11: DAMAGED,
    13: IS_FULL,
    14: NOT_PERMITTED,
    23: NOT_PERMITTED,
    26: NOT_A_DATABASE,
}
"""By SQLite's result code."""
_BY_SQLSTATE: Final = {
    "25006": TAKES_NO_CHANGES,
    "28000": REFUSED,
    "28P01": REFUSED,
    "42501": NOT_PERMITTED,
    "53100": IS_FULL,
    "53300": NO_CONNECTION,
    "55P03": LOCKED,
    "57P01": UNREACHABLE,
    "57P02": UNREACHABLE,
    "57P03": UNREACHABLE,
    "58030": BROKEN_DISK,
}
_BY_S3_CODE: Final = {
    "403": REFUSED,
    "AccessDenied": REFUSED,
    "Forbidden": REFUSED,
    "InvalidAccessKeyId": REFUSED,
    "SignatureDoesNotMatch": REFUSED,
    "ExpiredToken": REFUSED,
    "NoSuchBucket": NO_BUCKET,
    "RequestTimeTooSkewed": WRONG_CLOCK,
    "RequestExpired": WRONG_CLOCK,
    "SlowDown": OVERLOADED,
    "ServiceUnavailable": OVERLOADED,
    "XMinioStorageFull": IS_FULL,
    "QuotaExceeded": IS_FULL,
}
_PUBLISH_AGAIN: Final = "Publish the same package again: this stores it again under the same number."
_DECIDE: Final = (
    "Restore the right one (`limen registry restore`), or make this home follow the current one (`limen registry adopt`). "
    "Until then a server serves its last plan."
)
_UNCHANGED: Final = "Nothing was changed. "
_STEPS: Final = {
    SILENT: _UNCHANGED + "Check that the server of the database or store is running and reachable, then run it again.",
    UNREACHABLE: _UNCHANGED + "Check that its server is running and reachable, then run it again.",
    TAKES_NO_CHANGES: _UNCHANGED + "The database server may be a standby or in read-only mode.",
    NO_CONNECTION: _UNCHANGED + "Raise max_connections on the database server, or connect fewer programs to it.",
    REFUSED: _UNCHANGED + "Check the credentials in the environment or the address, and their permissions.",
    NO_BUCKET: _UNCHANGED + "Create the bucket, or correct registry.blobs.",
    WRONG_CLOCK: _UNCHANGED + "Set the clock of this machine.",
    OVERLOADED: _UNCHANGED + "Run it again in a moment.",
    GONE: _DECIDE,
    ANOTHER: _DECIDE,
    GONE_BACK: _DECIDE,
    DAMAGED_PACKAGE: _PUBLISH_AGAIN,
    LOST_PACKAGE: _PUBLISH_AGAIN,
    NOT_PERMITTED: "Nothing was changed. Give this user write permission there, or choose another folder with --home or LIMEN_HOME.",
    READ_ONLY: _ELSEWHERE,
    IN_THE_WAY: _ELSEWHERE,
    NOT_A_DATABASE: _ELSEWHERE,
    OF_ANOTHER: _ELSEWHERE,
    NEWER: "Install that release, or choose another folder with --home or LIMEN_HOME.",
    DAMAGED: "Nothing was changed. Restore the database from a backup.",
    LOCKED: "Nothing was changed. Another process is writing; run it again in a moment.",
    BROKEN_DISK: "Nothing was changed. Check the disk, then run it again.",
    IS_FULL: "Nothing was changed. Free some space and run it again.",
}


def of_file(error: OSError) -> str:
    """Return what happened to a file or folder."""
    return _BY_ERRNO.get(error.errno or 0, UNREADABLE)


def of_database(sqlite_code: int | None, sqlstate: str | None) -> str:
    """Return what happened to a database.

    Args:
        sqlite_code: SQLite's result code, the extended one or the plain one in its low byte.
        sqlstate: PostgreSQL's.
    """
    found = _BY_SQLITE.get((sqlite_code or 0) & 0xFF) or _BY_SQLSTATE.get(sqlstate or "")
    return found or UNUSABLE


def is_known_of_database(sqlstate: str | None) -> bool:
    """Tell whether PostgreSQL's state says what is wrong with the database, and not with a statement of ours."""
    return (sqlstate or "") in _BY_SQLSTATE


def of_s3(code: str, kind: str) -> str:
    """Return what happened to a store that speaks S3.

    Args:
        code: what the service calls it; empty when it did not answer.
        kind: the name of the error of the library that calls it.
    """
    if code:
        return _BY_S3_CODE.get(code, UNUSABLE)
    if "Read" in kind:
        return SILENT
    return UNREACHABLE if "Connect" in kind or "Timeout" in kind else UNUSABLE


def next_step(message: str) -> str:
    """Return what to do about a failure that a message tells in these words, the longer ones first; nothing when it tells none."""
    return next((step for words, step in _STEPS.items() if words in message), "")
