"""Rows for testing an original model: those of a sample, and generated variations of them.

A few example rows would say little about a forest; made-up rows between and around them walk more of its branches. Pure. Runs in the
converting process only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from types import MappingProxyType
from typing import Any, Final

import msgspec
import numpy as np

from limen.contracts.errors import InvalidPackage
from limen.contracts.tensors import Array
from limen.packaging.importers.draft import WHOLE

MADE_UP: Final = 100
MAX_SAMPLE: Final = 200


class Asked(msgspec.Struct, frozen=True):
    """Rows as the model wants them and as they are recorded."""

    data: Any
    """A DataFrame or an array."""
    rows: dict[str, Array]
    """Columns by name, or one array under `WHOLE`."""
    given: int
    """Rows that come from the sample; they are the first."""
    width: int

    def only_given(self) -> Asked:
        """Return the rows that are not made up."""
        rows = {name: array[: self.given] for name, array in self.rows.items()}
        return Asked(self.data[: self.given], rows, self.given, self.width)

    def with_categories(self, categories: Mapping[str, Sequence[Any]]) -> Asked:
        """Return a table whose columns of categories are pandas' own; what was not there in training is missing."""
        pandas = import_module("pandas")
        data, rows = self.data.copy(), dict(self.rows)
        for name, values in categories.items():
            is_known = data[name].isin(list(values))
            data[name] = pandas.Categorical(data[name].where(is_known), categories=list(values))
            if not is_known.all():
                rows[name] = _without(rows[name], ~is_known.to_numpy())
        return Asked(data, rows, self.given, self.width)


def rows_to_ask(
    sample: Mapping[str, Array],
    names: Sequence[str],
    width: int | None,
    categories: Mapping[str, Sequence[Any]] = MappingProxyType({}),
    gaps: Sequence[float] = (),
) -> Asked:
    """Return the sample's rows, then made-up ones.

    Args:
        sample: columns by name or one array; columns without values say only their types.
        names: the columns the model was fitted on; empty when it was fitted on an array.
        width: how many features it takes; None when it takes texts.
        categories: the values that some columns were trained on.
        gaps: numbers that are missing ones to the model; some of the made-up ones are.

    Raises:
        InvalidPackage: the sample does not fit, or there is none and rows of text cannot be made up.
    """
    if width is None:
        texts = _texts(sample)
        return Asked(texts, {WHOLE: texts}, len(texts), 1)
    random = np.random.default_rng(0)
    if names:
        columns = _columns(sample, names)
        full = {
            name: _with_gaps(_more(array, random, categories.get(name, ())), gaps, random)
            for name, array in columns.items()
        }
        frame = import_module("pandas").DataFrame(full)
        return Asked(frame, full, len(next(iter(columns.values()))), width)
    matrix = _matrix(sample, width)
    full_matrix = np.column_stack([_with_gaps(_more(matrix[:, i], random), gaps, random) for i in range(width)])
    return Asked(full_matrix, {WHOLE: full_matrix}, len(matrix), width)


def ask(asked: Asked, methods: Mapping[str, Callable[[Any], Any]]) -> tuple[Asked, dict[str, Array]]:
    """Return the rows that a model answers, with its answers; without the made-up rows when it does not take those.

    Raises:
        InvalidPackage: it does not take the sample either.
    """
    try:
        found = {name: method(asked.data) for name, method in methods.items()}
    except Exception as exc:
        if 0 < asked.given < len(asked.data):
            return ask(asked.only_given(), methods)
        text = f"the original model cannot answer ({type(exc).__name__}: {str(exc).partition(chr(10))[0][:200]})"
        raise InvalidPackage(f"{text}; give rows like its training data with --sample") from exc
    answers = {name: np.asarray(a.toarray() if hasattr(a, "toarray") else a) for name, a in found.items()}
    return asked, answers


def _texts(sample: Mapping[str, Array]) -> Array:
    texts = next(iter(sample.values()), np.empty(0, object))
    if len(sample) != 1 or not len(texts):
        raise InvalidPackage("the model takes text: give examples in one column with --sample")
    return texts[:MAX_SAMPLE]


def _columns(sample: Mapping[str, Array], names: Sequence[str]) -> dict[str, Array]:
    whole = sample.get(WHOLE)
    if whole is not None and whole.ndim == 2 and whole.shape[1] == len(names):
        return {name: whole[:MAX_SAMPLE, i] for i, name in enumerate(names)}
    if missing := [name for name in names if sample and name not in sample]:
        raise InvalidPackage(f"the sample lacks columns that the model was trained on: {', '.join(missing[:5])}")
    return {name: sample[name][:MAX_SAMPLE] if sample else np.empty(0) for name in names}


def _matrix(sample: Mapping[str, Array], width: int) -> Array:
    if not sample:
        return np.empty((0, width))
    whole = sample.get(WHOLE)
    if whole is None:
        if any(array.dtype == object for array in sample.values()):
            raise InvalidPackage("the model was trained on an array of numbers; the sample has columns of text")
        whole = np.column_stack(list(sample.values()))
    if whole.ndim != 2 or whole.shape[1] != width:
        raise InvalidPackage(f"the sample must have {width} columns, as the model was trained on")
    return np.asarray(whole[:MAX_SAMPLE], np.float64)


def _with_gaps(column: Array, gaps: Sequence[float], random: np.random.Generator) -> Array:
    """Return a column with some of its made-up values missing."""
    if not gaps or column.dtype.kind not in "fO":
        return column
    places = len(column) - MADE_UP + random.choice(MADE_UP, MADE_UP // 8, replace=False)
    is_gap = np.zeros(len(column), bool)
    is_gap[places] = True
    if column.dtype == object:
        return _without(column, is_gap)
    found = column.copy()
    found[is_gap] = np.resize(gaps, len(places))
    return found


def _without(column: Array, is_gap: Array) -> Array:
    found = column.copy() if column.dtype.kind in "fO" else column.astype(np.float64)
    found[is_gap] = None if column.dtype == object else np.nan
    return found


def _more(column: Array, random: np.random.Generator, categories: Sequence[Any] = ()) -> Array:
    """Return a column and made-up values like its own, or any of its categories."""
    if categories:
        values = np.array(categories, object if isinstance(categories[0], str) else None)
        made = random.choice(values, MADE_UP)
        return np.concatenate([column, made]) if len(column) else made
    if column.dtype == object:
        if not len(column):
            raise InvalidPackage(
                "text rows cannot be generated: give some with --sample, or log the model with an input example"
            )
        return np.concatenate([column, random.choice(column, MADE_UP)])
    if column.dtype.kind == "b":
        return np.concatenate([column, random.integers(0, 2, MADE_UP).astype(bool)])
    known = column[np.isfinite(column)] if column.dtype.kind == "f" else column
    if not len(known):
        made = random.normal(size=MADE_UP)
    else:
        made = random.choice(known, MADE_UP) + random.normal(size=MADE_UP) * (
            np.std(known) or 0.1 * abs(known[0]) or 1.0
        )
    if column.dtype.kind in "iu":
        # A whole number may be a category: only values that were seen are safe to ask.
        made = random.choice(known, MADE_UP) if len(known) else np.zeros(MADE_UP)
    # Of single precision: what is the same number for every format does not fall on two sides of a branch.
    return np.concatenate([column, made.astype(np.float32).astype(column.dtype)])
