"""Categorical columns of a booster: maps callers' values to the codes that its trees were trained on.

A booster's trees know a category by its place in a list that its file keeps. Called by the xgboost and lightgbm backends.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from limen.contracts.errors import InvalidPackage
from limen.contracts.tensors import BY_NAME, Array, Kind, TensorSpec

Category = str | int | float | bool
_FAMILIES = {"string": (Kind.TEXT,), "float64": (Kind.INT, Kind.FLOAT), "bool": (Kind.BOOL, Kind.INT, Kind.FLOAT)}
"""What a field may be whose categories are of a type."""


class Table:
    """A booster's features as one tensor each, some of them categories."""

    def __init__(
        self,
        features: Sequence[str],
        categories: Mapping[str, Sequence[Category]],
        number: str,
        declared: Mapping[str, str],
    ) -> None:
        """Prepare the codes.

        Args:
            features: the booster's, in its order.
            categories: the values of each feature that has some, in the order of their codes.
            number: the element type of the booster's own matrix.
            declared: the types the contract gives to features.

        Raises:
            InvalidPackage: a feature has categories of several types.
        """
        self._dtype = BY_NAME[number].dtype
        self.specs = tuple(_spec(name, categories.get(name, ()), declared.get(name, ""), number) for name in features)
        """The features as tensors."""
        self.categories = {name: tuple(values) for name, values in categories.items() if values}
        self._columns = [(spec.name, _codes(spec) if spec.categories else None) for spec in self.specs]

    def matrix(self, inputs: Mapping[str, Array]) -> Array:
        """Return the rows as the trees know them; a missing or unknown category is NaN."""
        rows = len(inputs[self._columns[0][0]])
        found = np.empty((rows, len(self._columns)), self._dtype)
        for i, (name, codes) in enumerate(self._columns):
            values = inputs[name]
            found[:, i] = values if codes is None else [codes.get(v, math.nan) for v in values.tolist()]
        return found


def _codes(spec: TensorSpec) -> dict[Category, float]:
    # True is 1 and 20.0 is 20 as keys; what a field of single precision rounds, it rounds here too.
    element = BY_NAME[spec.type]
    values = np.array(spec.categories, element.dtype).tolist() if element.kind is Kind.FLOAT else spec.categories
    return {value: float(code) for code, value in enumerate(values)}


def _spec(name: str, categories: Sequence[Category], declared: str, number: str) -> TensorSpec:
    if not categories:
        return TensorSpec(name, number, (-1,), nullable=True)
    own = type_of(categories, name)
    is_fit = declared in BY_NAME and BY_NAME[declared].kind in _FAMILIES[own]
    return TensorSpec(name, declared if is_fit else own, (-1,), categories=tuple(categories), nullable=True)


def type_of(categories: Sequence[Any], name: str) -> str:
    """Return the element type of a feature's categories: string, float64 or bool.

    Raises:
        InvalidPackage: they are of several types, or of one that no field has.
    """
    kinds = {type(value) for value in categories}
    if kinds <= {str}:
        return "string"
    if kinds == {bool}:
        return "bool"
    if kinds <= {int, float}:
        return "float64"
    raise InvalidPackage(
        f"artifact: the categories of {name} are neither all text nor all numbers; train it with categories of one type"
    )


def plain_name(name: str) -> str:
    """Return what is left of a feature's name in files that cannot hold every character."""
    return re.sub(r"\W+", "_", name)
