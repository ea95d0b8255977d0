"""Running a loaded model on one request, wherever it is loaded: the same in every placement."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from limen.contracts.inference import Parameter
from limen.contracts.tensors import Array
from limen.packaging.manifest import Manifest
from limen.runtime.backends import backend
from limen.runtime.binding import Binding, compile_binding
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
