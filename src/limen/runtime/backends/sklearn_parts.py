"""The parts of a loaded estimator: walked, checked where scikit-learn would follow indices unchecked (B95), set to one thread.

Checked: decision trees, trees of histograms, support vectors, splines, sparse matrices. Search trees of nearest neighbours are built
again from their points. Text extractors that open files are refused. Called by the sklearn backend.
"""

# ruff: noqa: SLF001 - fitted estimators keep in private attributes what has to be checked

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from limen.contracts.errors import InvalidPackage, Reason
from limen.runtime.backends.artifact import require
from limen.runtime.backends.files.trees import check_links, check_range, unsound

_PACKAGES = ("sklearn.", "xgboost.", "lightgbm.", "scipy.sparse.")


def settle(estimator: Any) -> None:
    """Make a loaded estimator fit to be served.

    Raises:
        InvalidPackage: a part is damaged, or does what no model may.
    """
    for part in parts_of(estimator):
        _check(part)
        _grow_search_tree(part)
        if hasattr(part, "n_jobs"):
            part.n_jobs = 1
        if type(part).__module__ == "xgboost.core":
            part.set_param({"nthread": 1})


def parts_of(estimator: Any) -> Iterator[Any]:
    """Yield every object of a known library that the estimator holds, itself included, each once."""
    seen: set[int] = set()
    waiting = [estimator]
    while waiting:
        part = waiting.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, Mapping):
            waiting.extend(part.values())
        elif isinstance(part, (list, tuple)) or (isinstance(part, np.ndarray) and part.dtype == object):
            waiting.extend(part)
        elif type(part).__module__.startswith(_PACKAGES) and not isinstance(part, type):
            yield part
            waiting.extend(getattr(part, "__dict__", {}).values())


def knows_gaps(estimator: Any) -> bool:
    """Return whether a part of it learns which way missing numbers go, and does not only happen to take them."""
    boosters = ("xgboost.sklearn", "lightgbm.sklearn")
    return any(getattr(part, "_predictors", None) or type(part).__module__ in boosters for part in parts_of(estimator))


def _check(part: Any) -> None:
    if hasattr(part, "check_format") and hasattr(part, "indptr"):
        part.check_format(full_check=True)
    if getattr(part, "input", "content") != "content" and hasattr(part, "stop_words"):
        raise InvalidPackage(
            f"artifact: {type(part).__name__} reads the files whose names it is sent (input={part.input!r}); fit it with "
            "input='content' and send the texts",
            reason=Reason.UNSAFE_FORMAT,
        )
    if hasattr(part, "_n_support"):
        _check_support_vectors(part)
    for spline in getattr(part, "bsplines_", None) or ():
        # Its constructor checks what loading does not.
        type(spline)(spline.t, spline.c, spline.k)
    features = int(getattr(part, "n_features_in_", None) or 0)
    tree = getattr(part, "tree_", None)
    if tree is not None and type(tree).__name__ == "Tree":
        _check_tree(tree, features)
    for predictor in _flat(getattr(part, "_predictors", ())):
        _check_histogram_tree(predictor, features)
    if getattr(part, "_predictors", None):
        _check_bins(part._bin_mapper)
    # Ensembles hand their input to their trees unchecked, so both must count the same features.
    members = _flat(getattr(part, "estimators_", ()))
    picked = getattr(part, "estimators_features_", None)
    for i, member in enumerate(members):
        if hasattr(member, "tree_") and type(part).__module__.startswith("sklearn.ensemble."):
            width = features if picked is None else len(picked[i])
            if member.n_features_in_ != width:
                raise unsound("a tree counts other features than its ensemble")


def _check_tree(tree: Any, features: int) -> None:
    nodes = tree.__getstate__()["nodes"]
    inner = nodes[nodes["left_child"] != -1]
    check_links(inner["left_child"], inner["right_child"], len(nodes), "a tree")
    check_range(inner["feature"], 0, features, "a tree asks for a feature that does not exist")
    if not len(nodes):
        raise unsound("a tree is empty")


def _check_histogram_tree(tree: Any, features: int) -> None:
    nodes = tree.nodes
    inner = nodes[nodes["is_leaf"] == 0]
    check_links(inner["left"], inner["right"], len(nodes), "a tree")
    check_range(inner["feature_idx"], 0, features, "a tree asks for a feature that does not exist")
    choices = inner[inner["is_categorical"] != 0]["bitset_idx"]
    for sets in (tree.raw_left_cat_bitsets, tree.binned_left_cat_bitsets):
        check_range(choices, 0, len(sets), "a tree asks for a set of categories that does not exist")
        if sets.ndim != 2 or sets.shape[1] != 8:
            raise unsound("a tree has sets of categories of another form")
    if not len(nodes):
        raise unsound("a tree is empty")


def _check_bins(bins: Any) -> None:
    """Refuse known categories beyond the 256 that their bit sets have room for."""
    known = np.flatnonzero(bins.is_categorical_)
    check_range(known, 0, len(bins.bin_thresholds_), "it has other bins than features")
    for feature in known:
        check_range(np.asarray(bins.bin_thresholds_[feature]), 0, 256, "it has a category that is too large")


def _check_support_vectors(part: Any) -> None:
    counts, vectors = np.asarray(part._n_support), part.support_vectors_.shape[0]
    check_range(counts, 0, vectors + 1, "it counts support vectors that do not exist")
    if part._dual_coef_.shape[1] != vectors or len(part.support_) != vectors:
        raise unsound("it counts other support vectors than it has")
    if type(part).__name__ not in ("SVC", "NuSVC"):
        if part._dual_coef_.shape[0] != 1 or len(part._intercept_) != 1:
            raise unsound("it has support vectors for classes")
        return
    classes = len(counts)
    pairs = classes * (classes - 1) // 2
    if counts.sum() != vectors or part._dual_coef_.shape[0] != classes - 1 or len(part.classes_) != classes:
        raise unsound("it has support vectors for other classes than it has")
    if len(part._intercept_) != pairs or any(len(found) not in (0, pairs) for found in (part._probA, part._probB)):
        raise unsound("it has probabilities for other classes than it has")


def _grow_search_tree(part: Any) -> None:
    """Build the search tree of an estimator of nearest neighbours again, of which only the points are loaded."""
    neighbors = require("sklearn.neighbors", "limen[sklearn]")
    if isinstance(found := getattr(part, "_tree", None), tuple) and hasattr(part, "_fit_method"):
        make = neighbors.KDTree if part._fit_method == "kd_tree" else neighbors.BallTree
        part._tree = make(found[0], part.leaf_size, metric=part.effective_metric_, **part.effective_metric_params_)
    if isinstance(found := getattr(part, "tree_", None), tuple):
        algorithm = part._choose_algorithm(part.algorithm, part.metric)
        make = neighbors.KDTree if algorithm == "kd_tree" else neighbors.BallTree
        points, weights = found
        part.tree_ = make(
            points, metric=part.metric, leaf_size=part.leaf_size, sample_weight=weights, **(part.metric_params or {})
        )


def _flat(members: Any) -> list[Any]:
    if isinstance(members, np.ndarray):
        return list(members.ravel())
    return [m for row in members or () for m in (row if isinstance(row, (list, tuple)) else [row])]
