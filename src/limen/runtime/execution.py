"""Runs a loaded model on one request: identical in every placement."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from limen.contracts.errors import CallerError, InvalidOutput, LimenError, ModelFailed
from limen.contracts.inference import Parameter
from limen.contracts.tensors import Array
from limen.packaging.manifest.values import Manifest
from limen.runtime.backends import backend
from limen.runtime.binding.binding import Binding, compile_binding
from limen.runtime.predictor import LoadedModel


def load(root: Path, manifest: Manifest) -> tuple[LoadedModel, Binding]:
    """Load a package's artifact and bind it to its contract. Trust is the caller's to have checked.

    Raises:
        InvalidPackage: the artifact cannot be loaded or does not fit the contract.
    """
    model = backend(manifest.backend).load(root, manifest)
    try:
        return model, compile_binding(manifest, model.signature)
    except BaseException:
        model.close()
        raise


LOG = logging.getLogger("limen.model")


class Part(NamedTuple):
    """One request's share of a batch."""

    inputs: dict[str, Array]
    rows: int


def run_batch(
    model: LoadedModel, binding: Binding, parts: Sequence[Part], parameters: Mapping[str, Parameter], max_rows: int
) -> list[dict[str, Array] | LimenError]:
    """Return one result for each part, in order, from as few runs of the model as it takes.

    The parts agree in names, types, inner shapes and parameters. When a run breaks, its halves are run again, so that what broke it
    fails alone. Rows of one result are a slice of the run's output.
    """
    try:
        if len(parts) == 1:
            return [run(model, binding, parts[0].inputs, parameters, parts[0].rows, max_rows)]
        merged = {name: np.concatenate([part.inputs[name] for part in parts]) for name in parts[0].inputs}
        outputs = run(model, binding, merged, parameters, sum(part.rows for part in parts), max_rows)
        return split(outputs, [part.rows for part in parts])
    except MemoryError:
        raise
    except Exception as exc:  # noqa: BLE001 - whatever a model raises is the model's failure, and its text is not for callers
        if len(parts) > 1:
            half = len(parts) // 2
            return [
                *run_batch(model, binding, parts[:half], parameters, max_rows),
                *run_batch(model, binding, parts[half:], parameters, max_rows),
            ]
        if isinstance(exc, LimenError):
            return [exc]
        failed = ModelFailed()
        failed.__cause__ = exc
        return [failed]


def log_failure(label: str, request: str, exc: Exception) -> None:
    """Log what a model raised, with the names of the version and of the request; what Limen itself found wrong is no news."""
    if isinstance(exc, CallerError) or (isinstance(exc, LimenError) and exc.__cause__ is None):
        return
    LOG.warning("%s failed on %s", label, request, exc_info=exc.__cause__ or exc)


def split(outputs: dict[str, Array], rows: Sequence[int]) -> list[dict[str, Array] | LimenError]:
    """Return each part's rows of a run's outputs.

    Raises:
        InvalidOutput: an output has another number of rows than went in.
    """
    total = sum(rows)
    for name, array in outputs.items():
        if array.ndim == 0 or len(array) != total:
            raise InvalidOutput(f"the model's output {name} must have one row per row of the request")
    found: list[dict[str, Array] | LimenError] = []
    start = 0
    for count in rows:
        found.append({name: array[start : start + count] for name, array in outputs.items()})
        start += count
    return found


def run(
    model: LoadedModel,
    binding: Binding,
    inputs: dict[str, Array],
    parameters: Mapping[str, Parameter],
    rows: int,
    max_rows: int,
) -> dict[str, Array]:
    """Return the contract's outputs for the contract's inputs, in parts when there are more rows than the model takes at once."""
    if rows <= max_rows:
        return binding.unpack(model.predict(binding.pack(inputs), parameters), rows)
    parts = []
    for start in range(0, rows, max_rows):
        piece = {name: array[start : start + max_rows] for name, array in inputs.items()}
        parts.append(binding.unpack(model.predict(binding.pack(piece), parameters), min(max_rows, rows - start)))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
