"""Which outputs a caller asked for: judged before the model is asked, chosen after it has answered. Called by `serving.dataplane`."""

from __future__ import annotations

from limen.contracts.classification import classify
from limen.contracts.errors import InvalidArgument, Reason
from limen.contracts.inference import RequestedOutput
from limen.contracts.tensors import Array
from limen.runtime.handle import VersionHandle

MAX_REQUESTED_OUTPUTS = 64


def check_requested(handle: VersionHandle, requested: tuple[RequestedOutput, ...]) -> None:
    """Refuse outputs that do not exist, twice the same one, and too many, before the model is asked."""
    if len(requested) > MAX_REQUESTED_OUTPUTS:
        raise InvalidArgument(f"at most {MAX_REQUESTED_OUTPUTS} outputs may be requested", reason=Reason.OUTPUT_SET)
    seen: set[str] = set()
    for i, wanted in enumerate(requested):
        if wanted.name not in handle.check.outputs:
            raise InvalidArgument.at(f"outputs[{i}].name", "is not an output of this model", Reason.OUTPUT_SET)
        if wanted.name in seen:
            raise InvalidArgument.at(f"outputs[{i}].name", "is requested twice", Reason.OUTPUT_SET)
        if wanted.classification < 0:
            raise InvalidArgument.at(
                f"outputs[{i}].parameters.classification", "must be 1 or more", Reason.INVALID_PARAMETER
            )
        seen.add(wanted.name)


def select_outputs(
    handle: VersionHandle, outputs: dict[str, Array], requested: tuple[RequestedOutput, ...]
) -> dict[str, Array]:
    """Return the requested outputs in the order asked for, classified where asked."""
    chosen: dict[str, Array] = {}
    for wanted in requested:
        array = outputs[wanted.name]
        if wanted.classification:
            array = classify(array, wanted.classification, handle.check.outputs[wanted.name])
        chosen[wanted.name] = array
    return chosen
