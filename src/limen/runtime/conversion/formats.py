"""From an unpickled model to formats without code, and the answers it gives itself. Runs in the converting process only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any, Final

from limen.contracts.errors import InvalidPackage
from limen.contracts.tensors import Array
from limen.runtime.backends.artifact import require
from limen.runtime.backends.sklearn_answers import calls_of
from limen.runtime.conversion.boosters import KINDS, convert_booster
from limen.runtime.conversion.messages import Candidate, Converted, Task, rows_of
from limen.runtime.conversion.samples import Asked, ask, rows_to_ask

_EXTRA_ONNX: Final = "skl2onnx"


def converted(model: Any, task: Task) -> Converted:
    """Return a model in the formats that are asked for, with its answers to the sample and to made-up rows.

    Raises:
        InvalidPackage: it is of no known kind, or cannot answer.
    """
    library = f"{type(model).__module__}.{type(model).__qualname__}"
    sample = {name: values.array() for name, values in task.sample.items()}
    if library.startswith(KINDS):
        return convert_booster(model, library, sample)
    if hasattr(model, "get_params") and hasattr(model, "fit"):
        return _estimator(model, library, sample, task.targets)
    raise InvalidPackage(
        f"the pickle holds a {library}; only estimators of scikit-learn and the boosters of XGBoost and LightGBM are converted"
    )


def _estimator(model: Any, library: str, sample: Mapping[str, Array], targets: tuple[str, ...]) -> Converted:
    asked, answers = ask(rows_to_ask(sample, _names(model), getattr(model, "n_features_in_", None)), calls_of(model))
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
    )


def _classes(model: Any, answers: Mapping[str, Array]) -> tuple[str, ...]:
    classes = getattr(model, "classes_", ()) if "probabilities" in answers else ()
    return tuple(map(str, classes))


def _names(model: Any) -> tuple[str, ...]:
    """Return the columns that a model was fitted on; empty when it was fitted on an array."""
    found = getattr(model, "feature_names_in_", None)
    return () if found is None else tuple(map(str, found))


def _skops(model: Any, _: Asked) -> bytes:
    found: bytes = require("skops.io", "limen[sklearn]").dumps(model)
    return found


def _onnx(model: Any, asked: Asked) -> bytes:
    """Return the ONNX form of a classifier or regressor, its outputs named as the sklearn backend names them."""
    if find_spec("skl2onnx") is None:
        raise InvalidPackage("skl2onnx is not installed")
    base = require("sklearn.base", "limen[sklearn]")
    outputs = list(calls_of(model))
    if not (base.is_regressor(model) or base.is_classifier(model)):
        raise InvalidPackage("only classifiers and regressors are converted to ONNX")
    if getattr(model, "n_features_in_", None) is None:
        raise InvalidPackage("models that take texts are not converted to ONNX")
    skl2onnx = require("skl2onnx", _EXTRA_ONNX)
    options = {id(model): {"zipmap": False}} if base.is_classifier(model) else None
    graph = skl2onnx.to_onnx(model, initial_types=_onnx_inputs(model, asked), options=options)
    _rename(graph.graph, outputs)
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
