"""The declared answer for when the model gives none: a constant, or another version.

Compiled when a version is loaded; used by `serving.dataplane.plane` when a prediction failed. Such an answer always says so.
"""

from __future__ import annotations

import msgspec
import numpy as np

from limen.contracts.inference import InferenceRequest, InferenceResponse
from limen.contracts.tensors import Array
from limen.contracts.validation.records import RecordCodec
from limen.packaging.manifest.values import Manifest

MARK = "limen_fallback"
"""The response parameter that marks the answer; its value is `constant` or `version`."""


class CompiledFallback:
    """What a version's manifest declares."""

    __slots__ = ("_row", "version")

    def __init__(self, row: dict[str, Array] | None, version: str) -> None:
        """Take one row of outputs, or the number of another version."""
        self._row = row
        self.version = version

    def answer(self, request: InferenceRequest, version: str) -> InferenceResponse | None:
        """Return the constant answer for every row of a request; None when another version is to be asked."""
        if self._row is None:
            return None
        outputs = {name: np.repeat(array, request.rows, axis=0) for name, array in self._row.items()}
        return InferenceResponse(request.model_name, version, outputs, request.id, {MARK: "constant"})


def compile_fallback(manifest: Manifest) -> CompiledFallback | None:
    """Return the fallback of a manifest, or None when it declares none."""
    declared = manifest.fallback
    if declared is None:
        return None
    if declared.outputs is None:
        return CompiledFallback(None, declared.version)
    # A record of outputs is read as a record of inputs is: by a contract whose inputs are these outputs.
    outputs = msgspec.structs.replace(manifest.contract, inputs=manifest.contract.outputs)
    return CompiledFallback(RecordCodec(outputs).tensors([declared.outputs]), "")
