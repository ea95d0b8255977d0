"""The categories that a LightGBM file keeps from its training data frame, and the columns they belong to.

The last line of a file, `pandas_categorical`, has one list of values for each column of categories, in the order of the columns, and
names none of them. What the file says of each feature decides: LightGBM describes a feature of categories by its codes (`2:0:1`) and
any other by its range (`[0:2]`), which an ordered column of categories is too. Called by the lightgbm backend.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from limen.contracts.errors import InvalidPackage
from limen.runtime.backends.files.trees import unsound

_KEY = b"\npandas_categorical:"
_TOLD = re.compile(rb"\n\[categorical_feature: (\d{1,9}(?:,\d{1,9})*)\]\n")
_CODES = re.compile(r"-?\d+(?::-?\d+)*")
_RANGE = re.compile(r"\[(?P<low>\d+):(?P<high>\d+)\]")


class Feature(NamedTuple):
    """What a file says of one feature."""

    name: str
    info: str
    """Its codes, its range, or `none` if it has one value only."""
    is_coded: bool
    """Whether LightGBM was told that these are categories."""

    def may_have(self, size: int) -> bool:
        """Return whether its values may be the codes of so many categories."""
        if _CODES.fullmatch(self.info):
            return max(map(int, self.info.split(":"))) < size
        within = _RANGE.fullmatch(self.info)
        return self.info == "none" or (within is not None and int(within["high"]) < size)


def read_features(names: Sequence[str], infos: Sequence[str], rest: bytes) -> tuple[Feature, ...]:
    """Return what a file says of its features.

    Args:
        names: their names.
        infos: their codes or ranges.
        rest: what follows the trees; the parameters of training are in it.
    """
    told = _TOLD.search(rest)
    places = {int(place) for place in told[1].split(b",")} if told else set()
    return tuple(
        Feature(name, info, i in places or _CODES.fullmatch(info) is not None)
        for i, (name, info) in enumerate(zip(names, infos, strict=True))
    )


def read_categories(rest: bytes) -> tuple[tuple[Any, ...], ...]:
    """Return the lists that a file ends with.

    Args:
        rest: what follows the trees.

    Raises:
        InvalidPackage: the line is damaged.
    """
    _, found, text = rest.rpartition(_KEY)
    if not found:
        return ()
    try:
        lists = msgspec.json.decode(text, type=list[list[str | bool | int | float]] | None) or []
    except (msgspec.DecodeError, RecursionError):
        raise unsound("its categories cannot be read") from None
    if any(len(set(values)) != len(values) for values in lists):
        raise unsound("it lists a category twice")
    return tuple(map(tuple, lists))


def assign(
    features: Sequence[Feature], categories: Sequence[Sequence[Any]], is_text: Mapping[str, bool]
) -> dict[str, tuple[Any, ...]]:
    """Return the categories of each feature that has some.

    Args:
        features: the model's, in its order.
        categories: the file's lists.
        is_text: what is known of features from elsewhere: whether their values are text.

    Raises:
        InvalidPackage: the file leaves open whose they are.
    """
    coded = [f for f in features if f.is_coded]
    # What is known from elsewhere may be wrong; then the binding to the contract says where.
    for known in (is_text, {}):
        # Nearly always every column of categories is one for LightGBM too.
        found = _places(coded, categories, known) if len(coded) == len(categories) else []
        found = found or _places(features, categories, known)
        if len(found) == 1:
            return found[0]
    raise InvalidPackage(
        f"artifact: the file keeps the categories of {len(categories)} columns and does not say which of its features they are; "
        "train with unordered categories only, or give a sample of the training data that shows them as text"
    )


def _places(
    features: Sequence[Feature], categories: Sequence[Sequence[Any]], is_text: Mapping[str, bool]
) -> list[dict[str, tuple[Any, ...]]]:
    """Return up to two ways to give the lists to features without changing the order of either."""
    # Ways to place the first lists on the features seen so far, by how many lists they have placed.
    ways: list[list[dict[str, tuple[Any, ...]]]] = [[{}], *([] for _ in categories)]
    for feature in features:
        for count in range(len(categories), 0, -1):
            values = categories[count - 1]
            if _suits(feature, values, is_text.get(feature.name)):
                more = [{**way, feature.name: tuple(values)} for way in ways[count - 1]]
                ways[count] = (ways[count] + more)[:2]
        if is_text.get(feature.name):
            # A way that passes over a column of text is none.
            ways = [[way for way in found if feature.name in way] for found in ways]
    return ways[-1]


def _suits(feature: Feature, values: Sequence[Any], is_text: bool | None) -> bool:
    has_text = all(isinstance(value, str) for value in values)
    return feature.may_have(len(values)) and is_text in (None, has_text)
