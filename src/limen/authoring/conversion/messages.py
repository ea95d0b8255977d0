"""Messages to and from the converting process: one MessagePack value each way, plain data only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from limen.contracts.tensors import Array


class Values(msgspec.Struct, frozen=True):
    """One array."""

    dtype: str
    """NumPy's name of it; `object` for text."""
    items: list[Any]
    """Its items as nested lists, row by row."""

    @classmethod
    def of(cls, array: Array) -> Values:
        """Return an array as plain values."""
        return cls("object" if array.dtype.kind in "OUS" else array.dtype.name, array.tolist())

    def array(self) -> Array:
        """Return the array."""
        return np.array(self.items, np.dtype(self.dtype))


Rows = dict[str, Values]
"""Rows of input: columns by name, or one array under the empty name."""


def rows_of(sample: Mapping[str, Array]) -> Rows:
    """Return arrays as rows."""
    return {name: Values.of(array) for name, array in sample.items()}


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """One pickle to convert."""

    model: bytes
    targets: tuple[str, ...]
    """The formats to try: onnx, skops. Boosters have their own and ignore this."""
    sample: Rows = {}
    """Example rows; columns without values say only their types."""
    memory_mb: int


class Candidate(msgspec.Struct, frozen=True):
    """The model in one format."""

    format: str
    """A name that `packaging.formats.sniff` gives: onnx, skops, xgboost-ubj, lightgbm."""
    data: bytes


class Converted(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a pickle."""

    library: str
    """What the model is, such as `sklearn.pipeline.Pipeline`."""
    candidates: tuple[Candidate, ...]
    refused: dict[str, str] = {}
    """Why a format could not be written."""
    rows: Rows
    """The rows that the original was asked: the sample and made-up ones."""
    sample_rows: int
    """How many of them are the sample's."""
    answers: Rows
    """The original's answers to them, by the name of the artifact's tensor."""
    classes: tuple[str, ...] = ()
    """Names along the last axis of `probabilities`."""
    classifier: bool = False
    """The original answers with the number of a class where the artifact gives probabilities."""
    has_named_classes: bool = False
    """It answers with one of `classes` there."""
    categories: dict[str, list[Any]] = {}
    """The only values that the original takes in some columns."""
    nullable: tuple[str, ...] = ()
    """Inputs in which it takes missing values."""
    notes: tuple[str, ...] = ()
    """Warnings of the libraries."""
    isolation: tuple[str, ...] = ()
    """What held: the words of `isolation`, `namespaces` and `confinement`."""


class Refused(msgspec.Struct, frozen=True):
    """Why nothing became of it."""

    message: str


class Said(msgspec.Struct, frozen=True, omit_defaults=True):
    """The process's one answer; one of the two is set."""

    converted: Converted | None = None
    refused: Refused | None = None
