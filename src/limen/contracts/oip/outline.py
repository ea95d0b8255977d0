"""A binary request without its tensor data.

Callers who send tensors as raw bytes send the same names, shapes and parameters again and again around different numbers. A
gateway that has read such a request once keeps its outline, under the bytes it was read from, and reads the next one by laying
the same tensors over the new bytes. Used by both gateways; what may serve as the key is theirs to decide.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
import numpy as np

from limen.contracts.inference import InferenceRequest, Parameter, RequestedOutput

MAX_OUTLINES: Final = 1024
"""How many a gateway keeps; when full it starts again, because the callers of the moment fill it in no time."""


class Outline(msgspec.Struct, frozen=True, gc=False):
    """The fixed part of a request whose inputs all travel as raw numbers, one after another."""

    model_name: str
    model_version: str
    tensors: tuple[tuple[str, tuple[int, ...], np.dtype[Any], int], ...]
    """Name, shape, dtype and offset of each input."""
    size: int
    """Bytes of all inputs together."""
    parameters: Mapping[str, Parameter]
    outputs: tuple[RequestedOutput, ...]

    @classmethod
    def of(cls, request: InferenceRequest, size: int) -> Outline | None:
        """Return the outline of a decoded request, or None when it has none.

        Args:
            request: the request, with inputs in the order of their bytes.
            size: how many bytes the inputs were read from.
        """
        if request.id or any(array.dtype.kind in "Ob" for array in request.inputs.values()):
            return None  # ids differ every time; text and truth values are checked byte by byte
        tensors, offset = [], 0
        for name, array in request.inputs.items():
            tensors.append((name, array.shape, array.dtype, offset))
            offset += array.nbytes
        if offset != size or not size:
            return None
        return cls(request.model_name, request.model_version, tuple(tensors), size, request.parameters, request.outputs)

    def read(self, data: bytes, start: int) -> InferenceRequest:
        """Return the request whose inputs are the `size` bytes of `data` from `start`; they share memory with `data`."""
        inputs = {name: np.ndarray(shape, dtype, data, start + at) for name, shape, dtype, at in self.tensors}
        return InferenceRequest(self.model_name, inputs, self.model_version, "", self.parameters, self.outputs)
