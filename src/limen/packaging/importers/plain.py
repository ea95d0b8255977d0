"""A single model file, as `limen init` takes it."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from limen.packaging.formats.known import Format
from limen.packaging.formats.sniff import examine
from limen.packaging.importers.draft import Draft


class PlainImporter:
    """Takes any file; whether a backend loads it is found out when the package is made."""

    kind: ClassVar[str] = "model file"

    def recognises(self, path: Path) -> bool:
        """Return whether it is a file."""
        return path.is_file()

    def read(self, path: Path, version: str) -> Draft:
        """Return the file, and whether it is a pickle by content."""
        return Draft(
            kind=self.kind,
            name=path.stem,
            artifact=path,
            is_pickle=examine(path).format is Format.PICKLE,
        )
