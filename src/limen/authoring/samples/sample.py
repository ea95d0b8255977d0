"""The `Sample` value: columns by name, and the guesses made while reading them. Nothing is read here."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

import msgspec

from limen.contracts.errors import InvalidPackage
from limen.contracts.tensors import Array
from limen.packaging.importers.draft import WHOLE

SAMPLE_ROWS: Final = 10_000
"""Rows that are looked at; more say little more."""
UNNAMED: Final = "Unnamed: 0"
"""What pandas calls a column without a name: the index of the frame that was saved."""


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of example data."""

    columns: Mapping[str, Array]
    """Columns by name, all of the same length; or one array under `WHOLE`."""
    source: str = "the sample"
    """What people call it."""
    reasons: Mapping[str, str] = {}
    """Why a column has the type it has, where its cells alone do not show it."""
    categories: Mapping[str, tuple[bool | int | float | str, ...]] = {}
    """Values that the source declares for a column of text: all that it can hold."""
    notes: tuple[str, ...] = ()
    """What was guessed about the file, for people."""
    is_typed: bool = False
    """The source has types of its own: a frame, Parquet, arrays."""

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return len(next(iter(self.columns.values()), ()))

    @property
    def whole(self) -> Array | None:
        """The only array, when the sample is one and not columns."""
        return self.columns.get(WHOLE)

    def having(self, columns: Mapping[str, Array]) -> Sample:
        """Return the sample with other columns."""
        return msgspec.structs.replace(self, columns=columns)

    def without(self, names: Collection[str]) -> Sample:
        """Return the sample without some columns."""
        return msgspec.structs.replace(self, columns={n: a for n, a in self.columns.items() if n not in names})

    def renamed(self, names: Mapping[str, str]) -> Sample:
        """Return the sample with other names for some columns."""

        def new(found: Mapping[str, object]) -> dict[str, object]:
            return {names.get(name, name): value for name, value in found.items()}

        return msgspec.structs.replace(
            self, columns=new(self.columns), reasons=new(self.reasons), categories=new(self.categories)
        )

    def with_note(self, *notes: str) -> Sample:
        """Return the sample with more to say."""
        return msgspec.structs.replace(self, notes=(*self.notes, *notes))


def ensure_rows(sample: Sample) -> Sample:
    """Return the sample, or raise `InvalidPackage` when it has no rows or columns of different lengths."""
    lengths = {len(array) for array in sample.columns.values()}
    if not lengths or lengths == {0}:
        raise InvalidPackage(f"{sample.source} has no rows; give at least one")
    if len(lengths) > 1:
        raise InvalidPackage(f"{sample.source} has columns of different lengths; every column needs one value per row")
    return sample
