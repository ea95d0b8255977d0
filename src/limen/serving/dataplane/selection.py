"""Which outputs a caller asked for: judged before the model is asked, chosen after it has answered. Called by `visit` and `finaliser`."""

from __future__ import annotations

from collections.abc import Mapping

from limen.contracts.contract import Field
from limen.contracts.errors import InvalidArgument, Reason
from limen.contracts.inference import InferenceRequest
from limen.contracts.oip.classification import classify
from limen.contracts.tensors import Array
from limen.runtime.versions.handle import VersionHandle

MAX_REQUESTED_OUTPUTS = 64


def check_requested(handle: VersionHandle, request: InferenceRequest, *, is_wire: bool) -> None:
    """Refuse outputs that do not exist, twice the same one, and too many, before the model is asked."""
    requested = request.outputs
    if len(requested) > MAX_REQUESTED_OUTPUTS:
        raise InvalidArgument(f"at most {MAX_REQUESTED_OUTPUTS} outputs may be requested", reason=Reason.OUTPUT_SET)
    fields = _fields(handle, is_wire=is_wire)
    seen: set[str] = set()
    for i, wanted in enumerate(requested):
        if wanted.name not in fields:
            raise InvalidArgument.at(f"outputs[{i}].name", "is not an output of this model", Reason.OUTPUT_SET)
        if wanted.name in seen:
            raise InvalidArgument.at(f"outputs[{i}].name", "is requested twice", Reason.OUTPUT_SET)
        if wanted.classification < 0:
            raise InvalidArgument.at(
                f"outputs[{i}].parameters.classification", "must be 1 or more", Reason.INVALID_PARAMETER
            )
        seen.add(wanted.name)


def wanted_outputs(
    handle: VersionHandle, request: InferenceRequest, outputs: Mapping[str, Array], *, is_wire: bool
) -> dict[str, Array]:
    """Return the requested outputs, all when none are named, in the order, names and shapes that the caller knows."""
    chosen: dict[str, Array] = {}
    fields = _fields(handle, is_wire=is_wire)
    for wanted in request.outputs:
        field = fields[wanted.name]
        array = outputs[field.name]
        chosen[wanted.name] = classify(array, wanted.classification, field) if wanted.classification else array
    if not request.outputs:
        chosen = {name: outputs[field.name] for name, field in fields.items()}
    return handle.wire.shaped(chosen) if handle.wire is not None and is_wire else chosen


def _fields(handle: VersionHandle, *, is_wire: bool) -> Mapping[str, Field]:
    """Return the outputs under the names that the caller knows."""
    return handle.wire.outputs if handle.wire is not None and is_wire else handle.check.outputs
