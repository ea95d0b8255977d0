"""Artifacts without a batch axis: one row in Limen is the artifact's whole input.

A binding is compiled as if each of their tensors had a batch axis of one row; here that axis is taken off before a run and put on
after it. A request with several rows is run row by row, because such a contract has one row a run. Called by `runtime.binding.binding`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from limen.contracts.tensors import Array, TensorSpec

Pack = Callable[[dict[str, Array]], dict[str, Array]]
"""Contract inputs to artifact inputs."""
Unpack = Callable[[dict[str, Array], int], dict[str, Array]]
"""Artifact outputs and the number of rows to contract outputs."""


def with_batch_axis(tensor: TensorSpec) -> TensorSpec:
    """Return a tensor with a batch axis in front."""
    return TensorSpec(tensor.name, tensor.type, (-1, *tensor.shape), tensor.columns)


def without_batch_axis(pack: Pack) -> Pack:
    """Return a function that takes the batch axis off what `pack` gives."""

    def whole(inputs: dict[str, Array]) -> dict[str, Array]:
        return {name: array.reshape(array.shape[1:]) for name, array in pack(inputs).items()}

    return whole


def as_one_row(unpack: Unpack) -> Unpack:
    """Return a function that puts a batch axis on what `unpack` takes."""

    def one_row(raw: dict[str, Array], rows: int) -> dict[str, Array]:
        return unpack({name: np.asarray(array)[np.newaxis] for name, array in raw.items()}, rows)

    return one_row
