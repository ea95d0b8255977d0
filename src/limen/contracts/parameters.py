"""Request parameters: which are the protocol's own and which go to the model.

Source: Triton's parameters, schedule-policy and sequence extensions. Reserved keys never reach a model; keys that start with
`triton_` belong to the server.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from limen.contracts.errors import InvalidArgument, Reason
from limen.contracts.inference import Deadline, Parameter

SEQUENCE: Final = frozenset({"sequence_id", "sequence_start", "sequence_end"})
RESERVED: Final = SEQUENCE | {"priority", "timeout", "headers", "binary_data_output"}
MAX_PARAMETERS: Final = 64
_UINT64_MAX: Final = (1 << 64) - 1
NONE: Final[dict[str, Parameter]] = {}


def model_parameters(
    parameters: Mapping[str, Parameter], deadline: Deadline, *, allowed: Collection[str] = ()
) -> tuple[Mapping[str, Parameter], Deadline]:
    """Return the parameters for the model, and the deadline tightened by `timeout` (microseconds).

    Args:
        parameters: all parameters of the request.
        deadline: the deadline the transport gave.
        allowed: reserved keys that the gateway has already understood.

    Raises:
        InvalidArgument: a reserved key that is not offered or has the wrong type.
    """
    if len(parameters) > MAX_PARAMETERS:
        raise InvalidArgument(f"at most {MAX_PARAMETERS} parameters are allowed", reason=Reason.INVALID_PARAMETER)
    rest: dict[str, Parameter] = {}
    for key, value in parameters.items():
        if key in allowed:
            continue
        if key in RESERVED or key.startswith("triton_"):
            deadline = _reserved(key, value, deadline)
        else:
            rest[key] = value
    return rest, deadline


def priority_of(parameters: Mapping[str, Parameter]) -> int:
    """Return the request's `priority`, 0 when it names none; whether it is one is judged by `model_parameters`."""
    value = parameters.get("priority", 0)
    return value if type(value) is int else 0


def _reserved(key: str, value: Parameter, deadline: Deadline) -> Deadline:
    path = f"parameters.{key}" if key in RESERVED else "parameters.triton_*"
    if key in ("priority", "timeout"):
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _UINT64_MAX:
            raise InvalidArgument.at(path, "must be a whole number from 0", Reason.INVALID_PARAMETER)
        if key == "timeout" and value:
            asked = Deadline.after(value / 1e6)
            return asked if asked.at < deadline.at else deadline
        return deadline
    if key in SEQUENCE:
        raise InvalidArgument.at(path, "sequences are not offered by this server", Reason.UNSUPPORTED)
    raise InvalidArgument.at(path, "is reserved by the protocol", Reason.INVALID_PARAMETER)
