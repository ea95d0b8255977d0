"""Facts from one row that an estimator answers: types and shapes of answers, and values its columns accept.

Nothing says whether an estimator copes with a missing value or with a category it has never seen, so it is asked. Called by the sklearn
backend; what `limen init` writes as nullable or as `enum` comes from here.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np

from limen.contracts.tensors import BY_NAME, Array, Kind, TensorSpec
from limen.runtime.backends.sklearn_answers import Answer, ask
from limen.runtime.backends.sklearn_inputs import MAX_CATEGORIES, Layout, Rows

TIME_S: Final = 5.0
"""How long columns are tried one by one."""
UNSEEN: Final = "a value that was never seen"
Row = dict[str, Array]


class Trial:
    """One estimator and the first row it answers."""

    def __init__(
        self,
        estimator: Any,
        answers: Mapping[str, Answer],
        layout: Layout,
        types: Mapping[str, str],
        sample: Mapping[str, Array],
    ) -> None:
        self._estimator = estimator
        self._layout = layout
        self._types = dict(types)
        self._rows = Rows(layout, types)
        self._sample = sample
        self.answers: dict[str, Array] = {}
        """The answers to that row; empty when no row is known that it takes."""
        self.row: Row | None = None
        for row in self._candidates():
            self.answers = {k: found[k] for k, a in answers.items() if (found := self._ask({k: a}, row)) is not None}
            if self.answers:
                self.row = row
                break
        self._first = {name: answers[name] for name in list(self.answers)[:1]}

    def inputs(self) -> tuple[TensorSpec, ...]:
        """Return the input tensors with what trials show of them."""
        missing, open_ = self._taking_missing(), self._taking_unseen()
        named = dict(zip(self._layout.names, self._sample, strict=True)) if self._is_named_by_sample() else {}
        found = []
        for spec in self._layout.specs(self._types):
            fact = self._layout.facts.get(spec.name)
            is_nullable = spec.name in missing
            categories = (
                () if fact is None or spec.name in open_ or len(fact.categories) > MAX_CATEGORIES else fact.categories
            )
            if is_nullable and BY_NAME[spec.type].kind is Kind.INT:
                spec = msgspec.structs.replace(spec, type="float64")  # noqa: PLW2901 - the type that can say it
                categories = tuple(float(c) for c in categories)
            if spec.name in named:
                spec = msgspec.structs.replace(spec, shape=(-1, 1), columns=(named[spec.name],))  # noqa: PLW2901
            found.append(msgspec.structs.replace(spec, categories=categories, nullable=is_nullable))
        return tuple(found)

    def _is_named_by_sample(self) -> bool:
        return self._layout.form == "objects" and len(self._sample) == len(self._layout.names)

    def _candidates(self) -> Iterator[Row]:
        """Yield rows that it may take: the sample's first, then made-up ones."""
        if (given := self._given()) is not None:
            yield given
        for number in (0.0, 1.0):
            if self._layout.form == "matrix":
                if self._layout.width > 0:
                    yield {"X": np.full((1, self._layout.width), number)}
            else:
                yield {name: self._likely(name, number) for name in self._layout.names}

    def _given(self) -> Row | None:
        sample, names = self._sample, self._layout.names
        arrays = list(sample.values())
        if not arrays or not all(len(a) for a in arrays):
            return None
        if self._layout.form == "matrix":
            whole = sample.get("X", arrays[0] if arrays[0].ndim == 2 else None)
            if whole is None and all(a.ndim == 1 and a.dtype.kind in "biuf" for a in arrays):
                whole = np.column_stack(arrays)
            fits = whole is not None and whole.ndim == 2 and self._layout.width in (-1, whole.shape[1])
            return {"X": np.asarray(whole[:1], np.float64)} if fits and whole is not None else None
        if self._layout.form == "text" and len(arrays) == 1:
            return {"text": arrays[0][:1]}
        if self._is_named_by_sample():
            sample = dict(zip(names, arrays, strict=True))
        if not all(name in sample for name in names):
            return None
        return {name: self._cast(name, sample[name][:1]) for name in names}

    def _cast(self, name: str, array: Array) -> Array:
        dtype = BY_NAME[self._types[name]].dtype
        if not BY_NAME[self._types[name]].size and array.dtype.kind != "O":
            return np.array([str(v) for v in array.tolist()], object)
        try:
            return array.astype(dtype)
        except (ValueError, TypeError):
            return self._likely(name, 0.0)

    def _likely(self, name: str, number: float) -> Array:
        fact = self._layout.facts[name]
        value: Any = fact.categories[0] if fact.categories else ("text" if self._types[name] == "string" else number)
        dtype = BY_NAME[self._types[name]].dtype
        made = np.empty(1, dtype)
        made[0] = value
        return made

    def _ask(self, answers: Mapping[str, Answer], row: Row) -> dict[str, Array] | None:
        """Return the answers to a row, or None when the estimator does not take it."""
        try:
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return ask(self._estimator, answers, self._rows.build(row))
        except Exception:  # noqa: BLE001 - a row it does not take says nothing about the model
            return None

    def _takes(self, row: Row) -> bool:
        found = self._ask(self._first, row)
        return found is not None and all(a.dtype.kind != "f" or bool(np.isfinite(a).all()) for a in found.values())

    def _taking_missing(self) -> frozenset[str]:
        if self._layout.form == "matrix":
            return (
                frozenset(("X",))
                if self.row and self._takes({"X": np.full_like(self.row["X"], np.nan)})
                else frozenset()
            )
        changes: Row = {}
        for name in self._layout.names if self._layout.form != "text" else ():
            kind = BY_NAME[self._types[name]].kind
            if kind is Kind.TEXT:
                changes[name] = np.array([None], object)
            elif kind in (Kind.INT, Kind.FLOAT):
                changes[name] = np.array([np.nan])
        return self._taking(changes)

    def _taking_unseen(self) -> frozenset[str]:
        changes: Row = {}
        for name, fact in self._layout.facts.items():
            if fact.categories and (value := unseen(fact.categories)) is not None:
                made = np.empty(1, object if isinstance(value, str) else np.asarray(value).dtype)
                made[0] = value
                changes[name] = made
        return self._taking(changes)

    def _taking(self, changes: Row) -> frozenset[str]:
        """Return the columns whose change the estimator takes: all at once if it does, else one by one."""
        row = self.row
        if row is None or not changes:
            return frozenset()
        if self._takes(row | changes):
            return frozenset(changes)
        end = time.monotonic() + TIME_S
        found = set()
        for name, value in changes.items():
            if time.monotonic() > end:
                break
            if self._takes(row | {name: value}):
                found.add(name)
        return frozenset(found)


def unseen(categories: Sequence[bool | int | float | str]) -> str | int | float | None:
    """Return a value of the categories' type that is none of them; None when there is none."""
    if any(isinstance(c, str) for c in categories):
        return UNSEEN
    if all(isinstance(c, bool) for c in categories):
        return None
    return max(c for c in categories if not isinstance(c, str)) + 1
