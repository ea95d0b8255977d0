"""Tensors under the names and shapes that OIP callers use, where they differ from Limen's own.

Inside Limen a tensor goes by its field's name and has the batch as its first axis. On the wire it may have another name (`wire`), and
the tensors of a model without a batch axis have none. Compiled once for a version that differs in either; used by
`serving.dataplane.plane`, where the version of a request is known. Records and typed messages name fields, so they never come here.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np

from limen.contracts.contract import Contract, Field
from limen.contracts.inference import InferenceRequest
from limen.contracts.tensors import Array
from limen.contracts.validation.tensors import ContractCheck


class WireForm:
    """The difference between the wire and the inside for one contract. Immutable; shared by all requests."""

    __slots__ = ("_check", "_inputs", "_is_batched", "_known", "outputs")

    def __init__(self, contract: Contract, check: ContractCheck) -> None:
        """Compile the contract as the wire has it; `check` is the one that requests inside Limen are known by."""
        on_wire = msgspec.structs.replace(
            contract, inputs=tuple(msgspec.structs.replace(f, name=f.wire_name) for f in contract.inputs), outputs=()
        )
        self._known = check
        # Its errors speak of the names and shapes that the caller sent.
        self._check = ContractCheck(on_wire)
        self._inputs = {f.wire_name: f.name for f in contract.inputs}
        self._is_batched = contract.batching.is_batched
        self.outputs: Mapping[str, Field] = {f.wire_name: f for f in contract.outputs}
        """The outputs by their names on the wire."""

    def enter(self, request: InferenceRequest) -> None:
        """Hold a request's tensors against the contract and turn them into those that Limen keeps.

        Raises:
            InvalidArgument: as `ContractCheck.check_inputs`.
        """
        tensors = request.inputs
        if not self._is_batched:
            tensors = {name: array[np.newaxis] for name, array in tensors.items()}
        request.rows = self._check.check_inputs(tensors, is_finite=request.is_finite)
        request.inputs = {self._inputs[name]: array for name, array in tensors.items()}
        request.checked = self._known

    def shaped(self, outputs: dict[str, Array]) -> dict[str, Array]:
        """Return outputs in the shapes that the wire has."""
        if self._is_batched:
            return outputs
        return {name: array.reshape(array.shape[1:]) for name, array in outputs.items()}


def wire_form(contract: Contract, check: ContractCheck) -> WireForm | None:
    """Return what a contract's tensors are on the wire; None when that is what they are inside."""
    is_plain = contract.batching.is_batched and not any(
        f.wire_name != f.name for f in (*contract.inputs, *contract.outputs)
    )
    return None if is_plain else WireForm(contract, check)
