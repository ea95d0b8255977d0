"""Where a registry lives: the home folder by default, or a named database and blob store.

`limen.settings` composes it with the settings of the other packages; `storage.opening` opens it.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Final

import msgspec

HOME: Final = ".limen"
SQLITE: Final = "sqlite:///"
"""What the address of a database in a file begins with; the rest is its path, as it is."""


class StorageConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Where state is kept. Credentials of an S3 store are not here: they stay in the environment."""

    home: Path = Path(HOME)
    """Folder of all state without a setting of its own."""
    database_url: str = ""
    """`postgresql://…` or `sqlite:////…`; `limen.db` in the home folder when empty. May hold a password."""
    blobs: str = ""
    """A folder or `s3://bucket/prefix`; `blobs` in the home folder when empty."""
    s3_endpoint: str = ""
    """Address of the S3 service; if empty, AWS_ENDPOINT_URL or the default of AWS."""

    @property
    def database_address(self) -> str:
        """The address of the database, the password included."""
        return self.database_url or f"{SQLITE}{(self.home / 'limen.db').absolute()}"

    @property
    def database_id(self) -> str:
        """What tells this database from another, without the credentials in its address."""
        return hashlib.sha256(re.sub(r"//[^@/]*@", "//", self.database_address).encode()).hexdigest()

    @property
    def database_file(self) -> Path | None:
        """The file of the database; None for one that is reached over a network."""
        address = self.database_address
        return Path(address.removeprefix(SQLITE)) if address.startswith(SQLITE) else None

    @property
    def blobs_address(self) -> str:
        """The address of the blob store."""
        return self.blobs or str(self.home / "blobs")

    def __repr__(self) -> str:
        database = "postgresql" if self.database_url.startswith("postgres") else "sqlite"
        return (
            f"StorageConfig(home={str(self.home)!r}, database={database}, blobs={'s3' if self.is_remote else 'folder'})"
        )

    @property
    def is_remote(self) -> bool:
        """Whether blobs are kept in an S3 store."""
        return self.blobs.startswith("s3://")
