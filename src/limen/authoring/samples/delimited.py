"""Delimited text: CSV and its variants, separated by commas, semicolons, tabs or bars. Called by `samples.files`."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Final

import msgspec

from limen.authoring.samples.cells import column_of
from limen.authoring.samples.sample import UNNAMED, Sample
from limen.contracts.errors import InvalidPackage

SEPARATORS: Final = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_PROBED: Final = 50
"""Lines that decide what separates the cells."""
_BOMS: Final = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


class TextTable(msgspec.Struct, frozen=True, kw_only=True):
    """The cells of a text file as they are written."""

    source: str
    columns: dict[str, list[str]]
    separator: str = ","
    notes: tuple[str, ...] = ()

    @property
    def has_decimal_commas(self) -> bool:
        """Whether numbers may be written 1,5."""
        return self.separator != ","

    def sample(self) -> Sample:
        """Return the columns with the types that their cells show."""
        columns, reasons = {}, {}
        for name, cells in self.columns.items():
            columns[name], why = column_of(cells, has_decimal_commas=self.has_decimal_commas)
            if why:
                reasons[name] = why
        return Sample(columns=columns, source=self.source, reasons=reasons, notes=self.notes)


def read_delimited(path: Path, limit: int | None) -> TextTable:
    """Return the cells of a text file with a header line.

    Args:
        path: the file.
        limit: rows that are read; all if None.

    Raises:
        InvalidPackage: it is no such file; the text says the line.
    """
    encoding = _encoding(path)
    try:
        with path.open(newline="", encoding=encoding) as file:
            separator = _separator("".join(islice(file, _PROBED)))
            file.seek(0)
            lines = list(islice(_lines(file, separator), None if limit is None else limit + 1))
    except UnicodeError:
        raise InvalidPackage(
            f"{path} is not UTF-8 text; save it as CSV in UTF-8, or convert it with "
            f"`iconv -f ENCODING -t UTF-8` (older Windows programs write WINDOWS-1252)"
        ) from None
    except csv.Error as exc:
        raise InvalidPackage(f"{path} cannot be read as CSV: {exc}") from exc
    notes = [] if separator == "," else [f"{path.name}: cells are separated by {SEPARATORS[separator]}"]
    if encoding == "utf-16":
        notes.append(f"{path.name} is read as UTF-16")
    header = _header(path, lines)
    rows = [row for _, row in lines[1:]]
    columns = {name: list(cells) for name, cells in zip(header, zip(*rows, strict=True), strict=True)}
    return TextTable(source=str(path), columns=columns, separator=separator, notes=tuple(notes))


def _header(path: Path, lines: list[tuple[int, list[str]]]) -> list[str]:
    """Return the names of the columns, or raise what keeps the lines from being a table."""
    header = [name.strip() for name in lines[0][1]] if lines else []
    if len(lines) > 1 and all(len(row) == len(header) + 1 for _, row in lines[1:]):
        # R writes the names of its rows without a header of their own.
        header.insert(0, "")
    if header and not header[0]:
        header[0] = UNNAMED
    if not header or not all(header):
        raise InvalidPackage(f"{path} needs a header line with a name for every column")
    if repeated := sorted({name for name in header if header.count(name) > 1}):
        raise InvalidPackage(f"{path} has more than one column named {', '.join(repeated)}; give each a unique name")
    if len(lines) == 1:
        raise InvalidPackage(f"{path} has a header line and no rows; give at least one")
    for number, row in lines[1:]:
        if len(row) != len(header):
            raise InvalidPackage(f"{path}: line {number} has {len(row)} cells and the header has {len(header)}")
    return header


def _encoding(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(4)
    return next((name for mark, name in _BOMS.items() if start.startswith(mark)), "utf-8")


def _separator(head: str) -> str:
    """Return what separates the cells: what gives every line the most cells, and the same number of them."""
    best, most = ",", 1
    for separator in SEPARATORS:
        try:
            widths = [len(row) for _, row in _lines(io.StringIO(head, newline=""), separator)]
        except csv.Error:
            continue
        # A quoted cell may be cut where the probe ends.
        body = widths[1:-1] if len(widths) > _PROBED - 5 else widths[1:]
        if widths and widths[0] > most and set(body) in (set(), {widths[0]}, {widths[0] + 1}):
            best, most = separator, widths[0]
    return best


def _lines(file: Iterable[str], separator: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows that are not empty, each with the number of its last line."""
    reader = csv.reader(file, delimiter=separator)
    for row in reader:
        if row:
            yield reader.line_num, row
