"""Checks that an XGBoost model file (JSON or UBJ) is what XGBoost would read from it.

XGBoost follows child and feature numbers without looking, and its binary reader trusts lengths; so the whole file is read here
first and refused when anything contradicts anything (B95). Called by the xgboost backend.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np

from limen.contracts.errors import InvalidPackage
from limen.contracts.tensors import Array
from limen.runtime.backends.files import ubjson
from limen.runtime.backends.files.trees import check_links, check_range, unsound

_PER_NODE: Final = ("left_children", "right_children", "parents", "split_indices", "split_conditions", "default_left")
_OPTIONAL: Final = ("split_type", "base_weights", "loss_changes", "sum_hessian")
_MAX_CATEGORY: Final = 1 << 24
_INT32: Final = 1 << 31
_NO_PARENT: Final = (-1, _INT32 - 1)
"""What XGBoost writes for the parent of a root."""


class Facts(NamedTuple):
    """What a model file says besides its trees."""

    objective: str = ""
    is_linear: bool = False
    """It has weights and no trees."""
    categories: tuple[tuple[str | int, ...], ...] = ()
    """The values of each feature in the order of their codes; empty for a feature that has none, and when the file keeps none."""
    best_round: int | None = None
    """The round that early stopping chose, if the model answers with the trees up to it."""
    missing: float = math.nan
    """The number that stands for a missing one."""


def read_facts(file: Path) -> Facts:
    """Return what a model file says, or refuse one that is damaged or contradicts itself.

    Raises:
        InvalidPackage: saying what is wrong.
    """
    return facts_of(file.read_bytes())


def facts_of(data: bytes) -> Facts:
    """Return what `read_facts` returns, of the content of a file.

    Raises:
        InvalidPackage: saying what is wrong.
    """
    try:
        # Both start with "{"; only a UBJ key has the marker of its length there.
        model = ubjson.decode(data) if data[1:2] == b"L" else msgspec.json.decode(data, type=dict)
    except (ValueError, msgspec.DecodeError, RecursionError) as exc:
        raise unsound("it cannot be read to its end") from exc
    try:
        _check_model(model)
        return _facts(model["learner"])
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError, RecursionError) as exc:
        raise unsound("a part is missing or has another type than XGBoost writes") from exc


def _facts(learner: Mapping[str, Any]) -> Facts:
    attributes = learner.get("attributes", {})
    # Written by XGBoost's scikit-learn classes, which answer with the trees up to the best round; a booster answers with all.
    notes = json.loads(attributes.get("scikit_learn", "null"))
    best = attributes.get("best_iteration") if isinstance(notes, dict) else None
    missing = notes.get("missing") if isinstance(notes, dict) else None
    booster = learner["gradient_booster"]
    is_linear = booster["name"] == "gblinear"
    trees = {} if is_linear else (booster.get("gbtree") or booster)["model"]
    return Facts(
        str(learner["objective"]["name"]),
        is_linear,
        tuple(_ascii(i, _categories(part)) for i, part in enumerate(trees.get("cats", {}).get("enc", ()))),
        None if best is None or is_linear else int(best),
        math.nan if missing is None else float(missing),
    )


def _ascii(feature: int, categories: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """Return categories that are what they were in training: XGBoost counts letters where it should count bytes."""
    if not all(isinstance(value, int) or value.isascii() for value in categories):
        raise InvalidPackage(
            f"artifact: the categories of feature {feature} hold letters beyond ASCII, which XGBoost cuts off when it saves those of a "
            "data frame; rename these categories, or encode them as numbers, and train again"
        )
    return categories


def _categories(part: Mapping[str, Any]) -> tuple[str | int, ...]:
    values = _whole(part["values"])
    if "offsets" not in part:
        numbers: list[str | int] = values.tolist()
        found = tuple(numbers)
    else:
        ends = _whole(part["offsets"])
        if len(ends) and (ends[0] != 0 or ends[-1] != len(values) or (np.diff(ends) < 0).any()):
            raise unsound("it has categories that do not exist")
        text = (values & 255).astype(np.uint8).tobytes()
        found = tuple(text[start:end].decode(errors="replace") for start, end in itertools.pairwise(ends.tolist()))
    if len(set(found)) != len(found):
        raise unsound("it lists a category twice")
    return found


def _check_model(model: Mapping[str, Any]) -> None:
    version = model["version"]
    if len(version) != 3 or not all(isinstance(n, int) for n in version):
        raise unsound("it has no version")
    learner = model["learner"]
    parameters = learner["learner_model_param"]
    features = int(parameters["num_feature"])
    groups = max(int(parameters["num_class"]), int(parameters.get("num_target", 1)), 1)
    check_range(np.array([features, groups]), 0, _INT32, "it has no sensible number of features or classes")
    names = learner.get("feature_names", ())
    if len(names) not in (0, features) or len(learner.get("feature_types", ())) not in (0, features):
        raise unsound("it names other features than it has")
    _check_objective(learner["objective"], groups)
    booster = learner["gradient_booster"]
    kind = booster["name"]
    if kind == "gblinear":
        if len(booster["model"]["weights"]) != (features + 1) * groups:
            raise unsound("it has other weights than features")
        return
    if kind not in ("gbtree", "dart"):
        raise unsound("its kind of booster is unknown")
    trees = (booster["gbtree"] if kind == "dart" else booster)["model"]
    _check_trees(trees, features, groups)
    if kind == "dart" and len(booster["weight_drop"]) != len(trees["trees"]):
        raise unsound("it has other weights than trees")


def _check_objective(objective: Mapping[str, Any], groups: int) -> None:
    # The objective turns margins into answers and writes one number a class.
    classes = objective.get("softmax_multiclass_param", {}).get("num_class")
    if classes is not None and int(classes) != groups:
        raise unsound("its objective has other classes than its trees")


def _check_trees(model: Mapping[str, Any], features: int, groups: int) -> None:
    trees = model["trees"]
    info = _whole(model["tree_info"])
    check_range(info, 0, groups, "a tree belongs to a class that does not exist")
    if not len(trees) == len(info) == int(model["gbtree_model_param"]["num_trees"]):
        raise unsound("it has other trees than it counts")
    if "iteration_indptr" in model:
        rounds = _whole(model["iteration_indptr"])
        if not len(rounds) or rounds[0] != 0 or rounds[-1] != len(trees) or (np.diff(rounds) < 0).any():
            raise unsound("its rounds of boosting do not add up")
    if any(len(part) for part in model.get("cats", {}).values()):
        _check_stored_categories(model["cats"], features)
    for i, tree in enumerate(trees):
        _check_tree(tree, features, f"tree {i}")


def _check_stored_categories(stored: Mapping[str, Any], features: int) -> None:
    ends, order = _whole(stored["feature_segments"]), _whole(stored["sorted_idx"])
    if not len(stored["enc"]) == len(ends) - 1 == features:
        raise unsound("it has categories of other features than it has")
    if ends[0] != 0 or ends[-1] != len(order):
        raise unsound("it has other categories than it counts")
    for part, start, end in zip(stored["enc"], ends.tolist(), ends[1:].tolist(), strict=False):
        count = len(_categories(part))
        if end - start != count or sorted(order[start:end].tolist()) != list(range(count)):
            raise unsound("its categories are not in the order that it says")


def _check_tree(tree: Mapping[str, Any], features: int, where: str) -> None:
    sizes = tree["tree_param"]
    nodes = int(sizes["num_nodes"])
    if int(sizes.get("size_leaf_vector", 1)) > 1:
        raise InvalidPackage("artifact: trees with several targets are not served: train one model for each target")
    if nodes < 1 or int(sizes["num_feature"]) != features:
        raise unsound(f"{where} has no nodes or other features than the model")
    for key in (*_PER_NODE, *(k for k in _OPTIONAL if k in tree)):
        if len(tree[key]) != nodes:
            raise unsound(f"{where} has other {key.replace('_', ' ')} than nodes")
    left, right, parents = (_whole(tree[k]) for k in ("left_children", "right_children", "parents"))
    inner = left != -1
    check_links(left[inner], right[inner], nodes, where)
    above = np.flatnonzero(inner)
    if (parents[left[inner]] != above).any() or (parents[right[inner]] != above).any():
        raise unsound(f"{where} has a node with another parent than its own")
    check_range(parents[~np.isin(parents, _NO_PARENT)], 0, nodes, f"{where} has a node with no sensible parent")
    splits = _whole(tree["split_indices"])
    check_range(splits[inner], 0, features, f"{where} asks for a feature that does not exist")
    check_range(splits, 0, _INT32 * 2, f"{where} has a split that is no number")
    _numbers(tree["split_conditions"])
    _check_categories(tree, inner, where)


def _check_categories(tree: Mapping[str, Any], inner: Array, where: str) -> None:
    types = _whole(tree["split_type"]) if "split_type" in tree else np.zeros(len(inner), np.int64)
    check_range(types, 0, 2, f"{where} has an unknown kind of split")
    nodes, starts, sizes, categories = (
        _whole(tree.get(f"categories{end}", ())) for end in ("_nodes", "_segments", "_sizes", "")
    )
    if not len(nodes) == len(starts) == len(sizes) or set(nodes.tolist()) != set(np.flatnonzero(types).tolist()):
        raise unsound(f"{where} has other categories than splits by category")
    if len(set(nodes.tolist())) != len(nodes) or (np.diff(nodes) < 0).any():
        raise unsound(f"{where} has its categories in disorder")
    check_range(categories, 0, _MAX_CATEGORY, f"{where} has a category that is too large")
    check_range(starts, 0, len(categories) + 1, f"{where} has categories that do not exist")
    check_range(sizes, 0, len(categories) + 1, f"{where} has categories that do not exist")
    check_range(starts + sizes, 0, len(categories) + 1, f"{where} has categories that do not exist")


def _whole(values: Any) -> Array:
    array = np.asarray(values)
    if array.size and array.dtype.kind not in "iub":
        raise TypeError("whole numbers are expected")
    if array.ndim != 1:
        raise TypeError("a list is expected")
    return array.astype(np.int64)


def _numbers(values: Any) -> None:
    array = np.asarray(values)
    if array.ndim != 1 or array.dtype.kind not in "iuf":
        raise TypeError("numbers are expected")
