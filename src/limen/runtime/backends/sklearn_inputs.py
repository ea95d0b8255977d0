"""An estimator's inputs, read from its fitted parts: columns, types and categories.

An estimator fitted on a DataFrame takes its columns by name, whatever their order in the contract; one fitted on an array takes `X`,
or one tensor `x0`, `x1`, … a column where encoders show that some hold text; one of documents takes `text`. Encoders know their
categories, and which marker stood for a missing text. Pure; called by the sklearn backend and by `authoring.conversion`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np

from limen.contracts.errors import InvalidPackage
from limen.contracts.tensors import Array, TensorSpec
from limen.runtime.backends.artifact import require

MAX_CATEGORIES: Final = 1000
"""A column of more categories does not list them."""
_INNER: Final = ("estimator_", "regressor_", "best_estimator_", "estimator", "classifier", "base_estimator_")


class Facts(msgspec.Struct):
    """What fitted parts say about one column."""

    categories: tuple[bool | int | float | str, ...] = ()
    is_text: bool = False
    """It holds texts of any kind."""
    is_categorical: bool = False
    """The column had pandas' type `category`, and must have it again."""
    has_none: bool = False
    """A missing text is None to the estimator, not NaN."""
    knows_missing: bool = False
    """It was fitted with missing values, or fills them in."""

    @property
    def type(self) -> str:
        """The element type that the facts show; empty when they show none."""
        if self.is_text:
            return "string"
        kinds = {type(value) for value in self.categories}
        if not kinds:
            return "string" if self.is_categorical else ""
        if kinds == {str}:
            return "string"
        return "bool" if kinds == {bool} else "int64" if kinds == {int} else "float64"


class Layout(msgspec.Struct, frozen=True):
    """The input tensors of an estimator."""

    form: str
    """table, matrix, objects or text."""
    names: tuple[str, ...]
    """Tensors in the order of the estimator's columns."""
    facts: Mapping[str, Facts]
    width: int = -1
    """Columns of a matrix; -1 when it takes any number."""
    unused: tuple[str, ...] = ()
    """Columns of the training data that the estimator drops: they need not be sent."""

    def with_unused(self, declared: Iterable[str]) -> Layout:
        """Return this layout with the unused columns that a contract has all the same."""
        more = tuple(name for name in declared if name in self.unused)
        return msgspec.structs.replace(self, names=self.names + more, unused=()) if more else self

    def types(self, given: Mapping[str, str]) -> dict[str, str]:
        """Return the type of each tensor: what the facts show, else what is given; numbers are float64."""
        if self.form == "text":
            return {"text": "string"}
        if self.form == "matrix":
            return {"X": "float64"}
        return {name: self.facts[name].type or _wide(given.get(name, "")) for name in self.names}

    def specs(self, types: Mapping[str, str]) -> tuple[TensorSpec, ...]:
        """Return the tensors with these types."""
        if self.form == "matrix":
            return (TensorSpec("X", types["X"], (-1, self.width)),)
        return tuple(TensorSpec(name, types[name], (-1,)) for name in self.names)


def _wide(type_name: str) -> str:
    """Return the type of a column that no encoder knows: of numbers, any number."""
    return type_name if type_name in ("string", "bool") else "float64"


def layout_of(estimator: Any) -> Layout:
    """Return what an estimator takes.

    Raises:
        InvalidPackage: it takes something that no request can hold.
    """
    first = _first(estimator)
    names = _own(estimator, "feature_names_in_")
    if names is None:
        names = _own(first, "feature_names_in_")
    if names is not None:
        columns = [str(name) for name in names]
        facts = {name: Facts() for name in columns}
        _walk(estimator, columns, facts)
        unused = _unused(first, columns)
        return Layout("table", tuple(c for c in columns if c not in unused), facts, len(columns), unused)
    kind = type(first).__name__
    if kind in (
        "DictVectorizer",
        "FeatureHasher",
        "LabelEncoder",
        "LabelBinarizer",
        "MultiLabelBinarizer",
        "PatchExtractor",
    ):
        what = "targets" if "Label" in kind else "values"
        raise InvalidPackage(f"artifact: the {kind} takes {what} that are no columns; package the model as Python code")
    if _is_vectorizer(first):
        return Layout("text", ("text",), {"text": Facts(is_text=True)}, 1)
    width = _own(estimator, "n_features_in_")
    width = int(_own(first, "n_features_in_") or -1) if width is None else int(width)
    columns = [f"x{i}" for i in range(max(width, 0))]
    facts = {name: Facts() for name in columns}
    _walk(estimator, columns, facts)
    if any(fact.type == "string" for fact in facts.values()):
        return Layout("objects", tuple(columns), facts, width)
    return Layout("matrix", ("X",), {}, width)


def _own(part: Any, name: str) -> Any:
    try:
        return getattr(part, name, None)
    except Exception:  # noqa: BLE001 - properties that ask a step that cannot answer
        return None


def _first(estimator: Any) -> Any:
    """Return the first part that sees the rows as they come."""
    steps = getattr(estimator, "steps", None)
    for _, step in steps or ():
        if step is not None and not isinstance(step, str):
            return _first(step)
    return estimator


def _is_vectorizer(part: Any) -> bool:
    text = require("sklearn.feature_extraction.text", "limen[sklearn]")
    return isinstance(part, (text.CountVectorizer, text.HashingVectorizer))


def _walk(part: Any, columns: Sequence[str] | None, facts: Mapping[str, Facts]) -> Sequence[str] | None:
    """Note what a part that takes these columns says about them; return the columns it gives on as they are, if it does."""
    if columns is None or part is None or isinstance(part, str):
        return columns
    if hasattr(part, "steps"):
        for _, step in part.steps:
            columns = _walk(step, columns, facts)
        return None
    if hasattr(part, "transformers_"):
        for _, inner, chosen in part.transformers_:
            if not isinstance(inner, str):
                _walk(inner, _chosen(columns, chosen), facts)
        return None
    if hasattr(part, "transformer_list"):
        for _, inner in part.transformer_list:
            _walk(inner, columns, facts)
        return None
    return _note(part, columns, facts)


def _note(part: Any, columns: Sequence[str], facts: Mapping[str, Facts]) -> Sequence[str] | None:
    known = [facts[name] for name in columns]
    if _is_vectorizer(part):
        for fact in known:
            fact.is_text = True
        return None
    lists = getattr(part, "categories_", None)
    if isinstance(lists, list) and len(lists) == len(known):
        _note_categories(known, lists)
        return None
    if type(part).__name__ == "SimpleImputer":
        for fact in known:
            fact.has_none = fact.has_none or part.missing_values is None
            fact.knows_missing = True
        for fact, filling in zip(known, part.statistics_, strict=False):
            fact.is_text = fact.is_text or isinstance(filling, str)
        return columns if len(part.statistics_) == len(columns) and not part.add_indicator else None
    _note_booster(part, known)
    for inner in _inner(part):
        if getattr(inner, "n_features_in_", len(columns)) == len(columns):
            _walk(inner, columns, facts)
    return None


def _note_categories(known: Sequence[Facts], lists: Sequence[Any]) -> None:
    for fact, values in zip(known, lists, strict=True):
        items = np.asarray(values).tolist()
        present = [item for item in items if item is not None and item == item]  # noqa: PLR0124 - NaN
        fact.knows_missing = fact.knows_missing or len(present) < len(items)
        fact.has_none = fact.has_none or (None in items and len(items) - len(present) == 1)
        plain = {str, int, float, bool}
        if {type(item) for item in present} <= plain and len({isinstance(item, str) for item in present}) < 2:
            fact.categories = tuple(dict.fromkeys((*fact.categories, *present)))


def _note_booster(part: Any, known: Sequence[Facts]) -> None:
    """Note the categories that gradient boosting knows by itself, without an encoder."""
    kind = type(part).__name__
    if kind.startswith("HistGradientBoosting") and getattr(part, "is_categorical_", None) is not None:
        places = np.flatnonzero(part.is_categorical_).tolist()
        encoder = getattr(getattr(part, "_preprocessor", None), "named_transformers_", {}).get("encoder")
        if encoder is not None:
            _note_categories([known[i] for i in places], encoder.categories_)
    elif kind.startswith("LGBM"):
        lists = part.booster_.pandas_categorical or []
        infos = part.booster_.dump_model(num_iteration=1)["feature_infos"]
        names = part.booster_.feature_name()
        places = [i for i, name in enumerate(names) if infos.get(name, {}).get("values")]
        if lists and len(places) != len(lists):
            raise InvalidPackage(
                "artifact: it is not known which columns are LightGBM's categories; save the booster as text"
            )
        for place, values in zip(places, lists, strict=False):
            known[place].is_categorical = True
            _note_categories([known[place]], [values])
    elif kind.startswith("XGB"):
        for fact, letter in zip(known, part.get_booster().feature_types or (), strict=False):
            fact.is_categorical = fact.is_categorical or letter == "c"


def _inner(part: Any) -> Iterable[Any]:
    """Yield the fitted estimators that a meta-estimator hands its own rows to."""
    yield from (getattr(part, name) for name in _INNER if hasattr(getattr(part, name, None), "n_features_in_"))
    for name in ("estimators_", "calibrated_classifiers_"):
        members = getattr(part, name, ())
        if isinstance(members, (list, tuple)):
            yield from (m for m in members if hasattr(m, "get_params") or hasattr(m, "estimator"))


def _chosen(columns: Sequence[str], chosen: Any) -> list[str]:
    """Return the columns that a ColumnTransformer hands to one of its parts."""
    if isinstance(chosen, str):
        return [chosen]
    if isinstance(chosen, slice):
        if isinstance(chosen.start, str) or isinstance(chosen.stop, str):
            start = columns.index(chosen.start) if chosen.start is not None else 0
            stop = columns.index(chosen.stop) + 1 if chosen.stop is not None else len(columns)
            return list(columns[start:stop])
        return list(columns[chosen])
    if np.isscalar(chosen):
        return [columns[int(np.asarray(chosen))]]
    picked = np.asarray(chosen)
    if picked.dtype.kind in "OUT":
        return [str(name) for name in picked]
    return [columns[int(i)] for i in (np.flatnonzero(picked) if picked.dtype == bool else picked)]


def _unused(first: Any, columns: Sequence[str]) -> tuple[str, ...]:
    """Return the columns that a ColumnTransformer in the first place hands to no part."""
    if not hasattr(first, "transformers_"):
        return ()
    used = {name for _, part, chosen in first.transformers_ if part != "drop" for name in _chosen(columns, chosen)}
    return tuple(name for name in columns if name not in used)


class Rows:
    """Makes what an estimator takes of its input tensors."""

    def __init__(self, layout: Layout, types: Mapping[str, str]) -> None:
        self._layout = layout
        self._pandas = require("pandas", "pandas") if layout.form == "table" else None
        texts = [name for name in layout.names if types.get(name) == "string"]
        self._none = [name for name in texts if name in layout.facts and layout.facts[name].has_none]
        self._nan = [name for name in texts if name not in self._none]
        self._categorical = [
            name for name in layout.names if name in layout.facts and layout.facts[name].is_categorical
        ]

    def build(self, inputs: Mapping[str, Array]) -> Any:
        """Return the rows as the estimator takes them."""
        layout = self._layout
        if layout.form in ("matrix", "text"):
            return inputs[layout.names[0]]
        columns: dict[str, Any] = {name: inputs[name] for name in layout.names}
        for name in self._nan:
            columns[name] = _with_nan(columns[name])
        if layout.form == "objects":
            return np.column_stack([np.asarray(column, object) for column in columns.values()])
        pandas = self._pandas
        assert pandas is not None  # noqa: S101 - a table needs it, and __init__ has imported it
        for name in self._none:
            columns[name] = pandas.Series(columns[name], dtype=object)
        for name in self._categorical:
            known = layout.facts[name].categories
            columns[name] = pandas.Categorical(columns[name], categories=list(known) or None)
        return pandas.DataFrame(columns)


def _with_nan(column: Array) -> Array:
    """Return texts with NaN where one is missing, as data frames have it."""
    if None not in column.tolist():
        return column
    filled = column.copy()
    filled[[i for i, item in enumerate(column.tolist()) if item is None]] = np.nan
    return filled
