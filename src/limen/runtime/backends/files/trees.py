"""Checks that stored decision trees can be walked: every link and every feature exists.

The tree libraries follow child and feature numbers without looking. A damaged or crafted file would make `predict` read foreign
memory, crash or never end (B95), so the backends check the numbers once, when a model is loaded. Pure; called by the sklearn,
xgboost and lightgbm backends.
"""

from __future__ import annotations

import numpy as np

from limen.contracts.errors import InvalidPackage
from limen.contracts.tensors import Array


def unsound(what: str) -> InvalidPackage:
    """Return the error for a model file that contradicts itself."""
    return InvalidPackage(f"artifact: the model is damaged: {what}")


def check_links(left: Array, right: Array, nodes: int, where: str) -> None:
    """Refuse child numbers that do not form one tree with node 0 as its root.

    Args:
        left: the left children of all inner nodes.
        right: the right children of all inner nodes.
        nodes: how many nodes there are.
        where: the tree, for the error text.
    """
    children = np.concatenate([left, right]).astype(np.int64)
    check_range(children, 1, nodes, f"{where} has a link to a node that does not exist")
    # No node has two parents and the root has none, so no walk from the root can come back to where it was.
    if children.size and np.bincount(children).max() > 1:
        raise unsound(f"{where} has two links to one node")


def check_range(values: Array, low: int, high: int, what: str) -> None:
    """Refuse values that are not from `low` up to but not including `high`; NaN is not either."""
    if values.size and not (low <= values.min() and values.max() < high):
        raise unsound(what)
