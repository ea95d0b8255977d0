"""An estimator's methods by tensor name, and what a trial run shows of its answers.

`label`, `probabilities` and `score` (`decision_function`) of a classifier, `value` of a regressor, `label` of a clusterer, `label` and
`score` of an outlier detector, `transformed` of a transformer, `score` of a density. Types and shapes of answers are written nowhere
in an estimator: one row that it answers shows them. Called by the sklearn backend and by `authoring.conversion`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any, Final

import msgspec
import numpy as np

from limen.contracts.errors import InvalidPackage
from limen.contracts.tensors import Array, TensorSpec, element_type_of
from limen.runtime.backends.artifact import require

MAX_CLASSES: Final = 100
"""A classifier of more classes does not list them as the only values of its label."""


class Answer(msgspec.Struct, frozen=True):
    """One answer: the method that gives it, and what is taken from what that gives."""

    method: str
    pick: Callable[[Any], Any] | None = None
    is_offered: bool = True
    """Whether a new contract has it without being asked."""


def answers_of(estimator: Any) -> dict[str, Answer]:
    """Return an estimator's answers by the name of their tensors.

    Raises:
        InvalidPackage: it has none for rows that it was not fitted on.
    """
    base = require("sklearn.base", "limen[sklearn]")
    is_classifier = base.is_classifier(estimator)
    found: dict[str, Answer] = {}
    if hasattr(estimator, "predict"):
        found["value" if base.is_regressor(estimator) else "label"] = Answer("predict")
    if hasattr(estimator, "predict_proba"):
        found |= _probabilities(estimator)
    if (is_classifier or base.is_outlier_detector(estimator)) and hasattr(estimator, "decision_function"):
        found["score"] = Answer("decision_function", None, not any(n.startswith("prob") for n in found))
    if hasattr(estimator, "transform"):
        found["transformed"] = Answer("transform", None, "value" not in found and not is_classifier)
    if not found and hasattr(estimator, "score_samples"):
        found["score"] = Answer("score_samples")
    if not found:
        raise InvalidPackage(_mute(estimator))
    return found


def _mute(estimator: Any) -> str:
    estimator = estimator.steps[-1][1] if getattr(estimator, "steps", None) else estimator
    name = type(estimator).__name__
    if hasattr(estimator, "novelty"):
        return f"artifact: the {name} judges only the rows it was fitted on; fit it with novelty=True to judge others"
    return f"artifact: the {name} answers only for the rows it was fitted on: it has neither predict nor transform"


def _probabilities(estimator: Any) -> dict[str, Answer]:
    classes = classes_of(estimator)
    if not isinstance(classes, list):
        return {"probabilities": Answer("predict_proba")}
    if all(set(np.asarray(c).tolist()) <= {0, 1} for c in classes):
        places = [np.asarray(c).tolist().index(1) if 1 in c else None for c in classes]
        return {"probabilities": Answer("predict_proba", lambda found: _of_ones(found, places))}
    return {f"probabilities_{i}": Answer("predict_proba", itemgetter(i)) for i in range(len(classes))}


def _of_ones(found: Any, places: Sequence[int | None]) -> Array:
    """Return the probabilities of 1 for several labels at once, whichever way the estimator gives them."""
    if not isinstance(found, list):
        return np.asarray(found)
    columns = [np.zeros(len(p)) if at is None else p[:, at] for p, at in zip(found, places, strict=True)]
    return np.column_stack(columns)


def classes_of(estimator: Any) -> Any:
    """Return a classifier's classes: an array, a list of arrays for several targets at once, or None."""
    if not require("sklearn.base", "limen[sklearn]").is_classifier(estimator):
        return None
    return getattr(estimator, "classes_", None)


def ask(estimator: Any, answers: Mapping[str, Answer], data: Any) -> dict[str, Array]:
    """Return the answers to rows; each method is called once."""
    given: dict[str, Any] = {}
    found = {}
    for name, answer in answers.items():
        if answer.method not in given:
            given[answer.method] = getattr(estimator, answer.method)(data)
        raw = given[answer.method]
        found[name] = dense(raw if answer.pick is None else answer.pick(raw))
    return found


def calls_of(estimator: Any) -> dict[str, Callable[[Any], Array]]:
    """Return an estimator's answers as functions of rows, by the name of their tensors."""

    def call(name: str, answer: Answer) -> Callable[[Any], Array]:
        return lambda data: ask(estimator, {name: answer}, data)[name]

    return {name: call(name, answer) for name, answer in answers_of(estimator).items()}


def dense(answer: Any) -> Array:
    """Return an answer as an array."""
    return np.asarray(answer.toarray() if hasattr(answer, "toarray") else answer)


def type_name(answer: Array) -> str | None:
    """Return the element type of an answer; None when no contract can express it."""
    if answer.dtype == object:
        items = answer.ravel().tolist()
        if all(isinstance(item, str) for item in items):
            return "string"
        answer = np.asarray(items)
        if answer.dtype.kind not in "biuf":
            return None
    element = element_type_of(answer.dtype)
    return element.name if element else None


def specs_of(
    estimator: Any, answers: Mapping[str, Answer], shown: Mapping[str, Array], declared: Mapping[str, str]
) -> tuple[TensorSpec, ...]:
    """Return the output tensors.

    Args:
        estimator: the estimator.
        answers: what it can be asked.
        shown: its answers to one row; empty when no row is known that it takes.
        declared: types of the contract's outputs by tensor, where no row shows them.
    """
    classes = classes_of(estimator)
    plain = classes if isinstance(classes, np.ndarray) and classes.ndim == 1 else None
    found = []
    for name, answer in answers.items():
        array = shown.get(name)
        if array is None:
            fallback = type_name(plain) if plain is not None and name == "label" else None
            found.append(
                TensorSpec(name, declared.get(name, fallback or ("int64" if name == "label" else "float64")), ())
            )
            continue
        element = type_name(array)
        if element is None:
            raise InvalidPackage(
                f"artifact: {answer.method} of the {type(estimator).__name__} gives values of several types in one output"
            )
        shape = (-1, *array.shape[1:])
        if 0 in shape:
            raise InvalidPackage(
                f"artifact: {answer.method} of the {type(estimator).__name__} gives no columns: it selects none"
            )
        is_by_class = plain is not None and shape[1:] == (len(plain),) and name not in ("label", "transformed")
        columns = tuple(map(str, plain.tolist())) if is_by_class and plain is not None else ()
        values = _listed(plain) if name == "label" and len(shape) == 1 else ()
        found.append(TensorSpec(name, element, shape, columns, values))
    return tuple(found)


def _listed(classes: Array | None) -> tuple[str | int, ...]:
    """Return the classes that a contract lists as the only values of a label."""
    if classes is None or len(classes) > MAX_CLASSES or type_name(classes) not in ("string", "int64"):
        return ()
    return tuple(classes.tolist())
