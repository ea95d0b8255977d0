"""The importers' result: `Draft`. Plain values; nothing is loaded or written."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar, Protocol

import msgspec

from limen.contracts.names import MODEL_NAME
from limen.contracts.tensors import Array, TensorSpec

WHOLE = ""
"""The key of a sample that is one array for the artifact's only input, and not columns by name."""


class Column(msgspec.Struct, frozen=True):
    """One named input as the source declares it."""

    name: str
    type: str
    """Name of an element type."""
    is_required: bool = True


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """What an importer read: which file is the model, and what its source knows about it."""

    kind: str
    """What the source is, for people."""
    name: str
    """The source's own name of the model, which need not be one that a model can have here."""
    artifact: Path
    is_pickle: bool = False
    """The artifact can only be had by unpickling it: it must be converted."""
    rewrite: Callable[[Path, Path], None] | None = None
    """Writes the artifact to another place without what no package may hold; None when it is taken as it is."""
    classifier: bool = False
    """The original answers with a class where the artifact gives probabilities."""
    label_of: str = ""
    """The tensor of probabilities whose likeliest label is an answer too, by its name."""
    is_early_stopped: bool = False
    """The original answers with the XGBoost trees up to the best round only, which its file does not say."""
    columns: tuple[Column, ...] = ()
    """Inputs by name, in the order of the artifact's columns; empty when the source names none."""
    inputs: tuple[TensorSpec, ...] = ()
    """Input tensors as the source declares them; empty when only the artifact knows."""
    outputs: tuple[TensorSpec, ...] = ()
    """Likewise."""
    sample: Mapping[str, Array] = {}
    """Example rows: columns by name, or one array under `WHOLE`."""
    labels: Mapping[str, tuple[str, ...]] = {}
    """Names of the classes along the last axis of an output tensor."""
    max_rows: int | None = None
    max_wait_ms: float | None = None
    is_batched: bool | None = None
    """Whether tensors have the batch as their first axis; None when only the artifact knows."""
    input_rows: Mapping[str, tuple[int, ...]] = {}
    """Shapes of one row (of the whole, without a batch axis) as callers know them, by input tensor."""
    output_rows: Mapping[str, tuple[int, ...]] = {}
    """Likewise, by output tensor."""
    origin: Mapping[str, str] = {}
    """Where it comes from: what is recorded in the package."""
    versions: Mapping[str, str] = {}
    """Versions of the libraries that wrote it."""
    notes: tuple[str, ...] = ()
    """What is not carried over, for people."""


class Importer(Protocol):
    """Reads one kind of source."""

    kind: ClassVar[str]
    """What it reads, for people."""

    def recognises(self, path: Path) -> bool:
        """Return whether this is its kind of folder or file, from names alone."""
        ...

    def read(self, path: Path, version: str) -> Draft:
        """Return what is there.

        Raises:
            InvalidPackage: it cannot be imported; the text says why and what to do instead.
        """
        ...


def model_name(text: str) -> str:
    """Return a valid model name that is as near to a text as can be: the text itself where it is one, `model` when nothing is left."""
    if MODEL_NAME.fullmatch(text):
        return text
    plain = re.sub(r"\.{2,}", ".", re.sub(r"[^a-z0-9._-]+", "-", text.casefold()))
    plain = plain.lstrip("._-")[:63].rstrip("._-")
    return plain if MODEL_NAME.fullmatch(plain) else "model"
