"""Request parameters: those of the protocol, and those passed to the model.

Source: Triton's parameters, schedule-policy and sequence extensions. Reserved keys never reach a model; keys that start with
`triton_` belong to the server.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import msgspec

from limen.contracts.errors import InvalidArgument, Reason
from limen.contracts.inference import Deadline, Parameter

SEQUENCE: Final = frozenset({"sequence_id", "sequence_start", "sequence_end"})
RESERVED: Final = SEQUENCE | {"priority", "timeout", "headers", "binary_data_output"}
MAX_PARAMETERS: Final = 64
_UINT64_MAX: Final = (1 << 64) - 1
NONE: Final[dict[str, Parameter]] = {}


class Options(msgspec.Struct, frozen=True, gc=False):
    """What a request's parameters ask of the server rather than of the model."""

    timeout_s: float = math.inf
    """The request's own time limit, beside the one the transport gave."""
    priority: int = 0
    """Its place in the queue: 1 is the highest, larger is lower, 0 the default."""
    is_binary: bool = False
    """Outputs of which nothing else is asked are given as raw bytes."""

    def tighten(self, deadline: Deadline) -> Deadline:
        """Return the sooner of a deadline and the one that begins now."""
        if self.timeout_s == math.inf:
            return deadline
        asked = Deadline.after(self.timeout_s)
        return asked if asked.at < deadline.at else deadline


PLAIN: Final = Options()
RAW: Final = Options(is_binary=True)


def read_parameters(
    parameters: Mapping[str, Parameter], *, may_be_binary: bool = False
) -> tuple[Mapping[str, Parameter], Options]:
    """Return the parameters for the model and, apart from them, what the reserved ones ask for.

    Args:
        parameters: all parameters of the request.
        may_be_binary: answers in raw bytes are offered.

    Raises:
        InvalidArgument: a reserved key that is not offered or has the wrong type, or too many parameters.
    """
    if not parameters:
        return NONE, PLAIN
    if len(parameters) > MAX_PARAMETERS:
        raise InvalidArgument(f"at most {MAX_PARAMETERS} parameters are allowed", reason=Reason.INVALID_PARAMETER)
    passed: dict[str, Parameter] = {}
    timeout_s, priority, is_binary = math.inf, 0, False
    for key, value in parameters.items():
        if key == "timeout":
            timeout_s = _whole(value, key) / 1e6 or math.inf
        elif key == "priority":
            priority = _whole(value, key)
        elif key == "binary_data_output" and may_be_binary:
            is_binary = _flag(value, key)
        elif key in SEQUENCE:
            text = "sequences are not supported by this server"
            raise InvalidArgument.at(f"parameters.{key}", text, Reason.UNSUPPORTED)
        elif key in RESERVED or key.startswith("triton_"):
            path = f"parameters.{key}" if key in RESERVED else "parameters.triton_*"
            raise InvalidArgument.at(path, "is reserved by the protocol", Reason.INVALID_PARAMETER)
        else:
            passed[key] = value
    return passed, Options(timeout_s, priority, is_binary)


def _whole(value: Parameter, key: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _UINT64_MAX:
        raise InvalidArgument.at(f"parameters.{key}", "must be a whole number from 0", Reason.INVALID_PARAMETER)
    return value


def _flag(value: Parameter, key: str) -> bool:
    if not isinstance(value, bool):
        raise InvalidArgument.at(f"parameters.{key}", "must be true or false", Reason.INVALID_PARAMETER)
    return value
