"""Reads the message and the deadline of every gRPC call."""

from __future__ import annotations

import math
from typing import Final, TypeVar

from google.protobuf.message import DecodeError, Message

from limen.contracts.errors import InvalidArgument, Reason
from limen.contracts.inference import NO_DEADLINE, Deadline
from limen.gateway.grpc.status import Context

M = TypeVar("M", bound=Message)

NEVER_S: Final = 1e12
"""Engines report a call without deadline as a huge number of seconds; the longest the protocol can say is shorter."""


def parse(kind: type[M], data: bytes) -> M:
    """Return the message that `data` holds.

    Raises:
        InvalidArgument: it is not one.
    """
    try:
        return kind.FromString(data)
    except DecodeError:
        name = kind.DESCRIPTOR.name
        raise InvalidArgument(f"the message is not a valid {name}", reason=Reason.BAD_MESSAGE) from None


def deadline_of(context: Context, timeout_s: float = math.inf) -> Deadline:
    """Return the earlier of the call's deadline and the request's own time limit, at most an hour away."""
    remaining: float | None = context.time_remaining()
    seconds = timeout_s if remaining is None else min(remaining, timeout_s)
    return NO_DEADLINE if seconds > NEVER_S else Deadline.after(seconds)
