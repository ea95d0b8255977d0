"""Request parameters on gRPC: five kinds of value, and the protocol's reserved keys.

Source: Open Inference Protocol ("InferParameter"), Triton's parameters, schedule policy and sequence extensions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import msgspec

from limen.contracts.errors import InvalidArgument, Reason
from limen.contracts.inference import Parameter
from limen.contracts.oip.content_types import is_base64_content
from limen.gateway.grpc._generated import open_inference_pb2 as pb

MAX_PARAMETERS: Final = 64
EMPTY_FINAL: Final = "triton_enable_empty_final_response"
FINAL: Final = "triton_final_response"
RESERVED: Final = frozenset({"headers", FINAL})
"""Set by servers only."""


class Options(msgspec.Struct, frozen=True):
    """What a request asks of this gateway rather than of the model."""

    is_typed: bool = False
    """Values came as typed contents, so the answer goes back that way."""
    timeout_s: float = math.inf
    """The request's own time limit, beside the call's deadline."""
    priority: int = 0
    """The request's place in the queue: 1 is the highest, larger is lower, 0 the default."""
    wants_empty_final: bool = False
    """On a stream: send a last message even if it holds nothing."""


RAW: Final = Options()
TYPED: Final = Options(is_typed=True)


def read_parameters(
    parameters: Mapping[str, pb.InferParameter], *, is_typed: bool
) -> tuple[dict[str, Parameter], Options]:
    """Return the parameters for the model and, apart from them, what the reserved ones ask for.

    Raises:
        InvalidArgument: a reserved key that callers may not set, a wrong kind of value, or too many parameters.
    """
    if len(parameters) > MAX_PARAMETERS:
        raise InvalidArgument.at("parameters", f"at most {MAX_PARAMETERS} are allowed", Reason.INVALID_PARAMETER)
    passed: dict[str, Parameter] = {}
    timeout_s = math.inf
    priority = 0
    wants_empty_final = False
    for key in parameters:
        value = _value(parameters[key])
        if key == "timeout":
            timeout_s = _whole(value, key) / 1e6 or math.inf
        elif key == EMPTY_FINAL:
            wants_empty_final = _flag(value, key)
        elif key == "priority":
            priority = _whole(value, key)
        elif key == "binary_data_output":
            _flag(
                value, key
            )  # REST's wish for raw answers, which clients copy over; here the answer mirrors the request
        elif key in ("sequence_id", "sequence_start", "sequence_end"):
            _check_no_sequence(value, key)
        elif key in RESERVED or key.startswith("triton_"):
            raise InvalidArgument.at(
                "parameters", "'headers' and keys with 'triton_' are reserved", Reason.INVALID_PARAMETER
            )
        else:
            passed[key] = value
    return passed, Options(is_typed, timeout_s, priority, wants_empty_final)


def classification_of(parameters: Mapping[str, pb.InferParameter], path: str) -> int:
    """Return how many classes a requested output asks for; 0 when it asks for the values themselves."""
    refuse_shared_memory(parameters, path)
    if "classification" not in parameters:
        return 0
    count = _value(parameters["classification"])
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        text = "must be a whole number from 1"
        raise InvalidArgument.at(f"{path}.parameters.classification", text, Reason.INVALID_PARAMETER)
    return count


def reads_base64(parameters: Mapping[str, pb.InferParameter], path: str) -> bool:
    """Return whether an input's elements are Base64 text, after looking at its parameters; unknown ones mean nothing here."""
    refuse_shared_memory(parameters, path)
    return "content_type" in parameters and is_base64_content(_value(parameters["content_type"]), path)


def refuse_shared_memory(parameters: Mapping[str, pb.InferParameter], path: str) -> None:
    """Raise when a tensor is to be read from or written to shared memory, which this server does not offer."""
    if any(key.startswith("shared_memory_") for key in parameters):
        raise InvalidArgument.at(f"{path}.parameters", "shared memory is not supported", Reason.UNSUPPORTED)


def _value(parameter: pb.InferParameter) -> Parameter:
    kind = parameter.WhichOneof("parameter_choice")
    if kind is None:
        raise InvalidArgument.at("parameters", "every parameter needs a value", Reason.INVALID_PARAMETER)
    value: Parameter = getattr(parameter, kind)
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidArgument.at("parameters", "numbers must be finite", Reason.INVALID_PARAMETER)
    return value


def _flag(value: Parameter, key: str) -> bool:
    if not isinstance(value, bool):
        raise InvalidArgument.at(f"parameters.{key}", "must be a bool_param", Reason.INVALID_PARAMETER)
    return value


def _whole(value: Parameter, key: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        text = "must be an int64_param or uint64_param of 0 or greater"
        raise InvalidArgument.at(f"parameters.{key}", text, Reason.INVALID_PARAMETER)
    return value


def _check_no_sequence(value: Parameter, key: str) -> None:
    """Let through what means "no sequence" (0, an empty string, false) and refuse the rest."""
    if key != "sequence_id":
        _flag(value, key)
    elif not isinstance(value, str):
        _whole(value, key)
    if value:
        raise InvalidArgument.at(f"parameters.{key}", "sequences are not supported", Reason.UNSUPPORTED)
