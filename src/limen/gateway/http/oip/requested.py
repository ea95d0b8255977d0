"""Checks an infer body's output requests and parameters. Called by `gateway.http.oip.tensors`."""

from __future__ import annotations

from collections.abc import Mapping

from limen.contracts.errors import InvalidArgument, Reason
from limen.contracts.inference import Parameter, RequestedOutput
from limen.contracts.oip.content_types import is_base64_content


def no_shared_memory(path: str) -> InvalidArgument:
    """Return the error for a tensor that is said to lie in shared memory."""
    where = f"{path}.parameters.shared_memory_region"
    return InvalidArgument.at(where, "shared memory is not supported", Reason.UNSUPPORTED)


def requested_output(name: str, parameters: Mapping[str, Parameter], path: str) -> RequestedOutput:
    """Return a requested output after checking its parameters."""
    binary: bool | None = None
    classification = 0
    for key, value in parameters.items():
        where = f"{path}.parameters.{key}"
        if key == "binary_data":
            if not isinstance(value, bool):
                raise InvalidArgument.at(where, "must be true or false", Reason.INVALID_PARAMETER)
            binary = value
        elif key == "content_type":
            is_base64_content(value, path)  # an answer's content is what its datatype says
        elif key == "classification":
            # 3.0 is a whole number in JSON Schema too, which the OpenAPI document says it in.
            if isinstance(value, (bool, str)) or not 0 < value < 1 << 31 or value % 1:
                raise InvalidArgument.at(where, "must be a whole number from 1", Reason.INVALID_PARAMETER)
            classification = int(value)
        elif key.startswith("shared_memory"):
            raise no_shared_memory(path)
        else:
            raise InvalidArgument.at(f"{path}.parameters", "has an unknown parameter", Reason.INVALID_PARAMETER)
    return RequestedOutput(name, binary, classification)
