"""Types of text columns, inferred as pandas would, because most models were trained on data read by pandas.

Two differences are deliberate: digits with leading zeros stay text, because a ZIP code is no number, and so do whole numbers that
no type holds. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import numpy as np

from limen.contracts.tensors import Array

BOOLEANS: Final = {"True": True, "true": True, "TRUE": True, "False": False, "false": False, "FALSE": False}
"""What pandas reads as booleans too, so that the model was trained on them."""
MISSING: Final = frozenset(
    [
        *("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A"),
        *("NA", "NULL", "NaN", "None", "n/a", "nan", "null"),
    ]
)
"""What pandas reads as a missing value."""
_WHOLE: Final = re.compile(r"[+-]?[0-9]+")
_ZEROS: Final = re.compile(r"[+-]?0[0-9]+")
_NUMBER: Final = re.compile(
    r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|[+-]?(?:inf|Infinity)", re.IGNORECASE
)
_COMMA: Final = re.compile(r"[+-]?[0-9]+,[0-9]+(?:[eE][+-]?[0-9]+)?")
_GROUPED: Final = re.compile(r"[+-]?[0-9]{1,3}(?:[,' ][0-9]{3})+(?:\.[0-9]+)?")
_DATE: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[T ][0-9:.]+(?:Z|[+-][0-9:]+)?)?|[0-9]{1,2}[./][0-9]{1,2}[./][0-9]{2,4}"
)
_EXACT: Final = 1 << 53
"""Whole numbers up to here are exact in float64."""


def column_of(cells: Sequence[str], *, has_decimal_commas: bool = False) -> tuple[Array, str]:
    """Return the values of a column and, where the cells do not show it, why they have this type.

    Args:
        cells: the text of each row.
        has_decimal_commas: numbers may be written 1,5.
    """
    values = [text for text in map(str.strip, cells) if text not in MISSING]
    has_gap = len(values) < len(cells)
    if not values:
        return _numbers(cells), "no value in the sample shows the type"
    if all(text in BOOLEANS for text in values):
        if has_gap:
            return _texts(cells), "true and false with gaps, which only text can express"
        return np.array([BOOLEANS[text] for text in values], np.bool_), ""
    if all(_WHOLE.fullmatch(text) for text in values):
        return _whole(cells, values, has_gap=has_gap)
    if has_decimal_commas and all(_COMMA.fullmatch(text) or _NUMBER.fullmatch(text) for text in values):
        return _numbers([cell.replace(",", ".") for cell in cells]), "numbers with a decimal comma"
    if all(_NUMBER.fullmatch(text) for text in values):
        return _numbers(cells), ""
    return _texts(cells), _why_text(values)


def _whole(cells: Sequence[str], values: Sequence[str], *, has_gap: bool) -> tuple[Array, str]:
    if any(_ZEROS.fullmatch(text) for text in values):
        return _texts(cells), "leading zeros, which a number would lose"
    numbers = [int(text) if len(text) < 25 else 1 << 80 for text in values]
    low, high = min(numbers), max(numbers)
    if has_gap and max(high, -low) <= _EXACT:
        return _numbers(cells), "whole numbers with gaps, which only a float type can express"
    if not has_gap and low >= -(1 << 63) and high < 1 << 63:
        return np.array(numbers, np.int64), ""
    if not has_gap and low >= 0 and high < 1 << 64:
        return np.array(numbers, np.uint64), "whole numbers that need an unsigned type"
    return _texts(cells), "whole numbers with more digits than any number type holds"


def _why_text(values: Sequence[str]) -> str:
    if all(_DATE.fullmatch(text) for text in values):
        return "dates are text"
    if all(_GROUPED.fullmatch(text) or _NUMBER.fullmatch(text) for text in values):
        return "numbers with thousands separators stay text, as in pandas"
    if all(_COMMA.fullmatch(text) or _NUMBER.fullmatch(text) for text in values):
        return "numbers with a decimal comma stay text in a comma-separated file"
    count = sum(bool(_NUMBER.fullmatch(text)) for text in values)
    return f"only {count} of {len(values)} values are numbers" if count else ""


def _numbers(cells: Sequence[str]) -> Array:
    return np.array([np.nan if (text := cell.strip()) in MISSING else float(text) for cell in cells], np.float64)


def _texts(cells: Sequence[str]) -> Array:
    """Return the cells as they are written, None for what is missing."""
    texts = np.empty(len(cells), object)
    texts[:] = [None if cell.strip() in MISSING else cell for cell in cells]
    return texts
