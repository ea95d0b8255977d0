"""`origin.json` in a package: the source of an import, and the comparison with the original.

Written by `limen import`, read when the package is published. It is the author's word: it was not checked here, and nothing is fetched
from it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from limen.contracts.contract import Json

ORIGIN_NAME: Final = "origin.json"
MAX_BYTES: Final = 1 << 20


class Origin(msgspec.Struct, frozen=True):
    """What a package says of where it comes from."""

    source: str
    parity: dict[str, Json] | None = None
    """Rows that were compared and the largest difference; None when the original's file is used as it is."""


def read_origin(folder: Path) -> Origin | None:
    """Return what a package folder says; None when it says nothing that can be read."""
    try:
        with (folder / ORIGIN_NAME).open("rb") as file:
            return msgspec.json.decode(file.read(MAX_BYTES), type=Origin)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None
