"""Checks that a LightGBM text model is what LightGBM would read from it.

LightGBM follows child and feature numbers without looking and ends the process on a damaged tree (it reads trees in parallel
regions that errors cannot leave); so the whole file is read here first and refused when anything contradicts anything (B95).
Called by the lightgbm backend.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from limen.contracts.errors import InvalidPackage
from limen.contracts.tensors import Array
from limen.runtime.backends.files.lightgbm_categories import Feature, read_categories, read_features
from limen.runtime.backends.files.trees import check_links, check_range, unsound

_END: Final = b"end of trees\n"
_PARAMETERS: Final = b"\nparameters:\nend of parameters\n\npandas_categorical:null\n"
_NUMBERS: Final = re.compile(r"[-+0-9.eEinfa ]*")
_WHOLE: Final = re.compile(r"-?[0-9]{1,18}")
_INT32: Final = 1 << 31
_PER_SPLIT: Final = ("split_feature", "threshold", "decision_type", "left_child", "right_child")
_PER_SPLIT_OPTIONAL: Final = ("split_gain", "internal_value", "internal_weight", "internal_count")
_PER_LEAF: Final = ("leaf_value",)
_PER_LEAF_OPTIONAL: Final = ("leaf_weight", "leaf_count")


class TextModel(NamedTuple):
    """What a model file holds."""

    trees: str
    """The trees, for LightGBM to load."""
    objective: str
    """Its name; empty for one that was a Python function."""
    features: tuple[Feature, ...]
    """What the file says of each feature, in the order of the trees."""
    categories: tuple[tuple[Any, ...], ...]
    """The values of each pandas column of categories, in the order of their codes; whose they are is another question."""


def read_model(file: Path) -> TextModel:
    """Return what a model file holds, or refuse one that is damaged or contradicts itself.

    What follows the trees (importances, the parameters of training) is left out: predictions do not need it, and LightGBM's
    parser of it is as trusting as that of the trees.

    Raises:
        InvalidPackage: saying what is wrong.
    """
    return checked(file.read_bytes())


def checked(data: bytes) -> TextModel:
    """Return what `read_model` returns, of the content of a file.

    Raises:
        InvalidPackage: saying what is wrong.
    """
    data = data.replace(b"\r\n", b"\n")
    head, _, rest = data.partition(b"\n\n")
    header = _pairs(head, "the header")
    sizes = _whole(header, "tree_sizes", "the header")
    features = _number(header, "max_feature_idx", "the header") + 1
    classes = _number(header, "num_class", "the header")
    per_round = _number(header, "num_tree_per_iteration", "the header")
    if not (0 < features < _INT32 and 0 < classes == per_round < _INT32) or len(sizes) % per_round:
        raise unsound("it has no sensible number of features, classes or trees")
    for key in ("feature_names", "feature_infos"):
        if len(header.get(key, "").split(" ")) != features:
            raise unsound(f"it has other {key.replace('_', ' ')} than features")
    stated = re.search(r"num_class:(\S+)", header.get("objective", ""))
    if stated and stated[1] != str(classes):
        raise unsound("its objective has other classes than its trees")
    check_range(sizes, 1, len(rest) + 1, "a tree is longer than the file")
    at = 0
    for i, size in enumerate(sizes.tolist()):
        _check_tree(rest[at : at + size], i, features)
        at += size
    if not rest[at:].lstrip(b"\n").startswith(_END):
        raise unsound("its trees are longer or shorter than it says")
    trees = b"\n\n".join((head, rest[:at]))
    if b"\0" in trees:
        raise unsound("it is no text")
    names, infos = (header[key].split(" ") for key in ("feature_names", "feature_infos"))
    return TextModel(
        (trees + b"\n" + _END + _PARAMETERS).decode(),
        header.get("objective", "").split(" ")[0],
        read_features(names, infos, rest[at:]),
        read_categories(rest[at:]),
    )


def _check_tree(block: bytes, number: int, features: int) -> None:
    where = f"tree {number}"
    first, _, body = block.partition(b"\n")
    if first != f"Tree={number}".encode():
        raise unsound(f"{where} is not where it should be")
    tree = _pairs(body.rstrip(b"\n"), where)
    if not all(tree.values()) and any(b"=" not in line for line in body.split(b"\n") if line):
        raise unsound(f"{where} has a line that says nothing")
    if tree.get("is_linear", "0") != "0":
        raise InvalidPackage("artifact: linear trees are not served: train with linear_tree=false, or export to ONNX")
    leaves = _number(tree, "num_leaves", where)
    if not 1 <= leaves < _INT32:
        raise unsound(f"{where} has no leaves")
    splits = leaves - 1
    required = (*_PER_SPLIT, *_PER_LEAF) if splits else _PER_LEAF
    optional = (*_PER_SPLIT_OPTIONAL, *_PER_LEAF_OPTIONAL) if splits else ()
    for key in (*required, *(k for k in optional if tree.get(k))):
        if len(_floats(tree, key, where)) != (splits if key in _PER_SPLIT + _PER_SPLIT_OPTIONAL else leaves):
            raise unsound(f"{where} has other {key.replace('_', ' ')} than leaves")
    if "shrinkage" in tree and len(_floats(tree, "shrinkage", where)) != 1:
        raise unsound(f"{where} has no sensible shrinkage")
    if splits:
        _check_splits(tree, leaves, features, where)


def _check_splits(tree: Mapping[str, str], leaves: int, features: int, where: str) -> None:
    children = np.concatenate([_whole(tree, "left_child", where), _whole(tree, "right_child", where)])
    inner, ends = children[children >= 0], ~children[children < 0]
    check_links(inner, inner[:0], leaves - 1, where)
    check_range(ends, 0, leaves, f"{where} has a leaf that does not exist")
    check_range(_whole(tree, "split_feature", where), 0, features, f"{where} asks for a feature that does not exist")
    kinds = _whole(tree, "decision_type", where)
    check_range(kinds, 0, 16, f"{where} has an unknown kind of split")
    for key in ("internal_count", "leaf_count"):
        if tree.get(key):
            check_range(_whole(tree, key, where), -_INT32, _INT32, f"{where} counts too much")
    _check_categories(tree, (kinds & 1) == 1, where)


def _check_categories(tree: Mapping[str, str], by_category: Array, where: str) -> None:
    count = _number(tree, "num_cat", where)
    if count == 0:
        if by_category.any():
            raise unsound(f"{where} has splits by category but no categories")
        return
    bounds = _whole(tree, "cat_boundaries", where)
    words = _whole(tree, "cat_threshold", where)
    if len(bounds) != count + 1 or bounds[0] != 0 or bounds[-1] != len(words) or (np.diff(bounds) < 0).any():
        raise unsound(f"{where} has categories that do not exist")
    check_range(words, 0, 1 << 32, f"{where} has categories that are no numbers")
    chosen = _floats(tree, "threshold", where)[by_category]
    check_range(chosen, 0, count, f"{where} asks for categories that do not exist")


def _pairs(text: bytes, where: str) -> dict[str, str]:
    try:
        lines = text.decode().split("\n")
    except UnicodeDecodeError:
        raise unsound(f"{where} is no text") from None
    pairs: dict[str, str] = {}
    for line in lines:
        key, _, value = line.partition("=")
        if key in pairs:
            raise unsound(f"{where} says something twice")
        pairs[key] = value
    return pairs


def _number(pairs: Mapping[str, str], key: str, where: str) -> int:
    text = pairs.get(key, "")
    if _WHOLE.fullmatch(text) is None:
        raise unsound(f"{where} has no {key.replace('_', ' ')}")
    return int(text)


def _floats(pairs: Mapping[str, str], key: str, where: str) -> Array:
    text = pairs.get(key, "")
    try:
        if _NUMBERS.fullmatch(text) is None:
            raise ValueError
        return np.array(text.split(" "), np.float64)
    except ValueError:
        raise unsound(f"{where} has {key.replace('_', ' ')} that are no numbers") from None


def _whole(pairs: Mapping[str, str], key: str, where: str) -> Array:
    words = pairs.get(key, "").split(" ")
    if not all(map(_WHOLE.fullmatch, words)):
        raise unsound(f"{where} has {key.replace('_', ' ')} that are no whole numbers")
    return np.array(words, np.int64)
