"""Converts an unpickled scikit-learn estimator to ONNX and skops, with its own answers. Runs in the converting process only.

The original is asked what it can be asked: where it has learnt what to do with missing values, or takes categories it has never seen,
some of the rows have them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any, Final

import msgspec
import numpy as np

from limen.authoring.conversion.messages import Candidate, Converted, rows_of
from limen.authoring.conversion.samples import MADE_UP, Asked, ask, rows_to_ask
from limen.contracts.errors import InvalidPackage
from limen.contracts.tensors import BY_NAME, Array, TensorSpec, element_type_of
from limen.packaging.importers.draft import WHOLE
from limen.runtime.backends.artifact import require
from limen.runtime.backends.sklearn_answers import answers_of, calls_of, classes_of
from limen.runtime.backends.sklearn_inputs import Layout, Rows, layout_of
from limen.runtime.backends.sklearn_parts import knows_gaps
from limen.runtime.backends.sklearn_trial import Trial, unseen

_EXTRA_ONNX: Final = "skl2onnx"


def convert_estimator(model: Any, library: str, sample: Mapping[str, Array], targets: tuple[str, ...]) -> Converted:
    """Return an estimator in the formats that are asked for, with the original's answers to the sample and to made-up rows."""
    model = getattr(model, "best_estimator_", model)
    layout = layout_of(model)
    asked, specs = _rows(model, layout, sample)
    asked, answers = ask(asked, calls_of(model))
    candidates: list[Candidate] = []
    refused: dict[str, str] = {}
    for target in targets:
        try:
            candidates.append(Candidate(target, _WRITERS[target](model, asked)))
        except InvalidPackage as exc:
            refused[target] = exc.message
        except Exception as exc:  # noqa: BLE001 - whatever a converter raises means that it cannot write this model
            refused[target] = f"{type(exc).__name__}: {str(exc).strip().partition(chr(10))[0][:200]}"
    return Converted(
        library=library,
        candidates=tuple(candidates),
        refused=refused,
        rows=rows_of(asked.rows),
        sample_rows=asked.given,
        answers=rows_of(answers),
        classes=_classes(model, answers),
        categories={spec.name: list(spec.categories) for spec in specs if spec.categories},
        nullable=tuple(spec.name for spec in specs if spec.nullable),
    )


def _rows(model: Any, layout: Layout, sample: Mapping[str, Array]) -> tuple[Asked, tuple[TensorSpec, ...]]:
    """Return the rows to ask, and the inputs with what they take."""
    answers = answers_of(model)
    if layout.form == "text":
        return rows_to_ask(sample, (), None), layout.specs({"text": "string"})
    if layout.form == "matrix":
        width = layout.width if layout.width > 0 else _width(sample)
        asked = rows_to_ask(sample, (), width)
        specs = Trial(model, answers, layout, {"X": "float64"}, {"X": asked.rows[WHOLE]}).inputs()
        if not (specs[0].nullable and knows_gaps(model)):
            return asked, (msgspec.structs.replace(specs[0], nullable=False),)
        return rows_to_ask(sample, (), width, gaps=(np.nan,)), specs
    elements = {name: element_type_of(array.dtype) for name, array in sample.items()}
    if layout.form == "objects" and len(sample) == len(layout.names):
        sample = dict(zip(layout.names, sample.values(), strict=True))
    types = layout.types({name: element.name for name, element in elements.items() if element})
    typed = {name: _cast(array, types.get(name, "float64")) if name else array for name, array in sample.items()}
    known = {name: layout.facts[name].categories for name in layout.names}
    asked = rows_to_ask(typed, layout.names, len(layout.names), known)
    trial = Trial(model, answers, layout, types, asked.rows)
    learns = knows_gaps(model)
    specs = tuple(
        spec
        if layout.facts[spec.name].knows_missing or (learns and spec.type != "string")
        else msgspec.structs.replace(spec, nullable=False)
        for spec in trial.inputs()
    )
    rows = _stressed(asked, layout, specs)
    return Asked(Rows(layout, types).build(rows), rows, asked.given, asked.width), specs


def _width(sample: Mapping[str, Array]) -> int:
    whole = sample.get(WHOLE)
    if not sample:
        raise InvalidPackage("the model does not declare how many columns it takes; give sample rows with --sample")
    return len(sample) if whole is None else whole.shape[1]


def _cast(array: Array, type_name: str) -> Array:
    """Return a column of a sample with the type that the model knows it by."""
    element = BY_NAME[type_name]
    if not element.size:
        if array.dtype.kind == "O":
            return array
        return np.array([None if item != item else str(item) for item in array.tolist()], object)  # noqa: PLR0124 - NaN
    try:
        return array.astype(element.dtype)
    except (TypeError, ValueError):
        return array


def _stressed(asked: Asked, layout: Layout, specs: tuple[TensorSpec, ...]) -> dict[str, Array]:
    """Return the rows with some made-up values missing, and some of categories never seen, where the model takes them."""
    random = np.random.default_rng(1)
    rows = {}
    for spec in specs:
        column, fact = asked.rows[spec.name], layout.facts[spec.name]
        made = np.arange(asked.given, len(column))
        is_text = spec.type == "string"
        if made.size and fact.categories and not spec.categories and (value := unseen(fact.categories)) is not None:
            column = column.copy()
            column[random.choice(made, MADE_UP // 10, replace=False)] = value
        if made.size and spec.nullable:
            column = column.copy() if is_text else column.astype(np.float64)
            column[random.choice(made, MADE_UP // 8, replace=False)] = None if is_text else np.nan
        rows[spec.name] = column
    return rows


def _classes(model: Any, answers: Mapping[str, Array]) -> tuple[str, ...]:
    classes = classes_of(model) if "probabilities" in answers else None
    is_plain = isinstance(classes, np.ndarray) and answers["probabilities"].shape[1:] == classes.shape
    return tuple(map(str, classes.tolist())) if is_plain and classes is not None else ()


def _skops(model: Any, _: Asked) -> bytes:
    found: bytes = require("skops.io", "limen[sklearn]").dumps(model)
    return found


def _onnx(model: Any, asked: Asked) -> bytes:
    """Return the ONNX form of a classifier or regressor, its outputs named as the sklearn backend names them."""
    if find_spec("skl2onnx") is None:
        raise InvalidPackage("skl2onnx is not installed")
    base = require("sklearn.base", "limen[sklearn]")
    if not (base.is_regressor(model) or base.is_classifier(model)):
        raise InvalidPackage("only classifiers and regressors are converted to ONNX")
    if isinstance(classes_of(model), list):
        raise InvalidPackage("multi-output classifiers are not converted to ONNX")
    if layout_of(model).form == "text":
        raise InvalidPackage("models that take text are not converted to ONNX")
    skl2onnx = require("skl2onnx", _EXTRA_ONNX)
    has_chances = base.is_classifier(model) and hasattr(model, "predict_proba")
    options = {id(model): {"zipmap": False}} if has_chances else None
    graph = skl2onnx.to_onnx(model, initial_types=_onnx_inputs(model, asked), options=options)
    _rename(graph.graph, list(answers_of(model)))
    found: bytes = graph.SerializeToString()
    return found


def _onnx_inputs(model: Any, asked: Asked) -> list[tuple[str, Any]]:
    types = require("skl2onnx.common.data_types", _EXTRA_ONNX)
    picks_columns = any(hasattr(step, "transformers_") for _, step in getattr(model, "steps", [("", model)]))
    if not picks_columns:
        return [("X", types.FloatTensorType([None, asked.width]))]
    kinds = {"i": types.Int64TensorType, "u": types.Int64TensorType, "b": types.BooleanTensorType}
    return [
        (
            name,
            kinds.get(array.dtype.kind, types.StringTensorType if array.dtype == object else types.FloatTensorType)(
                [None, 1]
            ),
        )
        for name, array in asked.rows.items()
    ]


def _rename(graph: Any, names: list[str]) -> None:
    """Give the outputs of a graph other names; whatever inside it has such a name makes way."""
    renamed = {output.name: name for output, name in zip(graph.output, names, strict=False)}
    own = {name for node in graph.node for name in (*node.input, *node.output)}
    away = {name: f"inner_{name}" for name in renamed.values() if name in own and name not in renamed}
    renamed |= away
    for node in graph.node:
        for side in (node.input, node.output):
            for i, name in enumerate(side):
                side[i] = renamed.get(name, name)
    for output in graph.output:
        output.name = renamed[output.name]


_WRITERS: Final[Mapping[str, Callable[[Any, Asked], bytes]]] = {"onnx": _onnx, "skops": _skops}
