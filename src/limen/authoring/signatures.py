"""Merges a source's tensor declarations with those of the artifact itself. Called by `authoring.importing`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from limen.contracts.errors import InvalidPackage
from limen.contracts.tensors import TensorSpec
from limen.packaging.importers.draft import Draft
from limen.runtime.backends.boosters import PROBABILITIES
from limen.runtime.backends.categories import plain_name
from limen.runtime.predictor import Signature

_BOOSTERS: Final = ("xgboost", "lightgbm")


def amended(draft: Draft, columns: Sequence[str], *, is_class: bool = False) -> Callable[[str, Signature], Signature]:
    """Return what completes an artifact's tensors with the source's names, types and shapes.

    Args:
        draft: what the source says.
        columns: names of the sample's columns, in the order of the artifact's.
        is_class: the original answers with a class.
    """

    def amend(backend: str, found: Signature) -> Signature:
        if draft.inputs:
            found = Signature(_narrowed(draft.inputs, found.inputs, "input"), found.outputs)
        if draft.outputs:
            found = Signature(found.inputs, _narrowed(draft.outputs, found.outputs, "output"))
        names = tuple(column.name for column in draft.columns)
        if draft.is_pickle and set(columns) == set(names):
            # The signature may name them in another order than the model was trained on.
            names = tuple(columns)
        inputs = _with_columns(found.inputs, names) if names else _with_sample(found.inputs, tuple(columns))
        if backend == "sklearn":
            types = {column.name: column.type for column in draft.columns}
            inputs = tuple(msgspec.structs.replace(t, type=types.get(t.name, t.type)) for t in inputs)
        outputs = found.outputs
        if backend in _BOOSTERS and (is_class or PROBABILITIES in draft.labels):
            outputs = (_by_class(outputs[0], draft.labels.get(PROBABILITIES, ())),)
        return Signature(inputs, outputs)

    return amend


def _by_class(prediction: TensorSpec, classes: tuple[str, ...]) -> TensorSpec:
    """Return a classifier's probabilities, one a class, where its booster gives that of the second only."""
    count = prediction.shape[1] if len(prediction.shape) == 2 else 2
    names = classes or tuple(map(str, range(count)))
    return TensorSpec(PROBABILITIES, prediction.type, (-1, count), names)


def _with_columns(inputs: tuple[TensorSpec, ...], names: tuple[str, ...]) -> tuple[TensorSpec, ...]:
    """Name the columns of the only tensor as the source does, in the order of the artifact's own names where it has some.

    Raises:
        InvalidPackage: the source declares other inputs than the artifact takes.
    """
    if not names or len(inputs) != 1 or len(inputs[0].shape) != 2:
        return inputs
    width = inputs[0].shape[1]
    if width not in (-1, len(names)):
        raise InvalidPackage(f"the source declares {len(names)} inputs and the model takes {width} columns")
    if inputs[0].columns:
        names = _in_order(names, inputs[0].columns)
    return (msgspec.structs.replace(inputs[0], shape=(-1, len(names)), columns=names),)


def _in_order(names: tuple[str, ...], own: tuple[str, ...]) -> tuple[str, ...]:
    """Return a source's names in the order of the artifact's: names before places.

    Raises:
        InvalidPackage: some are the same and some are not.
    """
    # Libraries keep names without what their files cannot hold: LightGBM makes `sepal length` sepal_length.
    by_own = {plain_name(name): name for name in names}
    if by_own.keys() == set(map(plain_name, own)):
        return tuple(by_own[plain_name(name)] for name in own)
    if by_own.keys().isdisjoint(map(plain_name, own)):
        return names
    unknown = ", ".join(name for name in names if plain_name(name) not in set(map(plain_name, own)))
    raise InvalidPackage(
        f"the source names inputs that the model was not trained on: {unknown}. It was trained on {', '.join(own)}"
    )


def _with_sample(inputs: tuple[TensorSpec, ...], names: tuple[str, ...]) -> tuple[TensorSpec, ...]:
    """Name the columns of the only tensor when it takes any number of them; a width of its own decides otherwise."""
    is_open = len(inputs) == 1 and inputs[0].shape[1:] == (-1,)
    return _with_columns(inputs, names) if is_open else inputs


def _narrowed(declared: tuple[TensorSpec, ...], found: tuple[TensorSpec, ...], side: str) -> tuple[TensorSpec, ...]:
    """Return the tensors a source declares, with the artifact's sizes where the source leaves them open.

    Raises:
        InvalidPackage: the artifact has no such tensor, or it has another type or shape.
    """
    if not found:
        # A class declares nothing.
        return declared
    own = {tensor.name: tensor for tensor in found}
    made = []
    for tensor in declared:
        there = own.get(tensor.name)
        if there is None:
            raise InvalidPackage(f"the configuration names the {side} {tensor.name}; the model has {', '.join(own)}")
        if there.type != tensor.type:
            raise InvalidPackage(
                f"the {side} {tensor.name} is {tensor.type} in the configuration and {there.type} in the model"
            )
        if there.shape and not _agree(tensor.shape, there.shape):
            text = f"the {side} {tensor.name} has the shape {list(tensor.shape)} in the configuration"
            raise InvalidPackage(f"{text} and {list(there.shape)} in the model, the batch included")
        sizes = zip(tensor.shape, there.shape or tensor.shape, strict=True)
        made.append(msgspec.structs.replace(there, shape=tuple(b if a == -1 else a for a, b in sizes)))
    return tuple(made)


def _agree(declared: tuple[int, ...], found: tuple[int, ...]) -> bool:
    return len(declared) == len(found) and all(-1 in (a, b) or a == b for a, b in zip(declared, found, strict=True))
